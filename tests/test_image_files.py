"""Image files are read as a viewer shows them: format × bits × colours × orientation, against what was written.

The reference is what the test wrote: PNG by the few lines below, TIFF by ``tifffile``, the others by Pillow; orientations as EXIF
defines them, by the sides of the picture at which the first row and the first column of the file lie.
"""

import io
import struct
import zlib
from base64 import b85decode
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from rastrum.config import DataOptions
from rastrum.data.dataset import load_dataset
from rastrum.data.reading import PIXELS, UnreadableImage, open_image, read_image

HEIGHT, WIDTH = 5, 7
ORIENTATIONS = range(1, 9)
SIDES = {1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
         5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom")}    # fmt: skip
# 4x4 pixels of level 900 of 1,023, by libavif
AVIF_10 = (
    "0000WW^{RQVRmU|00000VRmU|ZE0pPZE0a<O+hh10002%ZDn*}000000000XXk=`10000000000aA{+7000000000000000000004sdC7Z2$lO000310016oY;R)#0000)0"
    "00310RR910RR926951JAOHXWC~0YKW&i*H00031000_kZf0cy000000RRADb}%tRZ)|UJ00000YH4tCZ~y=ROKEUpZvX%Q6lrsCWdHyG000001ONa41ONa45O8UDX#fBK00Rm"
    "N3IG5A3}JRLLxCVb000006Ju{|a&BX6cmM(b0ssbp0000NX>e^}0000000001009I60)qqq001a$WMOm?015~=1bwUs2pT{#5*LDF1j7t4&maH*kUc)LSB*3"
)
COLOURS = {"grey": 1, "grey+alpha": 2, "colour": 3, "colour+alpha": 4, "cmyk": 4, "palette": 1, "palette+alpha": 1}


def stored(shown: np.ndarray, orientation: int) -> np.ndarray:
    """The rows and columns of a file that a viewer shows as ``shown`` (H, W, C)."""
    first_row, first_column = SIDES[orientation]
    if first_row in ("left", "right"):
        shown = shown.transpose(1, 0, 2)
    flips = [axis for axis, side in enumerate((first_row, first_column)) if side in ("bottom", "right")]
    return np.flip(shown, tuple(flips))


def exif(orientation: int) -> bytes:
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHHI", 274, 3, 1, orientation, 0, 0)


def png(pixels: np.ndarray, bits: int, kind: int, orientation: int = 1, more: bytes = b"") -> bytes:
    """Samples (H, W, C) as PNG of a colour type, with chunks ``more`` before the pixels."""
    rows = np.packbits(pixels[..., 0], 1) if bits == 1 else pixels.astype(">u2" if bits == 16 else np.uint8)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, kind, 0, 0, 0)
    turned = chunk(b"eXIf", exif(orientation)) if orientation != 1 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + turned + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(pixels: np.ndarray, colours: str, orientation: int, **more: object) -> bytes:
    file = io.BytesIO()
    kind = {"grey": "minisblack", "cmyk": "separated", "palette": "palette"}.get(colours.split("+")[0], "rgb")
    extra = {"extrasamples": ["unassalpha"]} if colours.endswith("+alpha") else {}
    kind = more.pop("photometric_is", kind)
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    tifffile.imwrite(file, flat, photometric=kind, extratags=[(274, "H", 1, orientation, True)], **extra | more)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def pillow(pixels: np.ndarray, kind: str, mode: str, orientation: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes()).save(file, kind, exif=b"Exif\0\0" + exif(orientation), **options)
    return file.getvalue()


def samples(bits: int, channels: int, smooth: bool = False) -> np.ndarray:
    """(H, W, channels), random, or such as survive a lossy format."""
    if smooth:
        row, column, c = np.indices((HEIGHT, WIDTH, channels))
        return (30 + 20 * row + 10 * column + 15 * c).astype(np.uint8)
    values = np.random.default_rng(bits + channels).integers(0, 2**bits, (HEIGHT, WIDTH, channels))
    return values.astype(bool if bits == 1 else np.uint8 if bits == 8 else np.uint16)


def visible(values: np.ndarray, colours: str, top: int, background: int = 1) -> np.ndarray:
    """What a viewer shows of samples (H, W, C), in float64."""
    x = values.astype(np.float64) / top
    if colours == "cmyk":
        return top * (1 - x[..., :3]) * (1 - x[..., 3:])
    return top * (x[..., :-1] * x[..., -1:] + background * (1 - x[..., -1:])) if colours.endswith("+alpha") else top * x


def read(content: bytes, **options: object) -> tuple[np.ndarray, int]:
    return read_image("it", lambda: open_image(io.BytesIO(content)), DataOptions(**options))  # pyright: ignore[reportArgumentType]


PNG_KINDS = {"grey": 0, "colour": 2, "grey+alpha": 4, "colour+alpha": 6}
TABLE = [
    *(("png", bits, colours) for bits in (8, 16) for colours in PNG_KINDS),
    ("png", 1, "grey"), ("png", 8, "palette"), ("png", 8, "palette+alpha"),
    *(("tiff", bits, colours) for bits in (8, 16) for colours in ("grey", "colour", "colour+alpha", "cmyk")),
    ("bmp", 8, "colour"), ("gif", 8, "palette"),
    ("tiff", 1, "grey"), ("tiff", 8, "grey+alpha"), ("tiff", 8, "palette"),
    *(("tiff deflate", bits, colours) for bits in (8, 16) for colours in ("grey", "colour", "colour+alpha")),
    *(("tiff planes", bits, "colour") for bits in (8, 16)), *(("tiff big-endian", 16, colours) for colours in ("grey", "colour")),
    *(("jpeg", 8, colours) for colours in ("grey", "colour", "cmyk")),
    *(("webp", 8, colours) for colours in ("colour", "colour+alpha")), *(("avif", 8, colours) for colours in ("colour", "colour+alpha")),
]  # fmt: skip
TOLERANCE = {"jpeg": 3, "avif": 3}     # levels that a lossy format may change


UPRIGHT = ("bmp", "gif")               # formats without an orientation


def written(kind: str, bits: int, colours: str, orientation: int) -> tuple[bytes, np.ndarray]:
    """A file, and the picture in it as a viewer shows it, float64 (H, W, C)."""
    top, smooth = 2**bits - 1, kind in TOLERANCE
    shown = samples(bits, COLOURS[colours], smooth)
    pixels = np.ascontiguousarray(stored(shown, orientation))
    kind, *how = kind.split()
    if colours.startswith("palette"):
        palette = np.random.default_rng(7).integers(0, 256, (256, 4)).astype(np.uint8)
        if kind == "tiff":
            return tiff(pixels, colours, orientation, colormap=palette[:, :3].T.astype(np.uint16) * 257), (
                palette[shown[..., 0], :3].astype(np.float64)
            )
        if kind == "gif":
            image, file = Image.fromarray(pixels[..., 0]), io.BytesIO()
            image.putpalette(palette[:, :3].tobytes())
            image.save(file, "GIF")
            return file.getvalue(), palette[shown[..., 0], :3].astype(np.float64)
        alpha = chunk(b"tRNS", palette[:, 3].tobytes()) if colours.endswith("+alpha") else b""
        looked_up = palette[shown[..., 0]] if alpha else palette[shown[..., 0], :3]
        return png(pixels, 8, 3, orientation, chunk(b"PLTE", palette[:, :3].tobytes()) + alpha), visible(looked_up, colours, 255)
    if kind == "png":
        return png(pixels, bits, PNG_KINDS[colours], orientation), visible(shown, colours, top)
    if kind == "tiff":
        options = {"deflate": {"compression": "zlib", "predictor": bits > 1}, "big-endian": {"byteorder": ">"}, "planes": {}}
        more = options[how[0]] if how else {}
        if how == ["planes"]:
            pixels, more = np.ascontiguousarray(pixels.transpose(2, 0, 1)), {"planarconfig": "separate"}
        return tiff(pixels, colours, orientation, **more), visible(shown, colours, top)
    mode = {"grey": "L", "colour": "RGB", "colour+alpha": "RGBA", "cmyk": "CMYK"}[colours]
    best = {"quality": 100, "subsampling": 0} if mode != "L" else {"quality": 100}
    options = {"jpeg": best, "webp": {"lossless": True, "exact": True},
               "avif": {"quality": 100, "subsampling": "4:4:4"}, "bmp": {}}[kind]    # fmt: skip
    return pillow(pixels, kind.upper(), mode, orientation, **options), visible(shown, colours, top)


@pytest.mark.parametrize(("kind", "bits", "colours"), TABLE)
def test_a_file_is_read_as_a_viewer_shows_it(kind: str, bits: int, colours: str) -> None:
    for orientation in (1,) if kind in UPRIGHT else ORIENTATIONS:
        content, shown = written(kind, bits, colours, orientation)
        found, levels = read(content)
        assert levels == 2**bits and found.dtype == (np.uint16 if bits == 16 else bool if bits == 1 else np.uint8)
        error = np.abs(found.transpose(1, 2, 0) - shown).max()
        assert error <= 0.5000001 + TOLERANCE.get(kind, 1 if colours == "cmyk" else 0), (orientation, error)


def test_one_colour_may_be_transparent_in_png() -> None:
    """tRNS of grey and colour, 1, 8 and 16 bits, over white or black."""
    for bits, kind in ((1, 0), (8, 0), (8, 2), (16, 0), (16, 2)):
        pixels, top = samples(bits, 1 if kind == 0 else 3), 2**bits - 1
        key = pixels[2, 3]
        content = png(pixels, bits, kind, 1, chunk(b"tRNS", key.astype(">u2").tobytes()))
        for background, level in (("white", top), ("black", 0)):
            found, levels = read(content, background=background)
            expected = np.where((pixels == key).all(2, keepdims=True), level, pixels)
            assert levels == 2**bits and np.array_equal(found.transpose(1, 2, 0), expected)


def test_alpha_is_laid_on_the_background_that_is_asked_for() -> None:
    for bits in (8, 16):
        for colours in ("grey+alpha", "colour+alpha"):
            pixels = samples(bits, COLOURS[colours])
            for background, level in (("white", 1), ("black", 0)):
                found, _ = read(png(pixels, bits, PNG_KINDS[colours]), background=background)
                assert np.abs(found.transpose(1, 2, 0) - visible(pixels, colours, 2**bits - 1, level)).max() < 0.5001


def test_rarer_tiffs() -> None:
    """Alpha that is multiplied in already, 16-bit grey whose 0 is white, 12 bits, extra samples, tiles, previews."""
    for bits in (8, 16):
        top, pixels = 2**bits - 1, samples(bits, 4)
        pixels[..., :3] = np.minimum(pixels[..., :3], pixels[..., 3:])
        found, _ = read(tiff(pixels, "colour", 1, extrasamples=["assocalpha"]))
        assert np.array_equal(found.transpose(1, 2, 0), pixels[..., :3] + (top - pixels[..., 3:]))
        found, _ = read(tiff(pixels, "colour", 1, extrasamples=["unspecified"]))
        assert np.array_equal(found.transpose(1, 2, 0), pixels[..., :3])
        found, _ = read(tiff(samples(bits, 1), "grey", 3, photometric_is="miniswhite"))
        assert np.array_equal(found[0], (top - samples(bits, 1)[::-1, ::-1, 0]))
        large = np.random.default_rng(0).integers(0, top + 1, (40, 50, 3)).astype(pixels.dtype)
        assert np.array_equal(read(tiff(large, "colour", 1, tile=(16, 16)))[0].transpose(1, 2, 0), large)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(large, photometric="rgb")
        writer.write(large[::2, ::2], photometric="rgb", subfiletype=1)
    assert np.array_equal(read(file.getvalue())[0].transpose(1, 2, 0), large)


def test_grey_tiff_of_12_bits_has_4096_levels() -> None:
    """Two values in three bytes, in a file made by hand."""
    pixels = np.random.default_rng(0).integers(0, 4096, (4, 6))
    data = b"".join((int(a) << 12 | int(b)).to_bytes(3, "big") for a, b in pixels.reshape(-1, 2))
    tags = {256: 6, 257: 4, 258: 12, 259: 1, 262: 1, 273: 8 + 2 + 9 * 12 + 4, 277: 1, 278: 4, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags.items())
    found, levels = read(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data)
    assert levels == 4096 and np.array_equal(found[0], pixels)


def test_of_the_pictures_of_an_mpo_the_first_is_shown() -> None:
    first, second = (Image.new("RGB", (16, 16), (level, level, level)) for level in (40, 200))
    found, _ = read(saved(first, "MPO", save_all=True, append_images=[second]))
    assert np.abs(found.astype(int) - 40).max() <= 1


def test_interlaced_png_of_16_bits() -> None:
    pixels = samples(16, 3)
    data = b""
    for row, column, down, across in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        data += b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels[row::down, column::across] if line.size)
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 1)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    assert np.array_equal(read(content)[0].transpose(1, 2, 0), pixels)


@pytest.mark.parametrize("kind", ["grey", "colour", "deep"])
def test_framed_images_are_of_what_is_not_black(kind: str) -> None:
    """Wherever a shape lies, and at the border, the square around it is resized; its aspect stays, and a black image stays black."""
    shape = np.random.RandomState(0).randint(1, 256, (4, 8, 3 if kind == "colour" else 1)).astype(np.uint16 if kind == "deep" else np.uint8)
    square = np.zeros((8, 8, shape.shape[2]), shape.dtype)
    square[2:6] = shape
    options = DataOptions(size=4, framed=True)
    expected = square.reshape(4, 2, 4, 2, -1).astype(float).mean((1, 3)).transpose(2, 0, 1)
    for row, column in ((0, 0), (5, 3), (11, 12), (9, 0)):
        image = np.zeros((15, 20, shape.shape[2]), shape.dtype)
        image[row : row + 4, column : column + 8] = shape
        got, levels = read_image("it", lambda image=image: image, options)
        assert levels == (65536 if kind == "deep" else 256) and np.abs(got - expected).max() <= 1           # 8 bits are rounded twice
    nothing, _ = read_image("it", lambda: np.zeros((15, 20, shape.shape[2]), shape.dtype), options)
    assert nothing.shape == expected.shape and not nothing.any()
    with pytest.raises(ValueError, match="framed images have the size of what they show; set size too"):
        load_dataset("digits", "test", DataOptions(framed=True))


def test_16_bits_are_resized_and_made_grey_in_16_bits() -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (8, 8, 3)).astype(np.uint16)
    means = pixels.reshape(4, 2, 4, 2, 3).astype(np.float64).mean((1, 3))
    found, levels = read(png(pixels, 16, 2), size=4)
    assert levels == 65536 and np.abs(found.transpose(1, 2, 0) - means).max() <= 0.5
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read(png(pixels, 16, 2), grey=True)[0][0] - luma).max() < 1.5


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def refused() -> dict[str, tuple[bytes, str]]:
    """Files that Pillow opens, and would change or show in part; and why they are refused."""
    grey, deep = samples(8, 1)[..., 0], samples(16, 1)[..., 0]
    frames = [Image.fromarray(grey), Image.fromarray(255 - grey)]
    several = {kind: saved(frames[0].convert("RGB"), kind, save_all=True, append_images=[frames[1].convert("RGB")])
               for kind in ("GIF", "PNG", "WEBP", "AVIF", "TIFF")}    # fmt: skip
    found = {f"{kind} of two": (content, "holds 2 pictures") for kind, content in several.items()}
    float_tiff, signed = (io.BytesIO(), io.BytesIO())
    tifffile.imwrite(float_tiff, grey.astype(np.float32))
    tifffile.imwrite(signed, grey.astype(np.int8))
    wide = io.BytesIO()
    tifffile.imwrite(wide, deep.astype(np.uint32))
    return found | {
        "AVIF of 10 bits": (b85decode(AVIF_10), "10 bits a sample in AVIF"),
        "JPEG 2000": (saved(Image.fromarray(deep), "JPEG2000"), "16 bits a sample in JPEG2000"),
        "SGI": (saved(Image.fromarray(samples(8, 3)), "SGI", bpc=2), "16 bits a sample in SGI"),
        "PPM": (b"P6 7 5 65535\n" + samples(16, 3).tobytes(), "more than 8 bits"),
        "float TIFF": (float_tiff.getvalue(), "signed or floats"),
        "signed TIFF": (signed.getvalue(), "signed or floats"),
        "32-bit TIFF": (wide.getvalue(), "more than 16 bits"),
        "PFM": (b"Pf\n7 5\n-1.0\n" + grey.astype(np.float32).tobytes(), "floats"),
        "half a PNG": (png(samples(16, 3), 16, 2)[:90], "not a whole image"),
        "nothing": (b"", "not a whole image"),
        "text": (b"hello", "not a whole image"),
    }


@pytest.mark.parametrize("kind", refused())
def test_what_cannot_be_shown_whole_is_refused_in_one_line(kind: str) -> None:
    content, says = refused()[kind]
    with pytest.raises(UnreadableImage, match=says) as error:
        read(content)
    assert "\n" not in str(error.value) and "data: it " in str(error.value)


def test_grey_ppm_of_16_bits_and_jpeg_2000_of_8() -> None:
    deep = samples(16, 1)
    found, levels = read(b"P5 7 5 65535\n" + deep.astype(">u2").tobytes())
    assert levels == 65536 and np.array_equal(found[0], deep[..., 0])
    assert np.array_equal(read(saved(Image.fromarray(samples(8, 3)), "JPEG2000"))[0].transpose(1, 2, 0), samples(8, 3))


def test_large_scans(tmp_path: Path) -> None:
    """More pixels than Pillow allows: a JPEG is reduced while it is read; what takes too much memory is refused before it is read."""
    side = int(PIXELS**0.5) + 200
    scan = Image.new("L", (side, side), 200)
    scan.paste(50, (0, 0, side // 2, side))
    scan.save(tmp_path / "scan.jpg")
    data = load_dataset(str(tmp_path / "scan.jpg"), "all", DataOptions(size=8))
    assert data.images[0, 0].float().sub(torch.tensor([50.0] * 4 + [200.0] * 4)).abs().max() <= 2
    head, small = (chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)) for size in ((side, side), (WIDTH, HEIGHT)))
    (tmp_path / "scan.png").write_bytes(png(samples(8, 3), 8, 2).replace(small, head))
    with pytest.raises(ValueError, match=r"more than 268 million; reduce it or cut it into parts first, or save it as JPEG"):
        load_dataset(str(tmp_path / "scan.png"), "all", DataOptions(size=8))
    with pytest.raises(ValueError, match=r"scan\.jpg .* more than 268 million; reduce it or cut it into parts first; replace"):
        load_dataset(str(tmp_path / "scan.jpg"), "all")
    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3         # the setting of others is as it was
