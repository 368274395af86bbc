"""Classifying an image by a few glimpses through DRAW's window, and networks of the same size that see all of it, for comparison.

Source: Gregor, Danihelka, Graves, Rezende, Wierstra, "DRAW: A Recurrent Neural Network For Image Generation", 2015, section 4.1; the task
is that of Mnih, Heess, Graves, Kavukcuoglu, "Recurrent Models of Visual Attention", 2014 (data set ``cluttered-mnist``).

    h_{t−1} ─▶ window ─▶ glimpse = read(x) ─▶ ReLU layer ─▶ LSTM ─▶ h_t ─▶ …                h_T ─▶ classes

    p_t = W h_{t−1} + b_t, five parameters                   (21)        N by N filters placed by them                 (22 … 26)
    g_t = γ · F_Y · x · F_Xᵀ                                 (27)        log p(class | x) = log softmax(V h_T + v)

Where to look is learned from the loss of the class alone, through the window, whose filters are differentiable.

What differs from the paper: each glimpse has a bias b_t of its own, so that the first window starts as wide as the image, with filters wide
enough to see every pixel, and the later ones start narrower; a ReLU layer before the LSTM reads the glimpse and the window's parameters.

Dimensions: B batch · C channels · H, W image · N filters along a side · S size of the LSTM.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autocast import restored
from ..config import OptimConfig
from ..layers.attention import Window, make_window
from ..layers.lstm import cell, reorder_drawn_gates
from ..model import Model
from ..models.presets import check_config
from ..protocol import ArrayLike, ConditionSpec, ImageSpec, check_condition, check_images

# Trains the classifiers here well; the learning rate is for the networks that see the whole image.
TRAINING = OptimConfig(learning_rate=1e-2, warm_up=100, ema=0.0, clip=5.0, batch=128, micro_batch=None)


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """Sizes of a ``ReadingClassifier``.

    glimpses: per image.
    read: filters along a side of the window, N.
    hidden: size of the LSTM, and of the layer before it.
    """

    glimpses: int = 8
    read: int = 12
    hidden: int = 128


class Classifier(Model):
    """Base of the networks here: levels in, logits of the classes out.

    The label of an image is the condition of the loss, so classifiers train through ``rastrum.train`` like any model.

    spec: of the images.
    classes: how many, at least 2.

    Raises ``ValueError`` for fewer than two classes and for videos.
    """

    conditions = ("class",)

    def __init__(self, spec: ImageSpec, classes: int) -> None:
        if type(classes) is not int or classes < 2:
            raise ValueError(f"classes: expected a whole number of at least 2, got {classes!r}")
        if spec.frames > 1:
            raise ValueError(f"frames: a classifier takes still images, got {spec.frames} frames")
        super().__init__(spec, condition_spec=ConditionSpec("class", classes))
        self.classes = classes

    @abstractmethod
    def logits(self, x: ArrayLike) -> Tensor:
        """The logits of each class.

        x: integer levels (B, C, H, W).

        Returns (B, classes).
        """

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """−log p(label | x) in nats, (B,).

        seed: not used.
        x: levels (B, *shape).
        condition: the labels (B,), whole numbers below ``classes``.

        Raises ``ValueError`` for images of another spec, and labels that are missing or out of range.
        """
        logits = restored(self.logits(x))
        labels = check_condition(self.condition_spec, condition, len(logits), logits.device)
        assert labels is not None
        return F.cross_entropy(logits, labels, reduction="none")

    def _unit(self, x: ArrayLike) -> Tensor:
        weight = next(self.parameters())
        return check_images(self.spec, x, weight.device).to(weight.dtype) / (self.spec.levels - 1)


class ReadingClassifier(Classifier):
    """The classifier that reads by glimpses.

    spec: of the images.
    classes: their number.
    config: its sizes; None (default) for the defaults of ``ReadingConfig``.

    Raises ``ValueError`` for a setting below 1, and for more filters than the image has pixels along a side.
    """

    def __init__(self, spec: ImageSpec, classes: int, config: ReadingConfig | None = None) -> None:
        super().__init__(spec, classes)
        self.config = config = config or ReadingConfig()
        check_config(config, spec)
        side = max(spec.height, spec.width)
        if config.read > side:
            have = f"an image of {spec.height}x{spec.width}"
            raise ValueError(f"read={config.read} filters do not fit {have}; at most {side}, or WholeImageClassifier, which has no window")
        hidden = config.hidden
        self.start = nn.Parameter(torch.zeros(2, hidden))  # of the LSTM and its cell
        self.where = nn.Linear(hidden, 5)
        self.looks = nn.Parameter(torch.zeros(config.glimpses, 5))
        self.features = nn.Linear(spec.channels * config.read**2 + 4, hidden)
        self.memory = nn.Linear(2 * hidden, 4 * hidden)
        reorder_drawn_gates(self.memory, hidden)
        self.output = nn.Linear(hidden, classes)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """The first window starts as the whole image, seen without gaps, the later ones with half its side. Forget gates start open."""
        nn.init.zeros_(self.where.bias)
        self.where.weight *= 0.3
        wide = max(self.spec.height, self.spec.width) / self.config.read / 2
        self.looks[0, 2] = 2 * math.log(wide)
        self.looks[1:, 2] = 2 * math.log(wide / 2)
        self.looks[1:, 3] = -math.log(2)
        hidden = self.config.hidden
        o, f, i, g = self.memory.weight[:, hidden:].split(hidden)
        for gate in (i, f, o, g):  # in this order a seed gives what it always gave
            nn.init.orthogonal_(gate)
        nn.init.zeros_(self.memory.bias)
        self.memory.bias[hidden : 2 * hidden] = 1.0

    def logits(self, x: ArrayLike) -> Tensor:
        *_, (_, _, hidden) = self._looks(x)
        return self.output(hidden)

    @torch.no_grad()
    def glimpses(self, x: ArrayLike) -> tuple[Tensor, Tensor]:
        """Where it looks, and what it sees.

        x: integer levels (B, C, H, W).

        Returns boxes (B, glimpses, 4), centre row, centre column, height and width in pixels, and patches (B, glimpses, C, N, N) in [0, 1].
        """
        seen = [(window.box, glimpse.transpose(1, 2)) for window, glimpse, _ in self._looks(x)]
        boxes, patches = zip(*seen, strict=True)
        return torch.stack(boxes, 1), torch.stack(patches, 1)

    def _looks(self, x: ArrayLike) -> Iterator[tuple[Window, Tensor, Tensor]]:
        """For every glimpse: its window, the patch (B, N, C, N) without γ, and the state (B, S) of the LSTM after it."""
        unit = self._unit(x).transpose(1, 2).contiguous()
        hidden, memory = (row.expand(len(unit), -1) for row in self.start)
        for bias in self.looks:
            parameters = self.where(hidden) + bias
            window = make_window(parameters, self.config.read, self.spec.height, self.spec.width)
            glimpse = window.read(unit)
            features = F.relu(self.features(torch.cat([glimpse.flatten(1) * window.gamma, parameters[:, :4]], dim=1)))
            hidden, memory = cell(self.memory(torch.cat([features, hidden], dim=1)), memory)
            yield window, glimpse, hidden


class WholeImageClassifier(Classifier):
    """A network of the same size that sees the whole image at once, for comparison.

    spec: of the images.
    classes: their number.
    parameters: its width is chosen to come as near to them as it can.
    convolutional: three layers of 3x3 filters with stride 2 and the maximum of each channel; False (default): a perceptron of two ReLU
        layers.

    Raises ``ValueError`` where no width comes within 5 % of ``parameters``.
    """

    def __init__(self, spec: ImageSpec, classes: int, parameters: int, convolutional: bool = False) -> None:
        super().__init__(spec, classes)
        self.convolutional = convolutional
        self.width = min(range(1, 2048), key=lambda width: abs(self._count(width) - parameters))
        if abs(self._count(self.width) - parameters) > 0.05 * parameters:
            raise ValueError(f"parameters: no network of this kind has about {parameters!r}; the nearest has {self._count(self.width):,}")
        sizes = self._sizes(self.width)
        kind = (lambda a, b: nn.Conv2d(a, b, 3, stride=2, padding=1)) if convolutional else nn.Linear
        self.layers = nn.ModuleList(kind(a, b) for a, b in pairwise(sizes))
        for name, weight in self.layers.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(weight, nonlinearity="relu")
        self.output = nn.Linear(sizes[-1], classes)

    def _sizes(self, width: int) -> tuple[int, ...]:
        return (self.spec.channels, width, 2 * width, 2 * width) if self.convolutional else (self.spec.size, width, width)

    def _count(self, width: int) -> int:
        sizes = self._sizes(width)
        taps = 9 if self.convolutional else 1
        return sum((taps * a + 1) * b for a, b in pairwise(sizes)) + (sizes[-1] + 1) * self.classes

    def logits(self, x: ArrayLike) -> Tensor:
        return self.output(self.features(self._unit(x)))

    def features(self, pictures: Tensor) -> Tensor:
        """The features that separate the classes, the inputs of the last layer.

        pictures: (B, C, H, W) in [0, 1].

        Returns (B, features).
        """
        seen = pictures if self.convolutional else pictures.flatten(1)
        for layer in self.layers:
            seen = F.relu(layer(seen))
        return seen.amax((2, 3)) if self.convolutional else seen
