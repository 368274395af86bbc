"""``sample``, ``complete``, ``reconstruct``: pictures out of a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from .show import NO_CONDITION, Backend, Conditions, Json, Model, Out, Trace, answer, check_suffix, condition_for, load_model, progress
from .source import Binarise, Count, Data, Images, Loaded, Split, load_images, load_videos

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..protocol import Frame, ImageSpec


def sample(
    model: Model,
    count: Annotated[int, arg(help="how many images")] = 16,
    seed: Annotated[int, arg(help="same seed, same images")] = 0,
    temperature: Annotated[float, arg(help="below 1 likelier images, above 1 wilder ones")] = 1.0,
    conditions: Conditions = NO_CONDITION,
    backend: Backend = None,
    columns: Annotated[int | None, arg(help="columns of the picture; by default about square, or one a class")] = None,
    out: Out = None,
    trace: Trace = None,
    json: Json = False,
) -> None:
    """Draw images, and look at them: `rastrum sample MODEL --out x.png --trace x.gif`.

    Of videos, the picture is a row of frames each, and the animation plays them.
    """
    import rastrum

    from ..pictures.sheets import frame_sheet, save_animation, save_picture, sheet
    from ..pictures.videos import PLAY, animate_grid, film_strips
    from ..raster import RasterModel

    check_suffix("--out", out, ".png")
    check_suffix("--trace", trace, ".gif")
    network = load_model(model)
    condition = condition_for(network, max(count, 0), conditions, in_turn=True)
    classes = None if condition is None or condition.is_floating_point() else condition.tolist()
    labels = None
    if columns is None and classes and not conditions.classes:
        labels = [str(label) for label in range(max(classes) + 1)]
        columns = len(labels)
    video = network.spec.frames > 1
    walked = rastrum.generate(network, count, condition, temperature, seed, backend=backend)
    frames = draw(walked, count, trace is not None and not video)
    values = last_values(frames)
    pictures = values / (network.spec.levels - 1)
    if out is not None:
        save_picture(film_strips(pictures) if video else sheet(pictures, columns, column_labels=labels), out)
    if trace is not None and video:
        save_animation(animate_grid(pictures, columns), trace, PLAY, 1 / PLAY)
    elif trace is not None:
        order = network.order if isinstance(network, RasterModel) else None
        save_animation((frame_sheet(frame, columns, order=order) for frame in frames), trace)
    result = {"model": model, "count": count, "seed": seed, "temperature": temperature, **paths(out, trace)}
    result["classes"] = classes
    if out is None:
        result["images"] = values.tolist()
    shown = written(f"{count} image{'s' * (count > 1)}", out, trace) if out or trace else [as_text(values[0], network.spec)]
    answer(result, json, *shown)


def complete(
    model: Model,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    count: Count = 8,
    binarise: Binarise = None,
    known: Annotated[str | None, arg(metavar="KNOWN", help="what is kept: top, left, bottom or right half, a fraction of the rows such as "
                                                           "0.25, or a mask.png, white where known; by default top")] = None,
    context: Annotated[int | None, arg(metavar="N", help="of a video: the first N frames are known; by default half of them")] = None,
    num_samples: Annotated[int, arg(help="completions of each image")] = 4,
    seed: Annotated[int, arg(help="same seed, same completions")] = 0,
    temperature: Annotated[float, arg(help="below 1 likelier images, above 1 wilder ones")] = 1.0,
    particles: Annotated[int | None, arg(metavar="K", help="K weighted walks an image, so that known values steer what is drawn before "
                                                           "them; by default they steer only what comes after")] = None,
    conditions: Conditions = NO_CONDITION,
    backend: Backend = None,
    out: Out = None,
    trace: Trace = None,
    json: Json = False,
) -> None:
    """Fill in the unknown part of images. A row of the picture: the image, what is known of it (the rest hatched), its completions.

    Of videos, the first frames are known and the others are drawn; the animation shows truth, completions, and where the truth surprises.
    Videos of your own (--images X.npy) may end with the frames that are known.
    With particles it also says how many of an image's K carry its weight at the end, and how likely they found what is known.
    """
    import torch

    from ..checkpoint import read_origin
    from ..particles import completions, effective_size, log_evidence
    from ..pictures.sheets import arrange, completion_sheet, save_animation, save_picture, tiles
    from ..pictures.videos import PLAY, animate_rows, check_context, film_strips, first_frames, surprise_colours
    from ..raster import RasterModel
    from ..walk import Sample, walk

    check_suffix("--out", out, ".png")
    check_suffix("--trace", trace, ".gif")
    network = load_model(model)
    video = network.spec.frames > 1
    if video and known is not None and context is not None:
        raise ValueError("--known: of a video, give one of --known (in every frame) and --context")
    if context is None:
        context = network.spec.frames // 2 if video and known is None else 0
    elif not video:
        raise ValueError(f"--context: {model} draws still images; use --known")
    if video and known is None:
        check_context(network.spec, context, "--context")
        mask = first_frames(network.spec, context)
    else:
        mask = known_mask(known or "top", network.spec)
    if not isinstance(network, RasterModel):
        raise ValueError(f"{model} draws stroke by stroke and cannot complete images; use reconstruct, or a raster model")
    if num_samples < 1:
        raise ValueError(f"--num-samples: expected at least 1, got {num_samples}")
    if particles is not None and particles < 1:
        raise ValueError(f"--particles: expected at least 1, got {particles}")
    if particles is not None and trace is not None:
        raise ValueError("--trace: particles are chosen anew on their way, so there is no one walk to show; leave out one of the two")
    if video and known is None and images is not None and data is None:
        dataset, whole = load_videos(network.spec, images, context, count, binarise)  # they may end where the model is to go on
        loaded = Loaded(dataset, read_origin(model).data)
    else:
        loaded, whole = load_images(network, model, data, images, split, count, binarise), True
    dataset = loaded.dataset
    x = dataset.images.long()
    condition = condition_for(network, len(x), conditions, dataset)
    frames: list[Frame] = []
    found: dict[str, list[float]] = {}
    if particles is None:
        each = x.repeat_interleave(num_samples, 0)
        of_each = None if condition is None else condition.repeat_interleave(num_samples, 0)
        walked = walk(network, len(each), Sample(seed, temperature), of_each, mask, each, backend=backend)  # as `complete`, with frames
        frames = draw(walked, len(each), trace is not None and not video)
        values = last_values(frames).unflatten(0, (len(x), num_samples))
    else:
        parts: list[tuple[Tensor, Tensor]] = []
        with progress("drawing", len(x), "images") as report:
            for part in completions(network, x, mask.expand_as(x), condition, num_samples, particles, temperature, seed, backend):
                parts.append(part)
                report(sum(len(weights) for _, weights in parts))
        values, weights = (torch.cat(each) for each in zip(*parts, strict=True))
        found = {"effective_size": effective_size(weights).tolist(), "log_evidence": log_evidence(weights).tolist()}
    scale = network.spec.levels - 1
    if out is not None and video:
        rows = torch.cat([x[:, None], values.view(len(x), num_samples, *network.spec.shape)], 1).flatten(0, 1)
        names = ["truth" if whole else "known", *(str(k + 1) for k in range(num_samples))] * len(x)
        save_picture(film_strips(rows / scale, names, None, context), out)
    elif out is not None:
        save_picture(completion_sheet(x / scale, mask, values / scale), out)
    if trace is not None and video:
        drawn = values.view(len(x), num_samples, *network.spec.shape).unbind(1)
        shown: dict[str, Tensor | np.ndarray] = {"truth" if whole else "known": x / scale}
        shown |= {f"drawn {k + 1}": each / scale for k, each in enumerate(drawn)}
        if whole:
            with torch.inference_mode():
                shown["surprise"] = surprise_colours(network.log_prob_map(x, condition))
        save_animation(animate_rows(list(shown.values()), list(shown)), trace, PLAY, 1 / PLAY)
    elif trace is not None:
        decided = [decisions_before(network.order, frame, network.spec) | mask for frame in frames]
        save_animation((arrange(tiles(f.images, None, d), num_samples) for f, d in zip(frames, decided, strict=True)), trace)
    share = float(mask.expand(1, *network.spec.shape).float().mean())
    result = {"model": model, **loaded.facts, "count": len(x), "num_samples": num_samples, "known": share, "seed": seed}
    result |= {**paths(out, trace), "particles": particles, **found}
    if out is None:
        result["images"] = values.tolist()
    title = f"{len(x)} images ({loaded.text}), {num_samples} completions of each, {share:.0%} known"
    if found:
        sizes, nats = (sum(each) / len(each) for each in found.values())
        title += f"; {particles} particles, {sizes:.1f} of them by weight; log p of what is known about {nats:.2f} nats"
    answer(result, json, *written(title, out, trace), *([] if out or trace else [as_text(values[0, 0], network.spec)]))


def reconstruct(
    model: Model,
    data: Data = None,
    images: Images = None,
    split: Split = None,
    count: Count = 8,
    binarise: Binarise = None,
    seed: Annotated[int, arg(help="same seed, same strokes")] = 0,
    conditions: Conditions = NO_CONDITION,
    out: Out = None,
    trace: Trace = None,
    json: Json = False,
) -> None:
    """Let a canvas model redraw images. A row of the picture: the image, then its canvas over time.

    A picture of one image (--count 1) also shows where it looks, each glimpse and each stroke (ink blue, eraser orange).
    """
    import torch

    import rastrum

    from ..canvas import CanvasModel
    from ..pictures.sheets import reconstruction_sheet, reconstruction_strip, save_animation, save_picture, sheet

    check_suffix("--out", out, ".png")
    check_suffix("--trace", trace, ".gif")
    network = load_model(model)
    if not isinstance(network, CanvasModel):
        raise ValueError(f"{model} decides pixel by pixel and cannot reconstruct; use complete, or a canvas model such as draw")
    loaded = load_images(network, model, data, images, split, count, binarise)
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
        save_animation((reconstruction_sheet(target, frame, None, limit) for frame in frames[1:]), trace, fps=6)
    error = float((frames[-1].images - target).square().mean())
    kl = sum(float(frame.info["kl"].mean()) for frame in frames if "kl" in frame.info)
    result = {"model": model, **loaded.facts, "count": len(x), "strokes": len(frames) - 1, "squared_error": error, "kl_nats": kl}
    result |= paths(out, trace)
    title = f"{len(x)} images ({loaded.text}) in {len(frames) - 1} strokes: squared error {error:.4f} per value, KL {kl:.1f} nats per image"
    answer(result, json, *written(title, out, trace))


# ── shared ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw(frames: Iterator[Frame], count: int, keep: bool) -> list[Frame]:
    """The frames of a walk, a bar meanwhile; the last alone unless ``keep``."""
    kept: list[Frame] = []
    with progress("drawing", max(count, 1), "images") as report:
        for frame in frames:
            report(frame.fraction * count)
            kept = [*kept, frame] if keep else [frame]
    return kept


def known_mask(known: str, spec: ImageSpec) -> Tensor:
    """A half, a fraction of the rows from the top, or a mask picture → (1, H, W) bool."""
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


def decisions_before(order: Tensor, frame: Frame, spec: ImageSpec) -> Tensor:
    """What a frame of a walk has decided: (C, H, W) bool."""
    import torch

    decided = torch.zeros(spec.size, dtype=torch.bool)
    decided[order[: round(frame.fraction * spec.size)]] = True
    return decided.view(spec.shape)


def last_values(frames: list[Frame]) -> Tensor:
    values = frames[-1].values
    assert values is not None
    return values


def as_text(image: Tensor, spec: ImageSpec) -> str:
    """One image in characters, for a look without a file: of a video the last frame."""
    shades = " .:-=+*#%@"
    last = image if spec.frames == 1 else image[-1]
    grey = last.float().mean(0) / (spec.levels - 1)
    return "\n".join("".join(2 * shades[int(v * (len(shades) - 1) + 0.5)] for v in row) for row in grey.tolist())


def paths(out: Path | None, trace: Path | None) -> dict[str, str | None]:
    return {"out": out and str(out), "trace": trace and str(trace)}


def written(title: str, *files: Path | None) -> list[str]:
    return [title, *(f"  {file}" for file in files if file is not None)]
