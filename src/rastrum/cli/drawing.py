"""``sample``, ``complete``, ``reconstruct``: pictures out of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from .output import (
    AS_USUAL,
    EveryFlag,
    Fps,
    ImagesOut,
    Look,
    Trace,
    check_fit,
    check_folder,
    check_images_out,
    check_look,
    check_trace,
    every_of,
    keep_last,
    rate_of,
    save_film,
    save_images,
)
from .show import (
    NO_CONDITION,
    Backend,
    Conditions,
    Device,
    Json,
    ModelName,
    answer,
    condition_for,
    load_model,
    messages,
    origin_of,
    progress,
)
from .source import Binarise, Count, Data, Images, Loaded, SkipBroken, Split, load_images, load_videos

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..model import Model
    from ..pictures.decisions import Every
    from ..pictures.formats import Picture
    from ..pictures.page import Page
    from ..processes import Processes
    from ..protocol import Frame, ImageSpec
    from ..raster import RasterModel

MAX_WITH_BARS = 16             # images at most that --every draws bars for
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
    out: ImagesOut = None,
    trace: Trace = None,
    every: EveryFlag = None,
    fps: Fps = None,
    look: Look = AS_USUAL,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Draw images, and look at them: `rastrum sample MODEL --out x.png --trace x.gif`.

    Of videos, the picture has a row of frames each, and the animation plays them.
    """
    import torch

    import rastrum

    from ..memory import ask
    from ..pictures.sheets import image_scale, sheet
    from ..pictures.videos import FPS, animate_grid, film_strips, last_hold
    from ..processes import join
    from ..protocol import as_tensor

    page, processes = look.page(), join()
    if columns is not None and columns < 1:
        raise ValueError(f"--columns: expected at least 1, got {columns}")
    with processes.together():
        if processes.is_first:                                            # which writes
            check_images_out(out, page)
            check_look(look, out, trace)
            check_trace(trace, fps, every, page)
    shown_every = every_of(every)
    network = load_model(model, device)
    spec, video = network.spec, network.spec.frames > 1
    check_walk(trace, video, processes)
    with processes.together():
        if processes.is_first:
            check_folder(out, spec)
    if out or trace:
        page.check(max(count, 0) * spec.frames, spec.height, spec.width)
    if every is not None and video:
        raise ValueError("--every: of videos the animation plays them, frame by frame; leave it out")
    ask(f"--count {count:,}", count * network.spec.size * (BYTES if out or trace or not json else BYTES_OF_JSON), "draw fewer")
    condition = condition_for(network, max(count, 0), conditions, in_turn=True)
    classes = None if condition is None or condition.is_floating_point() else condition.tolist()
    labels = None
    if columns is None and classes and not conditions.classes:
        labels = [str(label) for label in range(max(classes) + 1)]
    usual, grid = image_scale(None, spec.height, spec.width), columns or page.columns(max(count, 1), spec.height, spec.width)
    grid = len(labels) if labels else grid
    pictures = torch.zeros(()).expand(max(count, 1), *spec.shape)         # until they are drawn

    def draw_sheet(scale: int | None, unit: float | None) -> Picture:
        return film_strips(pictures, scale=scale, unit=unit) if video else sheet(pictures, grid, scale, None, labels, unit)

    def draw_first(scale: int | None, unit: float | None) -> Picture:
        return next(animate_grid(pictures, grid, scale, unit)) if video else sheet(pictures, grid, scale, unit=unit)

    bars = trace is not None and not video and with_bars(network, shown_every, count)
    check_fit(out, page, draw_sheet, usual)
    if not bars:
        check_fit(trace, page, draw_first, usual)
    if processes.count > 1 or (count > MAX_BATCH and (trace is None or video)):
        with progress("drawing", count, "images") as report:
            drawn = rastrum.sample(network, count, condition, temperature, seed, backend, progress=report, processes=processes)
        values = as_tensor("images", drawn).cpu()
    elif trace is None or video:
        values = last_values(draw(rastrum.generate(network, count, condition, temperature, seed, backend=backend), count, keep=False))
    else:

        def walk(stride: Any) -> Iterator[Frame]:
            return rastrum.generate(network, count, condition, temperature, seed, stride, backend, probabilities=bars)

        values = last_values(save_walk(network, walk, count, shown_every, bars, page, columns, grid, trace, fps))
    if not processes.is_first:
        return
    pictures = values / (spec.levels - 1)
    if out is not None:
        save_images(out, page, draw_sheet, usual, lambda: values, spec)
    if trace is not None and video:
        films = page.animation(lambda scale, unit: animate_grid(pictures, grid, scale, unit), usual)
        save_film(trace, films, fps or FPS, last_hold(trace, fps or FPS))
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
    out: ImagesOut = None,
    trace: Trace = None,
    every: EveryFlag = None,
    fps: Fps = None,
    look: Look = AS_USUAL,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Fill in the unknown part of images. A row of the picture: the image, what is known of it (the rest hatched), its completions.

    Of videos, the first frames are known and the others are drawn; the animation shows truth, completions, and where the truth surprises.
    Videos of your own (--images X.npy) may end with the frames that are known.
    With particles it also reports the effective sample size of each image's K, and the estimated log-probability of what is known.
    """
    import torch

    import rastrum

    from ..generation import complete_frames
    from ..memory import ask
    from ..particles import effective_size, log_evidence
    from ..pictures.sheets import completion_sheet, image_scale, sheet
    from ..pictures.videos import film_strips
    from ..processes import join
    from ..raster import RasterModel
    from ..strokes import CanvasModel

    page, processes = look.page(), join()
    with processes.together():
        if processes.is_first:                                            # which writes
            check_images_out(out, page)
            check_look(look, out, trace)
            check_trace(trace, fps, every, page)
    shown_every = every_of(every)
    network = load_model(model, device)
    spec, video = network.spec, network.spec.frames > 1
    check_walk(trace, video, processes)
    with processes.together():
        if processes.is_first:
            check_folder(out, spec)
    if every is not None and video:
        raise ValueError("--every: of videos the animation plays them, frame by frame; leave it out")
    if context is not None and not video:
        raise ValueError(f"--context: {model} draws still images; use --known")
    with processes.together():
        context, mask = known_part(network.spec, known, context)
    if not isinstance(network, RasterModel):
        instead = "reconstruct" if isinstance(network, CanvasModel) and network.has_posterior else "sample, which draws whole images"
        raise ValueError(f"{model} draws stroke by stroke and cannot complete images; use {instead}, or a raster model")
    for flag, value in (("--num-samples", num_samples), ("--particles", particles)):
        if value is not None and value < 1:
            raise ValueError(f"{flag}: expected at least 1, got {value}")
    if particles is not None and trace is not None:
        raise ValueError("--trace: particles are resampled on their way, so there is no single walk to show; leave out one of the two")
    if video and known is None and images is not None and data is None:
        with processes.together():
            dataset, whole = load_videos(network.spec, images, context, count, binarise, split)  # may end where the model is to go on
        loaded = Loaded(dataset, origin_of(network, model).data)
    else:
        loaded, whole = load_images(network, model, data, images, split, count, binarise, skip_broken=skip_broken), True
    dataset = loaded.dataset
    x = dataset.images.long()
    condition = condition_for(network, len(x), conditions, dataset)
    ask(f"--num-samples {num_samples:,}", len(x) * num_samples * network.spec.size * BYTES, "ask for fewer")
    if out or trace:
        page.check(len(x) * (2 + num_samples) * spec.frames, spec.height, spec.width)
    log_weights, together = None, len(x) * num_samples
    given, drawn = x / (spec.levels - 1), torch.zeros(()).expand(len(x), num_samples, *spec.shape)   # until they are drawn
    usual = image_scale(None, spec.height, spec.width)

    def draw_sheet(scale: int | None, unit: float | None) -> Picture:
        return completion_sheet(given, mask, drawn, scale, unit=unit)

    def draw_first(scale: int | None, unit: float | None) -> Picture:
        return sheet(drawn.flatten(0, 1), num_samples, scale, unit=unit)

    bars = trace is not None and not video and with_bars(network, shown_every, together)
    if video:
        blank = drawn[:1, :1].expand(len(x), 1 + num_samples, *spec.shape).flatten(0, 1)
        check_fit(out, page, lambda scale, unit: film_strips(blank, ["known"] * len(blank), context, scale, unit), usual)
    else:
        check_fit(out, page, draw_sheet, usual)
        if not bars:
            check_fit(trace, page, draw_first, usual)
    if processes.count > 1 or (len(x) * num_samples > MAX_BATCH and (trace is None or video)):
        how: Any = {"particles": particles, "backend": backend, "processes": processes}
        found = rastrum.complete(network, x, mask, condition, num_samples, temperature, seed, **how)
        values, log_weights = found if isinstance(found, tuple) else (found, None)
        values = values.long().cpu()
        values = values.unflatten(0, (len(x), num_samples)) if num_samples == 1 else values
    else:

        def walk(stride: Any) -> Iterator[Frame]:
            how = {"backend": backend, "probabilities": bars, "every": stride}
            return complete_frames(network, x, mask, condition, num_samples, temperature, seed, particles, **how)  # pyright: ignore

        if trace is None or video:
            frames = draw(walk("row"), together, keep=False)
        else:
            frames = save_walk(network, walk, together, shown_every, bars, page, None, num_samples, trace, fps)
        values = last_values(frames).unflatten(0, (len(x), num_samples))
        log_weights = frames[-1].info.get("log_weights")
    if not processes.is_first:
        return
    if video:
        draw_videos(network, x, values, condition, "truth" if whole else "known", context, out, trace, page, fps)
    elif out is not None:
        drawn = values / (spec.levels - 1)
        save_images(out, page, draw_sheet, usual, lambda: values.flatten(0, 1), spec)
    share = float(mask.expand(1, *network.spec.shape).float().mean())
    result = {"model": model, **loaded.facts, "count": len(x), "num_samples": num_samples, "known": share, "seed": seed}
    result |= {**paths(out, trace), "particles": particles}
    each = f"{num_samples} completion{'s' * (num_samples > 1)}{' of each' * (len(x) > 1)}"
    title = f"{images_of(x)} ({loaded.text}), {each}, {share:.0%} known"
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
    network: RasterModel,
    x: Tensor,
    values: Tensor,
    condition: Tensor | None,
    name: str,
    context: int,
    out: str | None,
    trace: Path | None,
    page: Page,
    fps: float | None,
) -> None:
    """Write pictures of completed videos.

    network: the model.
    x: the videos, (B, *shape).
    values: their completions, (B, num_samples, *shape).
    condition: one per video, or None.
    name: what x is called; "truth" if all of it is there.
    context: number of known frames.
    out: of the strips of frames, or of the completions themselves; None for none.
    trace: file of the animation, with the surprise of x if all of it is there; None for none.
    page: how large they are.
    fps: of the animation; None for the usual.
    """
    import torch

    from ..pictures.sheets import image_scale
    from ..pictures.videos import FPS, animate_rows, film_strips, last_hold, surprise_colours

    spec = network.spec
    given, drawn, usual = x / (spec.levels - 1), values / (spec.levels - 1), image_scale(None, spec.height, spec.width)
    if out is not None:
        rows = torch.cat([given[:, None], drawn], 1).flatten(0, 1)
        names = [name, *(str(k + 1) for k in range(drawn.shape[1]))] * len(x)

        def draw_strips(scale: int | None, unit: float | None) -> Picture:
            return film_strips(rows, names, context, scale, unit)

        save_images(out, page, draw_strips, usual, lambda: values.flatten(0, 1), spec)
    if trace is not None:
        columns: dict[str, Tensor | np.ndarray] = {name: given}
        columns |= {f"drawn {k + 1}": completion for k, completion in enumerate(drawn.unbind(1))}
        if name == "truth":
            with torch.inference_mode():
                columns["surprise"] = surprise_colours(network.log_prob_map(x, condition))
        films = page.animation(lambda scale, unit: animate_rows(list(columns.values()), list(columns), scale, unit), usual)
        save_film(trace, films, fps or FPS, last_hold(trace, fps or FPS))


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
    out: ImagesOut = None,
    trace: Trace = None,
    fps: Fps = None,
    look: Look = AS_USUAL,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Let a canvas model redraw images. A row of the picture: the image, then its canvas over time.

    A picture of one image (--count 1) also shows where it looks, each glimpse and each stroke (ink blue, eraser orange).
    """
    import torch

    import rastrum

    from ..pictures.animations import reconstruction_sheet, reconstruction_strip, stroke_limit
    from ..pictures.sheets import image_scale, sheet
    from ..strokes import CanvasModel

    page = look.page()
    check_images_out(out, page)
    check_look(look, out, trace)
    check_trace(trace, fps, None, page)
    network = load_model(model, device)
    check_folder(out, network.spec)
    if not isinstance(network, CanvasModel):
        raise ValueError(f"{model} decides pixel by pixel and cannot reconstruct; use complete, or a canvas model such as draw")
    loaded = load_images(network, model, data, images, split, count, binarise, skip_broken=skip_broken)
    dataset = loaded.dataset
    x = dataset.images.long()
    if out or trace:
        page.check(len(x) * 11, network.spec.height, network.spec.width)
    condition = condition_for(network, len(x), conditions, dataset)
    spec, target = network.spec, x / (network.spec.levels - 1)
    usual = image_scale(None, spec.height, spec.width)
    shown = sorted({round(i * network.steps / 9) for i in range(10)})
    rows = torch.zeros(()).expand(len(x) * (1 + len(shown)), *spec.shape)                     # until they are drawn

    def draw_rows(scale: int | None, unit: float | None) -> Picture:
        return sheet(rows, len(shown) + 1, scale, None, ["image", *map(str, shown)], unit)

    if len(x) > 1:
        check_fit(out, page, draw_rows, usual)
    frames = draw(rastrum.reconstruct(network, x, condition, seed), len(x), keep=True)
    if out is not None:
        rows = torch.stack([target, *(frames[i].images for i in shown)], 1).float().flatten(0, 1)

        def draw_sheet(scale: int | None, unit: float | None) -> Picture:
            return reconstruction_strip(target[0], frames, 0, scale, unit=unit) if len(x) == 1 else draw_rows(scale, unit)

        save_images(out, page, draw_sheet, usual, lambda: (frames[-1].images * (spec.levels - 1)).round().long(), spec)
    if trace is not None:
        limit = stroke_limit(frames[1:])

        def draw_frame(frame: Any, scale: int | None, unit: float | None) -> Picture:
            return reconstruction_sheet(target, frame, limit, scale, unit)

        save_film(trace, page.frames(draw_frame, iter(frames[1:]), usual), fps or 6)
    error = float((frames[-1].images - target).square().mean())
    kl = sum(float(frame.info["kl"].mean()) for frame in frames if "kl" in frame.info)
    result = {"model": model, **loaded.facts, "count": len(x), "strokes": len(frames) - 1, "squared_error": error, "kl_nats": kl}
    result |= paths(out, trace)
    scores = f"squared error {error:.4f} per value, KL {kl:.1f} nats per image"
    title = f"{images_of(x)} ({loaded.text}) in {len(frames) - 1} strokes: {scores}"
    answer(result, json, *written(title, out, trace))


# ── shared ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def images_of(x: Tensor) -> str:
    """How many images ``x`` holds, in words."""
    return f"{len(x)} image{'s' * (len(x) != 1)}"


def draw(frames: Iterator[Frame], count: int, keep: bool) -> list[Frame]:
    """The frames of a walk, on the CPU, with a progress bar.

    frames: the walk.
    count: number of images.
    keep: whether all frames are kept, or only the last.
    """
    kept: list[Frame] = []
    for frame in reported(frames, count):
        kept = [*kept, frame] if keep else [frame]
    return kept


def with_bars(network: Model, every: Every | None, count: int) -> bool:
    """Whether an animation shows the probabilities of the values that are drawn; a line says why not, where they were asked for.

    network: the model.
    every: the flag, None for none.
    count: number of images.
    """
    from ..pictures.decisions import MOST_LEVELS
    from ..raster import RasterModel

    if every is None:
        return False
    reason = None
    if not isinstance(network, RasterModel):
        reason = "the model draws stroke by stroke, its decisions are not values of pixels"
    elif network.spec.levels > MOST_LEVELS:
        reason = f"they are drawn for up to {MOST_LEVELS} levels, this model has {network.spec.levels}"
    elif network.spec.channels not in (1, 3):
        reason = f"they are drawn for grey and RGB, this model has {network.spec.channels} channels"
    elif count > MAX_WITH_BARS:
        reason = f"they are drawn for up to {MAX_WITH_BARS} images, these are {count}; ask for fewer"
    if reason is not None:
        messages.print(f"--every: without the bars of probabilities: {reason}")
    return reason is None


def save_walk(
    network: Model,
    walk: Callable[[Any], Iterator[Frame]],
    count: int,
    every: Every | None,
    bars: bool,
    page: Page,
    columns: int | None,
    grid: int | None,
    trace: Path,
    fps: float | None,
) -> list[Frame]:
    """Write the animation of a walk while it goes on.

    network: the model.
    walk: its Frames, for a value of ``every``.
    count: number of images.
    every: the flag, None for a frame per row or stroke.
    bars: whether to show what each value was drawn from.
    page: how large the animation is.
    columns: images per row with bars; None for the most legible.
    grid: images per row without; None for the usual.
    trace: the file.
    fps: the flag.

    Returns the last Frame.
    """
    from ..pictures.animations import frame_sheet
    from ..pictures.decisions import blank_decisions, decision_sheet, moments, usual_scale
    from ..pictures.sheets import image_scale
    from ..raster import RasterModel

    spec, kept = network.spec, []
    stride = every if isinstance(every, int) else spec.channels * (1 if every == "pixel" else spec.width)
    frames = -(-spec.size // stride)
    if not isinstance(network, RasterModel):                              # strokes, not values
        stride = every if isinstance(every, int) else 1
        frames = -(-getattr(network, "steps", 1) // stride)
    walked = keep_last(reported(walk(stride), count), kept)
    if bars and every is not None:
        usual = usual_scale(spec)
        across = columns or page.grid(lambda *how: blank_decisions(spec, count, *how), count, usual)
        check_fit(trace, page, lambda *zoom: blank_decisions(spec, count, across, *zoom), usual)

        def draw_moment(moment: Any, scale: int | None, unit: float | None) -> Picture:
            return decision_sheet(moment, spec, across, scale, unit)

        pictures = page.frames(draw_moment, moments(walked, spec, every), usual)
    else:

        def draw_frame(frame: Any, scale: int | None, unit: float | None) -> Picture:
            return frame_sheet(frame, grid, scale, order_of(network), unit)

        pictures = page.frames(draw_frame, walked, image_scale(None, spec.height, spec.width))
    save_film(trace, pictures, rate_of(frames, fps))
    return kept


def reported(frames: Iterator[Frame], count: int) -> Iterator[Frame]:
    """The same frames, with a progress bar; count: number of images."""
    with progress("drawing", max(count, 1), "images") as report:
        for frame in frames:
            report(frame.fraction * count)
            yield frame.cpu()


def check_walk(trace: Path | None, video: bool, processes: Processes) -> None:
    """Check that an animation can be made where several processes share the images.

    trace: its file; None for none.
    video: whether the images are videos.
    processes: that share them.

    Raises ``ValueError`` for an animation of a walk, which one process takes.
    """
    if trace is not None and not video and processes.count > 1:
        raise ValueError(f"--trace: an animation of a walk is made by one process, and torchrun started {processes.count}; leave it out")


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


def paths(out: str | None, trace: Path | None) -> dict[str, str | None]:
    """The files written, for JSON.

    out, trace: the flags, or None.
    """
    return {"out": out and str(out), "trace": trace and str(trace)}


def written(title: str, *files: str | Path | None) -> list[str]:
    """Lines that name the files written.

    title: the first line.
    files: a line for each that is not None.
    """
    return [title, *(f"  {file}" for file in files if file is not None)]
