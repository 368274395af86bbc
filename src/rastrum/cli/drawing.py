"""``sample``, ``complete``, ``reconstruct``: pictures out of a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from .show import (
    NO_CONDITION,
    Backend,
    Conditions,
    Device,
    Json,
    ModelName,
    Out,
    Trace,
    answer,
    check_suffix,
    condition_for,
    load_model,
    progress,
)
from .source import Binarise, Count, Data, Images, Loaded, SkipBroken, Split, load_images, load_videos

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..model import Model
    from ..protocol import Frame, ImageSpec
    from ..raster import RasterModel

MAX_BATCH = 64                 # more images are drawn in parts, where no animation needs every frame of all
BYTES, BYTES_OF_JSON = 16, 40  # per value: of an image with its picture, and of one that is written out


def sample(
    model: ModelName,
    count: Annotated[int, arg(help="how many images")] = 16,
    seed: Annotated[int, arg(help="same seed, same images")] = 0,
    temperature: Annotated[float, arg(help="below 1 likelier images, above 1 wilder ones")] = 1.0,
    conditions: Conditions = NO_CONDITION,
    backend: Backend = None,
    columns: Annotated[int | None, arg(help="columns of the picture; default: about square, or one per class")] = None,
    out: Out = None,
    trace: Trace = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Draw images, and look at them: `rastrum sample MODEL --out x.png --trace x.gif`.

    Of videos, the picture has a row of frames each, and the animation plays them.
    """
    import rastrum

    from ..memory import ask
    from ..pictures.animations import frame_sheet, save_animation
    from ..pictures.sheets import save_picture, sheet
    from ..pictures.videos import animate_grid, film_strips, save_video

    check_suffix("--out", out, ".png")
    check_suffix("--trace", trace, ".gif")
    network = load_model(model, device)
    ask(f"--count {count:,}", count * network.spec.size * (BYTES if out or trace or not json else BYTES_OF_JSON), "draw fewer")
    condition = condition_for(network, max(count, 0), conditions, in_turn=True)
    classes = None if condition is None or condition.is_floating_point() else condition.tolist()
    labels = None
    if columns is None and classes and not conditions.classes:
        labels = [str(label) for label in range(max(classes) + 1)]
        columns = len(labels)
    video = network.spec.frames > 1
    frames: list[Frame] = []
    if count > MAX_BATCH and (trace is None or video):
        values = draw_in_parts(network, count, condition, temperature, seed, backend)
    else:
        walked = rastrum.generate(network, count, condition, temperature, seed, backend=backend)
        frames = draw(walked, count, trace is not None and not video)
        values = last_values(frames)
    pictures = values / (network.spec.levels - 1)
    if out is not None:
        save_picture(film_strips(pictures) if video else sheet(pictures, columns, column_labels=labels), out)
    if trace is not None and video:
        save_video(animate_grid(pictures, columns), trace)
    elif trace is not None:
        save_animation((frame_sheet(frame, columns, order=order_of(network)) for frame in frames), trace)
    result = {"model": model, "count": count, "seed": seed, "temperature": temperature, **paths(out, trace)}
    result["classes"] = classes
    if out is None and json:
        result["images"] = values.tolist()
    shown = written(f"{count} image{'s' * (count > 1)}", out, trace) if out or trace else [as_text(values[0], network.spec)]
    answer(result, json, *shown)


def complete(
    model: ModelName,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    skip_broken: SkipBroken = False,
    count: Count = 8,
    binarise: Binarise = None,
    known: Annotated[str | None, arg(metavar="KNOWN", help="what is kept: top, left, bottom or right half, a fraction of the rows such as "
                                                           "0.25, or a mask.png, white where known; default: top")] = None,
    context: Annotated[int | None, arg(metavar="N", help="of a video: the first N frames are known; default: half of them")] = None,
    num_samples: Annotated[int, arg(help="completions per image")] = 4,
    seed: Annotated[int, arg(help="same seed, same completions")] = 0,
    temperature: Annotated[float, arg(help="below 1 likelier images, above 1 wilder ones")] = 1.0,
    particles: Annotated[int | None, arg(metavar="K", help="K weighted walks per image, so that known values steer what is drawn before "
                                                           "them; default: they steer only what comes after")] = None,
    conditions: Conditions = NO_CONDITION,
    backend: Backend = None,
    out: Out = None,
    trace: Trace = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Fill in the unknown part of images. A row of the picture: the image, what is known of it (the rest hatched), its completions.

    Of videos, the first frames are known and the others are drawn; the animation shows truth, completions, and where the truth surprises.
    Videos of your own (--images X.npy) may end with the frames that are known.
    With particles it also reports the effective sample size of each image's K, and the estimated log-probability of what is known.
    """
    import rastrum

    from ..checkpoint import read_origin
    from ..generation import complete_frames
    from ..memory import ask
    from ..particles import effective_size, log_evidence
    from ..pictures.animations import frame_sheet, save_animation
    from ..pictures.sheets import completion_sheet, save_picture
    from ..raster import RasterModel

    check_suffix("--out", out, ".png")
    check_suffix("--trace", trace, ".gif")
    network = load_model(model, device)
    video = network.spec.frames > 1
    if context is not None and not video:
        raise ValueError(f"--context: {model} draws still images; use --known")
    context, mask = known_part(network.spec, known, context)
    if not isinstance(network, RasterModel):
        raise ValueError(f"{model} draws stroke by stroke and cannot complete images; use reconstruct, or a raster model")
    for flag, value in (("--num-samples", num_samples), ("--particles", particles)):
        if value is not None and value < 1:
            raise ValueError(f"{flag}: expected at least 1, got {value}")
    if particles is not None and trace is not None:
        raise ValueError("--trace: particles are resampled on their way, so there is no single walk to show; leave out one of the two")
    if video and known is None and images is not None and data is None:
        dataset, whole = load_videos(network.spec, images, context, count, binarise, split)  # they may end where the model is to go on
        loaded = Loaded(dataset, read_origin(model).data)
    else:
        loaded, whole = load_images(network, model, data, images, split, count, binarise, skip_broken=skip_broken), True
    dataset = loaded.dataset
    x = dataset.images.long()
    condition = condition_for(network, len(x), conditions, dataset)
    ask(f"--num-samples {num_samples:,}", len(x) * num_samples * network.spec.size * BYTES, "ask for fewer")
    frames, log_weights = [], None
    if len(x) * num_samples > MAX_BATCH and (trace is None or video):
        with progress("drawing", len(x), "images"):
            found = rastrum.complete(network, x, mask, condition, num_samples, temperature, seed, particles, backend)  # pyright: ignore
        values, log_weights = found if isinstance(found, tuple) else (found, None)
        values = values.long().cpu()
        values = values.unflatten(0, (len(x), num_samples)) if num_samples == 1 else values
    else:
        walked = complete_frames(network, x, mask, condition, num_samples, temperature, seed, particles, backend=backend)
        frames = draw(walked, len(x) * num_samples, trace is not None and not video)
        values = last_values(frames).unflatten(0, (len(x), num_samples))
        log_weights = frames[-1].info.get("log_weights")
    if video:
        draw_videos(network, x, values, condition, "truth" if whole else "known", context, out, trace)
    else:
        if out is not None:
            save_picture(completion_sheet(x / (network.spec.levels - 1), mask, values / (network.spec.levels - 1)), out)
        if trace is not None:
            save_animation((frame_sheet(frame, num_samples, order=network.order) for frame in frames), trace)
    share = float(mask.expand(1, *network.spec.shape).float().mean())
    result = {"model": model, **loaded.facts, "count": len(x), "num_samples": num_samples, "known": share, "seed": seed}
    result |= {**paths(out, trace), "particles": particles}
    title = f"{len(x)} images ({loaded.text}), {num_samples} completions of each, {share:.0%} known"
    if log_weights is not None:
        sizes, evidence = (measure(log_weights) for measure in (effective_size, log_evidence))
        result |= {"effective_size": sizes.tolist(), "log_evidence": evidence.tolist()}
        title += f"; {particles} particles (effective sample size {sizes.mean():.1f}); log p(known) about {evidence.mean():.2f} nats"
    if out is None and json:
        result["images"] = values.tolist()
    answer(result, json, *written(title, out, trace), *([] if out or trace else [as_text(values[0, 0], network.spec)]))


def known_part(spec: ImageSpec, known: str | None, context: int | None) -> tuple[int, Tensor]:
    """What is known of the images, by the flags --known and --context or their defaults.

    spec: of the model.
    known, context: the flags; None where they were not given.

    Returns how many first frames are known, and the mask that says what is.
    """
    from ..pictures.videos import check_context, first_frames

    if spec.frames == 1 or known is not None:
        if context is not None:
            raise ValueError("--known: of a video, give one of --known (in every frame) and --context")
        return 0, known_mask(known or "top", spec)
    context = spec.frames // 2 if context is None else context
    check_context(spec, context, "--context")
    return context, first_frames(spec, context)


def draw_videos(
    network: RasterModel, x: Tensor, values: Tensor, condition: Tensor | None, name: str, context: int, out: Path | None, trace: Path | None
) -> None:
    """Write pictures of completed videos.

    network: the model.
    x: the videos, (B, *shape).
    values: their completions, (B, num_samples, *shape).
    condition: one per video, or None.
    name: what x is called; "truth" if all of it is there.
    context: number of known frames.
    out: file of the strips of frames; None for none.
    trace: file of the animation, with the surprise of x if all of it is there; None for none.
    """
    import torch

    from ..pictures.sheets import save_picture
    from ..pictures.videos import animate_rows, film_strips, save_video, surprise_colours

    given, drawn = x / (network.spec.levels - 1), values / (network.spec.levels - 1)
    if out is not None:
        rows = torch.cat([given[:, None], drawn], 1).flatten(0, 1)
        names = [name, *(str(k + 1) for k in range(drawn.shape[1]))] * len(x)
        save_picture(film_strips(rows, names, context), out)
    if trace is not None:
        columns: dict[str, Tensor | np.ndarray] = {name: given}
        columns |= {f"drawn {k + 1}": completion for k, completion in enumerate(drawn.unbind(1))}
        if name == "truth":
            with torch.inference_mode():
                columns["surprise"] = surprise_colours(network.log_prob_map(x, condition))
        save_video(animate_rows(list(columns.values()), list(columns)), trace)


def reconstruct(
    model: ModelName,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    skip_broken: SkipBroken = False,
    count: Count = 8,
    binarise: Binarise = None,
    seed: Annotated[int, arg(help="same seed, same strokes")] = 0,
    conditions: Conditions = NO_CONDITION,
    out: Out = None,
    trace: Trace = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Let a canvas model redraw images. A row of the picture: the image, then its canvas over time.

    A picture of one image (--count 1) also shows where it looks, each glimpse and each stroke (ink blue, eraser orange).
    """
    import torch

    import rastrum

    from ..pictures.animations import reconstruction_sheet, reconstruction_strip, save_animation
    from ..pictures.sheets import save_picture, sheet
    from ..strokes import CanvasModel

    check_suffix("--out", out, ".png")
    check_suffix("--trace", trace, ".gif")
    network = load_model(model, device)
    if not isinstance(network, CanvasModel):
        raise ValueError(f"{model} decides pixel by pixel and cannot reconstruct; use complete, or a canvas model such as draw")
    loaded = load_images(network, model, data, images, split, count, binarise, skip_broken=skip_broken)
    dataset = loaded.dataset
    x = dataset.images.long()
    condition = condition_for(network, len(x), conditions, dataset)
    frames = draw(rastrum.reconstruct(network, x, condition, seed), len(x), keep=True)
    target = x / (network.spec.levels - 1)
    if out is not None and len(x) == 1:
        save_picture(reconstruction_strip(target[0], frames, 0), out)
    elif out is not None:
        shown = sorted({round(i * (len(frames) - 1) / 9) for i in range(10)})
        rows = torch.stack([target, *(frames[i].images for i in shown)], 1).float()
        save_picture(sheet(rows.flatten(0, 1), len(shown) + 1, None, None, ["image", *map(str, shown)]), out)
    if trace is not None:
        limit = max(float(frame.info["write_patch"].mean(1).abs().max()) for frame in frames[1:])
        save_animation((reconstruction_sheet(target, frame, limit) for frame in frames[1:]), trace, fps=6)
    error = float((frames[-1].images - target).square().mean())
    kl = sum(float(frame.info["kl"].mean()) for frame in frames if "kl" in frame.info)
    result = {"model": model, **loaded.facts, "count": len(x), "strokes": len(frames) - 1, "squared_error": error, "kl_nats": kl}
    result |= paths(out, trace)
    title = f"{len(x)} images ({loaded.text}) in {len(frames) - 1} strokes: squared error {error:.4f} per value, KL {kl:.1f} nats per image"
    answer(result, json, *written(title, out, trace))


# ── shared ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw(frames: Iterator[Frame], count: int, keep: bool) -> list[Frame]:
    """The frames of a walk, on the CPU, with a progress bar.

    frames: the walk.
    count: number of images.
    keep: whether all frames are kept, or only the last.
    """
    kept: list[Frame] = []
    with progress("drawing", max(count, 1), "images") as report:
        for frame in frames:
            report(frame.fraction * count)
            kept = [*kept, frame.cpu()] if keep else [frame.cpu()]
    return kept


def draw_in_parts(
    network: Model, count: int, condition: Tensor | None, temperature: float, seed: int, backend: Backend
) -> Tensor:
    """Many images, drawn some at a time with a progress bar."""
    import torch

    from ..generation import samples

    drawn = samples(network, count, condition, temperature, seed, backend)
    values, done = torch.empty(count, *network.spec.shape, dtype=torch.int64 if network.spec.levels > 256 else torch.uint8), 0
    with progress("drawing", count, "images") as report:
        for part in drawn:
            values[done : done + len(part)] = part.cpu()
            done += len(part)
            report(done)
    return values


def known_mask(known: str, spec: ImageSpec) -> Tensor:
    """The mask of what is known of an image.

    known: a half ("top", "bottom", "left", "right"), a fraction of the rows from the top, or the file of a mask picture.
    spec: of the images.

    Returns (1, H, W) bool.
    """
    import torch

    mask = torch.zeros(1, spec.height, spec.width, dtype=torch.bool)
    rows, columns = spec.height // 2, spec.width // 2
    halves = {"top": (slice(0, rows), slice(None)), "bottom": (slice(rows, None), slice(None)),
              "left": (slice(None), slice(0, columns)), "right": (slice(None), slice(columns, None))}    # fmt: skip
    if known in halves:
        mask[(0, *halves[known])] = True
        return mask
    if known.lower().endswith(".png"):
        import numpy as np
        from PIL import Image, UnidentifiedImageError

        if Path(known).exists() and not Path(known).is_file():
            raise ValueError(f"--known: {known!r} is not a regular file")
        try:
            with Image.open(known) as picture:
                painted = np.asarray(picture.convert("L")) > 127
        except UnidentifiedImageError:
            raise ValueError(f"--known: {known!r} is not a picture") from None
        if painted.shape != (spec.height, spec.width):
            have = "x".join(map(str, painted.shape))
            raise ValueError(f"--known: the mask {known!r} is {have}, the images are {spec.height}x{spec.width}")
        return torch.from_numpy(painted)[None]
    try:
        fraction = float(known)
    except ValueError:
        fraction = -1.0
    if not 0 <= fraction <= 1:
        raise ValueError(f"--known: expected top, left, bottom, right, a fraction between 0 and 1, or a mask.png, got {known!r}")
    mask[:, : round(fraction * spec.height)] = True
    return mask


def order_of(model: Model) -> Tensor | None:
    """The order of a ``model``'s decisions; None for a canvas model."""
    from ..raster import RasterModel

    return model.order if isinstance(model, RasterModel) else None


def last_values(frames: list[Frame]) -> Tensor:
    """The values of the last of ``frames``."""
    values = frames[-1].values
    assert values is not None
    return values


def as_text(image: Tensor, spec: ImageSpec) -> str:
    """One image in characters, of a video the last frame: what is shown when no file is written.

    image: integer levels (*spec.shape).
    spec: of the image.
    """
    shades = " .:-=+*#%@"
    last = image if spec.frames == 1 else image[-1]
    grey = last.float().mean(0) / (spec.levels - 1)
    return "\n".join("".join(2 * shades[int(v * (len(shades) - 1) + 0.5)] for v in row) for row in grey.tolist())


def paths(out: Path | None, trace: Path | None) -> dict[str, str | None]:
    """The files written, for JSON.

    out, trace: the flags, or None.
    """
    return {"out": out and str(out), "trace": trace and str(trace)}


def written(title: str, *files: Path | None) -> list[str]:
    """Lines that name the files written.

    title: the first line.
    files: a line for each that is not None.
    """
    return [title, *(f"  {file}" for file in files if file is not None)]
