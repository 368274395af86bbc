"""What users call: ``sample``, ``complete``, ``generate``, ``reconstruct``, for models of both kinds.

``sample`` and ``complete`` split large batches and return the images. ``generate``, ``complete_frames`` and ``reconstruct`` take all images
at once and yield Frames while they are drawn.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal, overload

import torch
from torch import Tensor

from .images import Images
from .memory import ask
from .model import Model
from .particles import completions
from .processes import ALONE, Processes
from .progress import Progress, Report, bar
from .protocol import ArrayLike, Frame, as_tensor, check_images, to_images, to_levels
from .raster import Backend, RasterModel
from .strokes import ROWS, CanvasModel
from .walk import MAX_BATCH, Sample, Watched, walk

REPORTS = 16                   # how often a batch says how far it is, where someone watches
WALK = 48                      # bytes per value of an image that is being drawn: values, masks and Frames of them

Every = Literal["row", "decision"] | int


def _check_call(model: object, name: str, count: int, seed: int, temperature: float) -> None:
    if not isinstance(model, RasterModel | CanvasModel):
        inside = "; give its .model" if isinstance(getattr(model, "model", None), Model) else ""
        raise ValueError(f"model: expected a RasterModel or a CanvasModel, got {type(model).__name__}{inside}")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {count!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed: expected a whole number, got {seed!r}")
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a finite number above 0, got {temperature!r}")


def _check_backend(backend: Backend) -> None:
    if backend not in (None, "native", "torch", "graphs", "naive"):
        raise ValueError(f"backend: expected None, 'native', 'torch', 'graphs' or 'naive', got {backend!r}")


def _last(frames: Iterator[Frame], report: Report | None = None, done: int = 0) -> Tensor:
    """The levels of the last Frame; ``report`` is called with how many images are drawn, ``done`` of them before these."""

    def watched() -> Iterator[Frame]:
        for frame in frames:
            if report is not None and frame.fraction:
                report(done + frame.fraction * len(frame.images))
            yield frame

    values = deque(watched(), maxlen=1)[0].values
    assert values is not None
    return values


def _every(model: Model, report: Report | None) -> int:
    """Decisions between two Frames of a walk of which only the last counts."""
    size = model.spec.size
    return max(model.spec.width * model.spec.channels, -(-size // REPORTS)) if report is not None and report.wanted else size


def sample(
    model: Model,
    count: int,
    condition: ArrayLike | int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    backend: Backend = None,
    *,
    progress: Progress = None,
    processes: Processes = ALONE,
) -> Images:
    """Draws images. The same seed draws the same images, whatever the batch or device.

    model: a raster or canvas model.
    count: number of images, at least 1.
    condition: one per image, or one for all; None for an unconditional model.
    temperature: T > 0; every conditional becomes p^(1/T), renormalised. Default 1.
    seed: of the noise, which belongs to (image, decision).
    backend: what runs the steps of a raster model: "native" (compiled, float32 on a CPU, as many threads as torch is set to use), "torch",
        "graphs" (torch, on a GPU with a CUDA graph per row, which pays from the second batch of a size on), or "naive" (a full forward per
        decision); None = the fastest that can, of native, torch and naive. They draw the same images up to rounding.
    progress: a bar; None (default): in a terminal or a notebook after two seconds, True: at once, False: never; or a function that is
        called with the number of images done.
    processes: that share the work (``rastrum.processes.join()``), this one alone by default. Each has to call, and each gets all images,
        the same as from one process.

    Returns integer levels (count, *spec.shape), uint8 up to 256 levels, else int64: ``Images``, which a notebook shows.
    Raises ``ValueError`` for a count below 1, a temperature not above 0 or a wrong condition.
    """
    with bar("drawing", count, "images", progress, processes=processes.count) as report:
        _check_call(model, "count", count, seed, temperature)
        _check_backend(backend)
        _ask(model, "count", count)
        checked = model.check_condition(condition, count)

        def draw(images: slice, done: int) -> Tensor:
            part, size = None if checked is None else checked[images], images.stop - images.start
            if isinstance(model, CanvasModel):
                if report.wanted and type(model).sample is CanvasModel.sample:
                    return _last(model.generate(size, part, temperature, seed, first=images.start), report, done)
                return model.sample(size, part, temperature, seed, images.start)
            assert isinstance(model, RasterModel)
            chooser, every = Sample(seed, temperature, images.start), _every(model, report)
            return _last(walk(model, size, chooser, part, every=every, backend=backend), report, done)

        step = MAX_BATCH if isinstance(model, RasterModel) else ROWS
        return to_images(_drawn(model, count, step, draw, backend, processes), model.spec)


def _drawn(
    model: Model, count: int, step: int, draw: Callable[[slice, int], Tensor], backend: Backend, processes: Processes
) -> Tensor:
    """Levels (count, *shape): ``draw`` of parts of at most ``step`` images; its second argument is how many this process drew before.

    Bits of the native interpreter do not depend on how images are divided into parts. Others may, so processes share whole parts of them.
    """
    starts, stop = range(0, count, step), count
    if processes.count > 1 and _is_native(model, backend):
        share = processes.share(count)
        starts, stop = range(share.start, share.stop, step), share.stop
    else:
        starts = starts[processes.share(len(starts))]
    parts = [slice(start, min(start + step, stop)) for start in starts]
    images = to_levels(torch.empty(sum(part.stop - part.start for part in parts), *model.spec.shape, device=model.device), model.spec)
    done = 0
    for part in parts:                                                    # not kept besides: many images take no more than their levels
        size = part.stop - part.start
        images[done : done + size] = draw(part, done)
        done += size
    return processes.joined(images).to(model.device)


def _is_native(model: Model, backend: Backend) -> bool:
    """Whether the native interpreter draws, from the first operation to the last."""
    if not isinstance(model, RasterModel) or not model.has_program or backend not in (None, "native"):
        return False
    from .program import suits_native

    return suits_native(model.dtype, model.device) and model.lowered().head is not None


def _ask(model: Model, name: str, count: int, at_once: int = 0) -> None:
    """Raises ``ValueError`` if the images that a call returns do not fit the memory.

    count: images. at_once: how many of them are walked at the same time, and kept in every Frame.
    """
    size = model.spec.size * (1 if model.spec.levels <= 256 else 8)
    needed = count * size + at_once * WALK * model.spec.size
    ask(f"{name}: {count:,} images", needed, "ask for fewer at a time; the noise belongs to an image's number")


@overload
def complete(
    model: RasterModel,
    images: ArrayLike,
    known: ArrayLike,
    condition: ArrayLike | int | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    particles: None = None,
    backend: Backend = None,
    *,
    progress: Progress = None,
    processes: Processes = ALONE,
) -> Images: ...


@overload
def complete(
    model: RasterModel,
    images: ArrayLike,
    known: ArrayLike,
    condition: ArrayLike | int | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    *,
    particles: int,
    backend: Backend = None,
    progress: Progress = None,
    processes: Processes = ALONE,
) -> tuple[Images, Tensor]: ...


def complete(
    model: RasterModel,
    images: ArrayLike,
    known: ArrayLike,
    condition: ArrayLike | int | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    particles: int | None = None,
    backend: Backend = None,
    *,
    progress: Progress = None,
    processes: Processes = ALONE,
) -> Images | tuple[Images, Tensor]:
    """Fills in what is not ``known``, drawing each unknown value given those before it in the model's order.

    model: a raster model.
    images: levels (B, *spec.shape), anything valid where unknown.
    known: bool, broadcasts to the images; known values come back unchanged.
    condition: one per image, or one for all; None for an unconditional model.
    num_samples: completions per image.
    temperature: as for ``sample``: every conditional is p^(1/T), renormalised, for draws and for the weights of particles.
    seed: of the noise; each completion has its own image number.
    particles: K weighted walks per image; None = one plain walk.
    backend, progress, processes: as for ``sample``.

    Without ``particles``, known values that come later in the order do not steer the draw: completions follow p(unknown | known) only where
    everything known comes first. With particles=K they do: K walks per image are weighted by the probability of the known values that they
    meet, and resampled by weight where few of them carry most of it (particles.py). The more particles, the nearer to p(unknown | known).
    The num_samples completions of an image are independent draws from its K particles by their last weights, so some may be equal.

    Returns (B, *shape), or (B, num_samples, *shape) if num_samples > 1; with particles also log weights (B, K), float64 nats, unnormalised.
    The mean of exp(weights) estimates p(known), under the model at this temperature, without bias: logsumexp(weights) − log K estimates
    log p(known). p is that of the integer CDF, as in a file: no known value has less than 2^-24.
    Raises ``ValueError`` for canvas models, which have no exact conditionals: ``reconstruct`` redraws an image with those that have a
    posterior.
    """
    x, mask, condition = _check_completion(model, images, known, condition, num_samples, temperature, seed, particles, backend)
    with bar("completing", len(x) * num_samples, "images", progress, processes=processes.count) as report:
        if particles is not None:
            chunks: list[tuple[Tensor, Tensor]] = []
            for chunk in completions(model, x, mask, condition, num_samples, particles, temperature, seed, backend, processes):
                chunks.append(chunk)
                report(num_samples * sum(len(weights) for _, weights in chunks))
            none = x[:0, None].expand(-1, num_samples, *model.spec.shape), torch.zeros(0, particles, dtype=torch.float64)
            drawn, weights = (processes.joined(torch.cat(parts)) for parts in zip(none, *chunks, strict=True))
            drawn = drawn.to(model.device)
            return to_images(drawn.squeeze(1) if num_samples == 1 else drawn, model.spec), weights
        drawn = _completed(model, x, mask, condition, num_samples, temperature, seed, backend, report, processes)
        return to_images(drawn if num_samples == 1 else drawn.unflatten(0, (len(x), num_samples)), model.spec)


def _completed(
    model: RasterModel,
    x: Tensor,
    known: Tensor,
    condition: Tensor | None,
    num_samples: int,
    temperature: float,
    seed: int,
    backend: Backend,
    report: Report,
    processes: Processes,
) -> Tensor:
    """Levels (B · num_samples, *shape), one walk for each; the arguments as ``_check_completion`` gives them."""

    def draw(images: slice, done: int) -> Tensor:
        at = torch.arange(images.start, images.stop) // num_samples
        part = None if condition is None else condition[at]
        chooser, every = Sample(seed, temperature, images.start), _every(model, report)
        return _last(walk(model, len(at), chooser, part, known[at], x[at], every=every, backend=backend), report, done)

    return _drawn(model, len(x) * num_samples, MAX_BATCH, draw, backend, processes)


def complete_frames(
    model: RasterModel,
    images: ArrayLike,
    known: ArrayLike,
    condition: ArrayLike | int | None = None,
    num_samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
    particles: int | None = None,
    backend: Backend = None,
    probabilities: bool = False,
    every: Every = "row",
) -> Iterator[Frame]:
    """The same completions as ``complete``, as Frames while they are drawn.

    model, images, known, condition, num_samples, temperature, seed, particles, backend: as for ``complete``, with its errors.
    probabilities: as for ``generate``: a Frame per decision, with what it was drawn from; not with particles.
    every: as for ``generate``; of no account with particles.

    Yields Frames of (B · num_samples, *shape), the completions of one image next to each other: with particles one per finished group of
    images. ``info["known"]`` is the mask of what was given, with particles also of the images that are finished; with
    particles, ``info["log_weights"]`` are the weights (b, K) of the b finished images.
    """
    x, mask, condition = _check_completion(model, images, known, condition, num_samples, temperature, seed, particles, backend)
    index = torch.arange(len(x)).repeat_interleave(num_samples)
    if probabilities and particles is not None:
        raise ValueError("probabilities: particles are resampled on their way, there is no single walk to watch; leave out one of the two")
    if particles is not None:
        parts = completions(model, x, mask, condition, num_samples, particles, temperature, seed, backend)
        return _particle_frames(model, x[index], mask[index], parts, num_samples, particles)
    _ask(model, "num_samples", len(index), at_once=len(index))
    each = None if condition is None else condition[index]
    if probabilities:
        return _watch(model, len(index), Watched(seed, temperature), each, mask[index], x[index], backend)
    return walk(model, len(index), Sample(seed, temperature), each, mask[index], x[index], every, backend)


def _particle_frames(
    model: RasterModel, x: Tensor, known: Tensor, parts: Iterator[tuple[Tensor, Tensor]], num_samples: int, particles: int
) -> Iterator[Frame]:
    """Frames in which more and more images are finished; x, known: (B · num_samples, *shape)."""
    x, known, log_weights = x.masked_fill(~known, 0), known.clone(), torch.zeros(0, particles, dtype=torch.float64)

    def frame() -> Frame:
        done = num_samples * len(log_weights) / max(len(x), 1)
        return Frame((x / (model.spec.levels - 1)).float(), x.clone(), done, info={"known": known.clone(), "log_weights": log_weights})

    yield frame()
    for values, weights in parts:
        start = num_samples * len(log_weights)
        log_weights = torch.cat([log_weights, weights])
        finished = slice(start, num_samples * len(log_weights))
        x[finished], known[finished] = values.flatten(0, 1), True
        yield frame()


def _check_completion(
    model: RasterModel,
    images: ArrayLike,
    known: ArrayLike,
    condition: ArrayLike | int | None,
    num_samples: int,
    temperature: float,
    seed: int,
    particles: int | None,
    backend: Backend,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Images (B, *shape), mask (B, *shape) and conditions (B, …) as tensors; ``ValueError`` as ``complete``."""
    if not isinstance(model, RasterModel):
        instead = "reconstruct" if isinstance(model, CanvasModel) and model.has_posterior else "sample, which draws whole images,"
        raise ValueError(f"{type(model).__name__} cannot complete images, it has no exact conditionals; use {instead} or a raster model")
    _check_call(model, "num_samples", num_samples, seed, temperature)
    _check_call(model, "particles", 1 if particles is None else particles, seed, temperature)
    _check_backend(backend)
    if particles is not None:
        _ask(model, "particles", particles, at_once=particles)
    x = check_images(model.spec, images, model.device)
    mask = as_tensor("known", known)
    if mask.dtype != torch.bool:
        raise ValueError(f"known: expected a bool mask, got {mask.dtype}")
    try:
        mask = mask.to(model.device).expand(x.shape)
    except RuntimeError:
        raise ValueError(f"known: shape {tuple(mask.shape)} does not broadcast to {tuple(x.shape)}") from None
    _ask(model, "num_samples", len(x) * num_samples)
    return x, mask, model.check_condition(condition, len(x))


def generate(
    model: Model,
    count: int,
    condition: ArrayLike | int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    every: Every = "row",
    backend: Backend = None,
    probabilities: bool = False,
) -> Iterator[Frame]:
    """The same images as ``sample``, as Frames while they are drawn.

    model, count, condition, temperature, seed, backend: as for ``sample``, with its errors.
    every: a Frame per row of a raster model or stroke of a canvas model ("row", default), per decision ("decision"), or per that many
        decisions.
    probabilities: of a raster model, what each decision was drawn from, in Frames per decision: in ``info`` its flat index "decision",
        "probabilities" (count, levels) at this temperature, and the values "drawn" (count,). Default False.

    Yields Frames, the first empty, the last finished.
    """
    _check_call(model, "count", count, seed, temperature)
    _check_backend(backend)
    _ask(model, "count", count, at_once=count)
    checked = model.check_condition(condition, count)
    if isinstance(model, CanvasModel):
        if probabilities:
            raise ValueError(f"probabilities: {type(model).__name__} draws stroke by stroke, its decisions are not values; leave it out")
        return model.generate(count, checked, temperature, seed, every)
    assert isinstance(model, RasterModel)
    if probabilities:
        return _watch(model, count, Watched(seed, temperature), checked, None, None, backend)
    return walk(model, count, Sample(seed, temperature), checked, every=every, backend=backend)


def _watch(
    model: RasterModel,
    batch: int,
    chooser: Watched,
    condition: Tensor | None,
    known: Tensor | None,
    values: Tensor | None,
    backend: Backend,
) -> Iterator[Frame]:
    """A Frame per decision, those that were drawn with their probabilities."""
    for frame in walk(model, batch, chooser, condition, known, values, "decision", backend):
        if chooser.last is not None and chooser.last[0] == frame.info["decisions"] - 1:
            t, chances, drawn = chooser.last
            frame.info |= {"decision": int(model.order[t]), "probabilities": chances, "drawn": drawn}
        yield frame


def reconstruct(model: CanvasModel, images: ArrayLike, condition: ArrayLike | int | None = None, seed: int = 0) -> Iterator[Frame]:
    """Redraws images with a canvas model: encodes each into latents, and draws it from them.

    model: a canvas model with a posterior.
    images: levels (B, *spec.shape).
    condition: one per image, or one for all; None for an unconditional model.
    seed: of the latents.

    Yields a Frame per stroke, the first empty; ``info`` holds read window, glimpse, write patch and KL of each.
    Raises ``ValueError`` for a raster model, which has no posterior: ``complete`` fills in a part of an image with it; and for an
    adversarial one, which has none either.
    """
    if not isinstance(model, CanvasModel):
        raise ValueError(f"{type(model).__name__} cannot reconstruct, it has no latent code; use complete, or a canvas model such as draw")
    model.require_posterior()
    x = check_images(model.spec, images, model.device)
    return model.reconstruct(x, model.check_condition(condition, len(x)), seed)
