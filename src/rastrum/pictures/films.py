"""Animations as files: GIF, lossless WebP, and MP4 (H.264), chosen by the ending of a name; written whole or not at all.

Frames go into the file one after another, so that a long animation takes no more memory than a few frames and the file. What does not
change between two frames is stored once. GIF needs all colours before the first frame is written; meanwhile its frames are kept
compressed.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import GifImagePlugin, Image

from .formats import Picture, SizeError, check_ending, check_sides, write_picture

ANIMATIONS = (".gif", ".webp", ".mp4")
MIN_FPS, MAX_FPS = 0.1, 50     # viewers slow down a GIF that asks for more
MAX_HOLD = 600                 # seconds
LONGEST_FRAME = 655_350        # milliseconds that a GIF can show a frame (a WebP: 2^24)
TRANSPARENT = 255              # index of a GIF's palette for what stays as it was
EXACT_COLOURS = 16             # of a GIF, even where there are more than 255
COLOURS_AT_A_TIME = 1 << 16
CRF = 12                       # of H.264, 0 lossless … 51: near what an eye can tell from the original


def encode_animation(pictures: Iterable[Picture], fps: float = 8, hold: float = 2.0, ending: str = ".gif") -> bytes:
    """Pictures of one size as the bytes of an animation; a GIF or WebP loops.

    pictures: one per frame.
    fps: frames per second, 0.1 … 50; 8 by default.
    hold: seconds that the last picture stays, 0 … 600; 2 by default.
    ending: ".gif" (default): all frames share one palette, exact up to 255 colours; ".webp": lossless; ".mp4": H.264 in 4:2:0, which plays
        in browsers and presentations, one point larger where a side is odd.

    Raises ``ValueError`` for no pictures, pictures of different sizes or too large for the format, another rate, hold or ending,
    ``ImportError`` for ".mp4" without PyAV.
    """
    check_rate(fps, hold)
    if ending not in ANIMATIONS:
        raise ValueError(f"animation: expected a name that ends in {' or '.join(ANIMATIONS)}, got {ending!r}")
    frames = rgb_frames(pictures, ending)
    if ending == ".mp4":
        return _mp4(frames, fps, hold)
    step = max(20, round(100 / fps) * 10)
    timed = _timed(frames, step, max(step, round(100 * hold) * 10))
    return _gif(timed) if ending == ".gif" else _webp(timed)


def save_animation(pictures: Iterable[Picture], path: str | Path, fps: float = 8, hold: float = 2.0) -> None:
    """Writes an animation as ``encode_animation`` makes it.

    pictures: one per frame, of one size.
    path: ends in .gif, .webp or .mp4, else ``ValueError``.
    fps: frames per second, 0.1 … 50; 8 by default.
    hold: seconds that the last picture stays, 0 … 600; 2 by default.
    """
    path, ending = check_ending(path, ANIMATIONS)
    require_encoder(ending)
    write_picture(path, ending, encode_animation(pictures, fps, hold, ending))


def require_encoder(ending: str) -> None:
    """Check that an animation can be written here.

    ending: of the file.

    Raises ``ImportError`` with the remedy where it needs a package that is not installed.
    """
    if ending != ".mp4":
        return
    try:
        import av
    except ImportError:
        raise ImportError("an .mp4 needs the package av, which is not installed: pip install av; or write a .webp") from None
    if "libx264" not in av.codecs_available:
        raise ImportError("this build of the package av has no H.264 encoder; pip install --force-reinstall av, or write a .webp")


def check_rate(fps: float, hold: float) -> None:
    """Check how fast an animation runs.

    fps: frames per second, 0.1 … 50.
    hold: seconds that the last picture stays, 0 … 600.

    Raises ``ValueError`` for other numbers.
    """
    if not MIN_FPS <= fps <= MAX_FPS:
        raise SizeError(f"fps: expected {MIN_FPS} … {MAX_FPS} frames per second, got {fps!r}")
    if not 0 <= hold <= MAX_HOLD:
        raise ValueError(f"hold: expected 0 … {MAX_HOLD} seconds, got {hold!r}")


def rgb_frames(pictures: Iterable[Picture], ending: str = "") -> Iterator[np.ndarray]:
    """The frames of an animation, (H, W, 3) uint8.

    pictures: one per frame.
    ending: of the file; "" (default) for none, which has no limit.

    Raises ``ValueError`` for none, for pictures of different sizes, and for sides that the file cannot have.
    """
    size = None
    for picture in pictures:
        if size is None:
            check_sides(ending, picture.size)
        if size is not None and picture.size != size:
            raise ValueError(f"animation: expected pictures of one size, got {sorted({size, picture.size})}")
        size = picture.size
        yield np.asarray(picture.convert("RGB"))
    if size is None:
        raise ValueError("animation: expected at least one picture, got none")


def _timed(frames: Iterator[np.ndarray], step: int, last: int) -> Iterator[tuple[np.ndarray, int]]:
    """Frames and their milliseconds: ``step``, and ``last`` for the last; equal ones in a row are one, as far as a file can say so."""
    before, time = next(frames), step
    for frame in frames:
        if np.array_equal(frame, before) and time + last <= LONGEST_FRAME:
            time += step
        else:
            yield before, time
            before, time = frame, step
    yield before, time - step + last


def _changed(frame: np.ndarray, before: np.ndarray | None) -> tuple[int, int, int, int]:
    """The smallest box with all that changed: left, top, right, bottom; even where it begins, and never empty."""
    if before is None:
        return 0, 0, frame.shape[1], frame.shape[0]
    differs = (frame != before).reshape(len(frame), -1)
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0).reshape(-1, 3).any(1))
    if not len(rows):
        return 0, 0, 1, 1
    return int(columns[0]) // 2 * 2, int(rows[0]) // 2 * 2, int(columns[-1]) + 1, int(rows[-1]) + 1


# ── GIF ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _packed(frame: np.ndarray) -> np.ndarray:
    """(H, W) int32: a number for each colour."""
    return frame @ np.array([65536, 256, 1], np.int32)


def _unpacked(colours: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 of N such numbers."""
    return np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8)


def _gif(frames: Iterator[tuple[np.ndarray, int]]) -> bytes:
    seen, parts, before, usual = np.zeros(1 << 24, bool), [], None, np.zeros(0, int)
    for frame, time in frames:
        if before is None:                                                # backgrounds, which keep their colours
            found, counts = np.unique(_packed(frame), return_counts=True)
            usual = found[np.argsort(-counts, kind="stable")[:EXACT_COLOURS]]
        left, top, right, bottom = box = _changed(frame, before)
        part = frame[top:bottom, left:right]
        seen[_packed(part)] = True
        parts.append((box, zlib.compress(part.tobytes(), 1), time))
        before = frame
    assert before is not None
    height, width = before.shape[:2]
    table, palette = _table(np.flatnonzero(seen), usual)
    file = io.BytesIO()
    file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + palette.tobytes().ljust(768, b"\0"))
    file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")                # loops for ever
    canvas = np.full((height, width), TRANSPARENT, np.uint8)                    # what is shown, as indices
    for i, (box, data, time) in enumerate(parts):
        part, facts = _part(box, data), {"duration": time, "disposal": 1} | ({"transparency": TRANSPARENT} if i else {})
        index = table[_packed(part)]
        left, top, right, bottom = box
        below = canvas[top:bottom, left:right]
        shown = np.where(index == below, np.uint8(TRANSPARENT), index)          # what stays is transparent, which packs well
        below[:] = index
        for block in GifImagePlugin.getdata(Image.fromarray(shown), (left, top), **facts):
            file.write(block)
    file.write(b";")
    return file.getvalue()


def _part(box: tuple[int, int, int, int], data: bytes) -> np.ndarray:
    left, top, right, bottom = box
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(bottom - top, right - left, 3)


def _table(colours: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The palette's index of every colour (2^24,) uint8, and the palette (N, 3) uint8, N up to 255.

    colours: all that occur, packed; 255 of them are exact.
    kept: those that are exact even where there are more; the others get the nearest colour.
    """
    palette = colours
    if len(colours) > TRANSPARENT:
        others = np.setdiff1d(colours, kept)
        some = Image.fromarray(_unpacked(others[:: -(-len(others) // COLOURS_AT_A_TIME)])[None])
        best = some.quantize(TRANSPARENT - len(kept), Image.Quantize.MEDIANCUT, 3, dither=Image.Dither.NONE).getpalette() or []
        palette = np.concatenate([kept, _packed(np.array(best).reshape(-1, 3))])[:TRANSPARENT]
    table, shades = np.zeros(1 << 24, np.uint8), _unpacked(palette).astype(np.float32)
    for part in np.array_split(colours, -(-len(colours) // COLOURS_AT_A_TIME)):
        closeness = _unpacked(part).astype(np.float32) @ shades.T - (shades**2).sum(1) / 2
        table[part] = closeness.argmax(1)
    return table, shades.astype(np.uint8)


# ── WebP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _webp(frames: Iterator[tuple[np.ndarray, int]]) -> bytes:
    """The container of RFC 9649: a chunk ANMF for each frame, which holds what changed as a lossless image."""
    before, chunks = None, []
    for frame, time in frames:
        left, top, right, bottom = _changed(frame, before)
        one = io.BytesIO()
        part = Image.fromarray(np.ascontiguousarray(frame[top:bottom, left:right]))
        part.save(one, "WEBP", lossless=True, quality=60, method=3, exact=True)
        place = _24(left // 2) + _24(top // 2) + _24(right - left - 1) + _24(bottom - top - 1) + _24(time)
        chunks.append(_chunk(b"ANMF", place + bytes([0b10]) + _lossless(one.getvalue())))   # 0b10: it replaces what is below
        before = frame
    assert before is not None
    canvas = bytes([0b10, 0, 0, 0]) + _24(before.shape[1] - 1) + _24(before.shape[0] - 1)     # 0b10: it is an animation
    body = _chunk(b"VP8X", canvas) + _chunk(b"ANIM", struct.pack("<IH", 0xFFFFFFFF, 0)) + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _24(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _lossless(still: bytes) -> bytes:
    """The chunk VP8L of a still image."""
    at = 12
    while still[at : at + 4] != b"VP8L":
        size = struct.unpack_from("<I", still, at + 4)[0]
        at += 8 + size + size % 2
    size = struct.unpack_from("<I", still, at + 4)[0]
    return still[at : at + 8 + size + size % 2]


# ── MP4 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _mp4(frames: Iterator[np.ndarray], fps: float, hold: float) -> bytes:
    require_encoder(".mp4")
    import av

    file, count = io.BytesIO(), 0
    with av.open(file, "w", format="mp4") as container:
        stream: Any = None
        for frame in _held(frames, math.ceil(hold * fps - 1e-6)):
            height, width = frame.shape[:2]
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                stream.width, stream.height, stream.pix_fmt = frame.shape[1], frame.shape[0], "yuv420p"
                stream.options = {"crf": str(CRF), "preset": "fast", "tune": "animation", "rc-lookahead": "10"}
                coding = stream.codec_context                             # says how colours are meant, or players guess
                coding.color_range, coding.colorspace, coding.color_primaries, coding.color_trc = 1, 1, 1, 1
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            picture.pts = count
            count += 1
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


def _held(frames: Iterator[np.ndarray], times: int) -> Iterator[np.ndarray]:
    """The last frame ``times`` times, and once at least."""
    for frame in frames:
        yield frame
    for _ in range(times - 1):
        yield frame  # pyright: ignore[reportPossiblyUnboundVariable]
