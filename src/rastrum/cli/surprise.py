"""``score --surprise``: where images surprise a raster model, as one sheet of some images or as a picture of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .output import ANIMATIONS, PICTURES, named, save_figure, save_film
from .show import check_suffix, progress

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..data.dataset import Dataset
    from ..pictures.formats import Picture
    from ..pictures.page import Page
    from ..raster import RasterModel

ON_A_SHEET = 64                # images; more are too small to see, and take minutes to draw


def is_folder(path: Path, video: bool) -> bool:
    """Whether a picture of each image is asked for.

    path: a folder, or a name without ending; or of a sheet, .png, .webp, .svg or .pdf, or for videos an animation.
    video: whether the images are videos.

    Raises ``ValueError`` for any other ending.
    """
    if path.is_dir() or (not path.suffix and not path.exists()):
        return True
    from ..pictures.films import require_encoder

    check_suffix("--surprise", path, *dict.fromkeys((*PICTURES, *(ANIMATIONS if video else ()))))
    require_encoder(path.suffix.lower())
    return False


def picture_names(names: Sequence[str]) -> list[str]:
    """A name for the picture of each image, relative to a folder: that of the image, ending in .png. No two are the same.

    names: of the images, in which / separates folders.
    """
    taken: set[str] = set()
    found = []
    for i, name in enumerate(names):
        path = PurePosixPath(name)
        stem = name if path.suffix.endswith("]") or not path.suffix else str(path.with_suffix(""))
        choices = (f"{stem}.png", f"{name}.png", *(f"{name}-{i + n}.png" for n in range(len(names) + 1)))
        choice = next(each for each in choices if each.casefold() not in taken)   # some systems do not tell A from a
        taken.add(choice.casefold())
        found.append(choice)
    return found


def check_folder(folder: Path, pictures: Sequence[str], dataset: Dataset) -> None:
    """Raises ``ValueError`` where a picture would lie among the images that are scored, and perhaps replace one of them.

    folder: of the pictures.
    pictures: their names.
    dataset: the images.
    """
    from ..data.sources import as_path

    source = as_path(dataset.name)
    if source is None or not source.exists():
        return
    root, target = (source if source.is_dir() else source.parent).resolve(), folder.resolve()
    images = {root / name for name in dataset.names}
    if (source.is_dir() and target.is_relative_to(root)) or any(target / picture in images for picture in pictures):
        raise ValueError(f"--surprise: {str(folder)!r} lies in the folder of the images that are scored; choose another")


def log_prob_maps(network: RasterModel, dataset: Dataset) -> Tensor:
    """Nats of each value, summed over channels: (N, …, 1, H, W) float32.

    network: the model.
    dataset: the images, with their conditions.
    """
    import torch

    from ..evaluation import conditions_for

    given, size, parts = conditions_for(network, dataset), network.images_at_a_time, []
    with progress("surprise", len(dataset), "images") as report, torch.inference_mode():
        for start in range(0, len(dataset), size):
            at = slice(start, start + size)
            parts.append(network.log_prob_map(dataset.images[at], None if given is None else given[at]).sum(-3, keepdim=True).float().cpu())
            report(min(start + size, len(dataset)))
    return torch.cat(parts)


def save_sheet(network: RasterModel, dataset: Dataset, path: Path, page: Page) -> None:
    """Write images above their surprise, in bits per pixel on one scale; for videos X.gif, X.webp or X.mp4 plays them.

    network: the model.
    dataset: the images.
    path: of the picture or the animation.
    page: how large it is.
    """
    from ..pictures.plots import surprise_map
    from ..pictures.sheets import image_scale
    from ..pictures.videos import FPS, animate_rows, last_hold, surprise_colours

    nats, pictures, spec = log_prob_maps(network, dataset), dataset.images / (network.spec.levels - 1), network.spec
    if spec.frames > 1 and path.suffix.lower() in ANIMATIONS:
        videos = [pictures, surprise_colours(nats)]
        films = page.animation(
            lambda scale, unit: animate_rows(videos, ["truth", "surprise"], scale, unit), image_scale(None, spec.height, spec.width)
        )
        save_film(path, films, FPS, last_hold(path, FPS))
    elif spec.frames > 1:
        save_figure(path, page, surprise_map(pictures.flatten(0, 1), nats.flatten(0, 1), spec.frames))
    else:
        save_figure(path, page, surprise_map(pictures, nats, page.columns(len(pictures), 2 * spec.height, spec.width) or 8))


def save_each(network: RasterModel, dataset: Dataset, folder: Path, pictures: Sequence[str], page: Page) -> None:
    """Write a picture of each image: beside it, or for a video below it, its surprise. All have one colour scale.

    network: the model.
    dataset: the images.
    folder: made if need be.
    pictures: their names.
    page: how large they are.
    """
    import numpy as np

    from ..files import write_files
    from ..pictures.sheets import image_scale, sheet
    from ..pictures.videos import surprise_colours

    nats, (frames, channels, height, width) = log_prob_maps(network, dataset), (network.spec.frames, *network.spec.shape[-3:])
    finite = nats[nats.isfinite()]
    brightest = -float(finite.min()) if len(finite) else 1.0
    for name, image, surprise in zip(pictures, dataset.images, nats, strict=True):
        x = (image / (network.spec.levels - 1)).view(frames, channels, height, width).numpy()
        x = x if channels == 3 else np.repeat(x[:, :1], 3, 1)
        colours = surprise_colours(surprise.view(frames, 1, height, width), brightest)
        path, both = folder / name, np.concatenate([x, colours.clip(0, 1)])

        def draw(scale: int | None, unit: float | None, both: np.ndarray = both) -> Picture:
            return sheet(both, max(2, frames), scale, unit=unit)

        with named():
            write_files(path.parent, {path.name: page.encode(draw, image_scale(None, height, width), ".png")})
