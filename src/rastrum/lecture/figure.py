"""What a figure of the lecture is: its name, what makes it of which models, and what can be done with the result.

    Figure(name, title, make, models, notes) ── make(models) ──▶ Still(draw, text)   a page that is drawn in a light or a dark theme
                                                                 Film(frames, text)  an animation
                                                          └────▶ Drawn: caption, command, bytes of a file

Measurements and samples are made once, in ``make``; ``draw`` only puts them on a page. Captions name each model with its training and its
score as its folder states them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import BUNDLED, Origin, bundled, name_of, read_config
from ..data.textures import dead_leaves
from ..generation import sample
from ..model import Model
from ..models import build, load
from ..pictures.films import ANIMATIONS, encode_animation
from ..pictures.formats import PICTURES, Picture, encode_picture, write_picture
from ..pictures.page import Page
from ..protocol import ImageSpec
from ..raster import RasterModel
from .slide import LIGHT, SIZE, Slide, Theme

GATED, DIAGONAL = "rastrum/gated-pixelcnn-binarized-mnist", "rastrum/diagonal-bilstm-binarized-mnist-7-layers"
CLASSES, DRAW = "rastrum/row-lstm-mnist-classes", "rastrum/draw-binarized-mnist"
ARTIST = "rastrum/pixelcnn-plus-plus-cifar10"
ON_A_PROJECTOR = Page(size=SIZE)
UNTRAINED = "No trained model: what is shown is so for all weights."


@dataclass(frozen=True)
class Trained:
    """A model that a figure shows.

    address: what it was loaded by, or "MODEL".
    model: itself.
    images: levels that it is to be shown; None (default) for those that the package has.
    """

    address: str
    model: Model
    images: Tensor | None = None

    @property
    def origin(self) -> Origin:
        """Where it comes from, as its folder says."""
        return self.model.origin or Origin()

    @property
    def label(self) -> str:
        """Its system, as in ``rastrum.MODELS``."""
        return name_of(self.model)

    @property
    def parameters(self) -> int:
        """How many it has."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def score(self) -> str:
        """The first of its scores in short, as its folder states it; "" without one."""
        return "".join(score.brief for score in self.origin.results[:1])

    def __str__(self) -> str:
        origin = self.origin
        parts = [f"{self.address} ({self.label}, {self.parameters:,} parameters)"]
        if origin.data is not None:
            parts.append(f"trained on {origin.data.name}" + (f", {origin.training}" if origin.training else ""))
        parts += [str(origin.results[0])] if origin.results else []
        return "; ".join(parts)


@dataclass(frozen=True)
class Still:
    """A page.

    draw: puts it on a slide; may be called several times.
    text: what it shows, for its caption.
    """

    draw: Callable[[Slide], None]
    text: str


@dataclass(frozen=True)
class Film:
    """An animation.

    frames: its pictures, for a page of some size; may be called several times.
    text: what it shows, for its caption.
    fps: frames per second.
    hold: seconds that the last picture stays.
    """

    frames: Callable[[Page], Iterator[Picture]]
    text: str
    fps: float = 8.0
    hold: float = 3.0


@dataclass(frozen=True)
class Figure:
    """A figure of the lecture.

    name: what ``rastrum figure`` calls it.
    title: of its slide.
    make: of the models, each ``Trained``, a ``Still`` or a ``Film``. It raises ``ValueError`` for models that it cannot show.
    models: which ones: "rastrum/NAME", or the name of a system for the first bundled model of that system.
    several: whether more models than these may be given.
    reads: folder of a record that it shows in place of models, for which ``make`` gets its path; another folder may be given. None: models.
    seed: of what it draws at random, which ``make`` is given as ``seed``; chosen by eye for the bundled models, as captions say. None
        (default): it takes no seed.
    notes: what a speaker may say.
    section: of the lecture.
    """

    name: str
    title: str
    make: Callable[..., Still | Film]
    models: tuple[str, ...] = ()
    several: bool = False
    reads: Path | None = None
    seed: int | None = None
    notes: str = ""
    section: str = ""

    def defaults(self) -> list[str] | None:
        """Addresses of the bundled models that it shows; None where one of them is not bundled."""
        there = bundled()
        found = [(slot if slot in there else None) if slot.startswith(BUNDLED) else _of_system(slot) for slot in self.models]
        return None if None in found else [address for address in found if address is not None]

    def drawn(self, models: Sequence[str | Path | Model] = (), images: Tensor | None = None, seed: int | None = None) -> Drawn:
        """The figure of some models.

        models: folders, names or models; empty (default) for the bundled ones.
        images: levels (N, *spec.shape) to show them where the figure shows images; None (default) for those that the package has.
        seed: of what is drawn at random; None (default) for the figure's own.

        Raises ``ValueError`` where a model is needed that is not bundled, for models, or folders, of another number or kind, and for a seed
        of a figure that takes none.
        """
        if seed is not None and self.seed is None:
            raise ValueError(f"{self.name}: takes no seed, got {seed}; leave it out")
        if self.reads is not None:
            folders = [str(each) for each in models if not isinstance(each, Model)]
            if len(folders) < len(models) or len(folders) > 1:
                raise ValueError(f"{self.name}: shows what `rastrum compare` wrote to a folder; expected one at most, got {len(models)}")
            return Drawn(self, (), self.make(Path(*folders) if folders else self.reads), (*map(quote, folders),))
        addresses = list(models)
        if not addresses:
            defaults = self.defaults()
            if defaults is None:
                needed, others = ", ".join(slot.removeprefix(BUNDLED) for slot in self.models), " FOLDER" * len(self.models)
                raise ValueError(f"{self.name}: not all of {needed} is bundled; give models: rastrum figure {self.name}{others}")
            addresses = [*defaults]
        if len(addresses) < len(self.models) or (len(addresses) > len(self.models) and not self.several):
            least = "at least " if self.several else ""
            count = f"{least}{len(self.models)}" if self.models else "none"
            raise ValueError(f"{self.name}: expected {count} of the models {', '.join(self.models) or 'there are'}, got {len(addresses)}")
        shown = [
            Trained("MODEL", each, images) if isinstance(each, Model) else Trained(str(each), loaded(str(each)), images)
            for each in addresses
        ]
        used = self.seed if seed is None else seed
        with torch.no_grad():
            content = self.make(*shown, **({} if used is None else {"seed": used}))
        given = [*(each.address for each in shown if models), *(() if seed is None else ("--seed", str(seed)))]
        return Drawn(self, tuple(shown), content, tuple(given), used)


@dataclass(frozen=True)
class Drawn:
    """A figure that was made, as ``rastrum.lecture.figure`` returns it; in a notebook it shows itself.

    figure: which one.
    models: that it shows.
    content: what ``make`` returned.
    given: addresses of the models where they are not the bundled ones, and further words of the command.
    seed: of what it draws at random; None where it takes none.
    """

    figure: Figure = field(repr=False)
    models: tuple[Trained, ...]
    content: Still | Film = field(repr=False)
    given: tuple[str, ...] = ()
    seed: int | None = None

    @property
    def moves(self) -> bool:
        """Whether it is an animation."""
        return isinstance(self.content, Film)

    @property
    def caption(self) -> str:
        """What it shows, by which seed, and which models with their training and score."""
        seed = [] if self.seed is None else [f"Seed {self.seed}" + (", chosen by eye for good samples." if not self.given else ".")]
        return " ".join([self.content.text.strip(), *seed, *(f"Model: {each}." for each in self.models)])

    @property
    def command(self) -> str:
        """What makes it."""
        name = self.figure.name
        return " ".join(["rastrum figure", name, *self.given, f"--out {name}{'.mp4' if self.moves else '.png'}"])

    def encode(self, ending: str, page: Page = ON_A_PROJECTOR, theme: Theme = LIGHT) -> bytes:
        """The bytes of a file.

        ending: ".png", ".webp", ".svg" or ".pdf"; of an animation ".mp4", ".gif", ".webp" or, for its last picture, ".png".
        page: how large it is and its title; 1920x1080 without a title by default.
        theme: of a figure that does not move, light by default.

        Raises ``ValueError`` for an ending that it does not have.
        """
        if isinstance(self.content, Film):
            frames = self.content.frames(page)
            if ending == ".png":
                *_, last = frames
                return encode_picture(last)
            if ending not in ANIMATIONS:
                raise ValueError(f"{self.figure.name}: moves; expected a name that ends in .mp4, .gif, .webp or .png, got {ending!r}")
            return encode_animation(frames, self.content.fps, self.content.hold, ending)
        if ending not in PICTURES:
            raise ValueError(f"{self.figure.name}: does not move; expected a name that ends in {' or '.join(PICTURES)}, got {ending!r}")
        slide = Slide(theme, page.title or "")
        self.content.draw(slide)
        return replace(page, title=None).encode_figure(slide.figure, ending)

    def save(self, path: str | Path, page: Page = ON_A_PROJECTOR, theme: Theme = LIGHT) -> None:
        """Write it.

        path: its ending chooses the format.
        page, theme: as for ``encode``, with its errors.
        """
        ending = Path(path).suffix.lower()
        write_picture(path, ending, self.encode(ending, page, theme))

    def _repr_png_(self) -> bytes:
        return self.encode(".png", Page(size=(960, 540)))


# ── models and images ────────────────────────────────────────────────────────────────────────────────────────────────────


def _of_system(name: str) -> str | None:
    """The first bundled model of a system."""
    return next((address for address in bundled() if read_config(address)["model"] == name), None)


@cache
def loaded(address: str) -> Model:
    """A saved model, loaded once. address: as ``rastrum.load`` takes it."""
    return load(address)


def untrained(name: str, spec: ImageSpec, preset: str = "small", **sizes: Any) -> RasterModel:
    """A raster model with random weights.

    name: in ``rastrum.MODELS``.
    spec: of the images.
    preset: of its sizes, "small" by default.
    sizes: that replace the preset's.
    """
    model = build(name, spec, preset, seed=0, **sizes)
    assert isinstance(model, RasterModel)
    return model.eval()


@cache
def digits(count: int, seed: int = 4) -> Tensor:
    """Digits of each class in turn, drawn by the bundled Row LSTM: images that the package has without any data.

    count: how many.
    seed: of the draws, 4 by default.

    Returns levels (count, 1, 28, 28), 0 or 1.
    """
    return sample(loaded(CLASSES), count, torch.arange(count) % 10, seed=seed).as_subclass(Tensor)


def temperature_of(model: Model) -> float:
    """At which temperature a model's samples are shown, as its folder says; 1 where it says nothing."""
    return (model.origin or Origin()).temperature or 1.0


@cache
def photographs(count: int) -> Tensor:
    """Pictures in the manner of CIFAR-10, drawn by the bundled PixelCNN++ at the temperature that its folder says: as much of photographs
    as the package has without any data.

    count: how many.

    Returns levels (count, 3, 32, 32), 0 … 255.
    """
    artist = loaded(ARTIST)
    return sample(artist, count, temperature=temperature_of(artist), seed=0).as_subclass(Tensor).long()


def disks(channels: int, height: int, width: int) -> Tensor:
    """A picture that is nobody's photograph: disks that cover one another, with soft edges, lit from one side, with a camera's noise.

    channels: 1 or 3. height, width: in pixels.

    Returns levels (channels, height, width), 0 … 255.
    """
    random, side = np.random.RandomState(3), max(height, width)
    colours = random.uniform(40, 215, (256, 1)) + random.normal(0, 20, (256, channels))
    coarse = torch.from_numpy(colours[dead_leaves(-(-side // 2), random)]).permute(2, 0, 1)
    soft = torch.nn.functional.interpolate(coarse[None], scale_factor=2, mode="bilinear")[0, :, :side, :side].permute(1, 2, 0).numpy()
    lit = soft * np.linspace(1.1, 0.8, side)[:, None, None] + random.normal(0, 1.5, (side, side, 1))
    return torch.from_numpy(np.rint(lit.clip(0, 255))[:height, :width]).permute(2, 0, 1).long()


def images_for(trained: Trained, count: int) -> tuple[Tensor, str]:
    """Images that a model can be shown.

    trained: the model.
    count: how many.

    Returns levels (at most count, *spec.shape), and where they come from: those it is to be shown, or ``digits`` or ``photographs`` where
    they have the size, or the model's own samples.
    """
    model = trained.model
    if trained.images is not None:
        return trained.images[:count].to(model.device), ""
    if model.spec.shape == (1, 28, 28) and model.spec.levels == 2:
        return digits(count), f"The images were drawn by {CLASSES}."
    if model.spec.shape == (3, 32, 32) and model.spec.levels == 256:
        return photographs(count), f"The images are no photographs: they were drawn by {ARTIST}."
    return sample(model, count, seed=1).as_subclass(Tensor).long(), "The images are the model's own samples."


def chosen_words(value: float) -> str:
    """A number of bits or the like for a label, with three digits or so."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
