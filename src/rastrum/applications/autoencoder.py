"""An autoencoder whose decoder draws: a few numbers say what an image is about, a conditional PixelCNN makes an image of them.

Source: van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", section 2.4 and figure 6.

    x ──▶ encoder: 3x3, stride 2, three times ──▶ h: ``size`` numbers ──▶ linear, relu ──▶ p(x | s = m(map)), a Gated PixelCNN
                                                          └─────────────▶ transposed convolutions ──▶ x̂, one picture, for comparison

Both halves learn together, from −log p(x | h(x)): pixels that follow from their neighbours need not be in h, so h is left with what the
image shows, and what is drawn from it is an image of the same thing rather than a blurred copy. The usual decoder has one answer to
everything that h does not tell, the mean; its loss is the squared error.

The decoder is told h by a map (section 2.3), a quarter as high and wide as the image: V h alone, the same at every position, says nothing
about where on it a pixel lies, and what a small decoder sees above does not tell either.

−log p(x | h(x)) is no −log p(x): h was made of x. It is a loss here, never called a likelihood.

Dimensions: B batch · C channels · H, W image · F features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..generation import sample
from ..model import Model
from ..models import MODELS
from ..protocol import ArrayLike, ConditionSpec, ImageSpec, as_tensor, check_images
from ..raster import RasterModel

HALVINGS = 3
CELL, MAP_CHANNELS = 4, 16     # pixels along a side of a cell of the drawing decoder's spatial map, and channels of the map


class Autoencoder(Model):
    """What both share: the encoder, and the loop that trains them (``rastrum.train``). It has a loss and no likelihood.

    spec: of the images.
    size: values of the code h of an image.
    features: channels of the first feature map, 32 by default; each halving of the resolution doubles them.

    Raises ``ValueError`` for a size or features below 1, and for videos.
    """

    def __init__(self, spec: ImageSpec, size: int, features: int = 32) -> None:
        super().__init__(spec)
        for name, value in (("size", size), ("features", features)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
        if spec.frames > 1:
            raise ValueError(f"frames: an autoencoder takes still images, got {spec.frames} frames")
        self.size = size
        channels = [spec.channels, *(features << i for i in range(HALVINGS))]
        self.halvings = nn.ModuleList(nn.Conv2d(channels[i], channels[i + 1], 3, stride=2, padding=1) for i in range(HALVINGS))
        height, width = (-(-side >> HALVINGS) for side in (spec.height, spec.width))
        self.to_code = nn.Linear(channels[-1] * height * width, size)

    def encode(self, x: ArrayLike) -> Tensor:
        """Levels x (B, C, H, W) → h (B, size)."""
        weight = self.to_code.weight
        y = self.spec.scale(check_images(self.spec, x, weight.device), weight.dtype)
        for halve in self.halvings:
            y = F.relu(halve(y))
        return self.to_code(y.flatten(1))


class PixelCNNAutoencoder(Autoencoder):
    """The one that draws. ``overrides`` are of the Gated PixelCNN's preset ``small``; ``decoder`` is a model like any other."""

    def __init__(self, spec: ImageSpec, size: int, features: int = 32, **overrides: int) -> None:
        super().__init__(spec, size, features)
        self.coarse = (MAP_CHANNELS, -(-spec.height // CELL), -(-spec.width // CELL))
        self.spread = nn.Linear(size, math.prod(self.coarse))
        gated = MODELS["gated-pixelcnn"]
        decoder = gated(spec, gated.preset("small", spec, **overrides), ConditionSpec("map", self.coarse))
        assert isinstance(decoder, RasterModel)
        self.decoder = decoder

    def map_of(self, code: Tensor) -> Tensor:
        """h (B, size) → what the decoder is told, (B, MAPS, H/4, W/4)."""
        return F.relu(self.spread(code)).unflatten(1, self.coarse)

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """−log p(x | h(x)) in nats, (B,)."""
        return -self.decoder.log_prob(x, self.map_of(self.encode(x)))

    @torch.no_grad()
    def decode(self, code: ArrayLike, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """Draw an image from each of h (B, size): levels (B, C, H, W). Raises ``ValueError`` for another shape, or what is not finite."""
        code = as_tensor("code", code).to(self.to_code.weight)
        if code.ndim != 2 or len(code) == 0 or code.shape[1] != self.size or not bool(code.isfinite().all()):
            raise ValueError(f"code: expected {self.size} finite numbers an image, (B, {self.size}), got shape {tuple(code.shape)}")
        return sample(self.decoder, len(code), self.map_of(code), temperature, seed)

    def reconstruct(self, x: ArrayLike, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """Draw an image from the code of each of x (B, C, H, W)."""
        with torch.no_grad():
            code = self.encode(x)
        return self.decode(code, seed, temperature)


class SquaredErrorAutoencoder(Autoencoder):
    """The usual one: transposed convolutions to one picture, as wide as comes nearest to ``parameters`` of the decoder alone.

    ``ValueError`` where no width comes within 5 % of them.
    """

    def __init__(self, spec: ImageSpec, size: int, parameters: int, features: int = 32) -> None:
        super().__init__(spec, size, features)
        self.low = tuple(-(-side >> HALVINGS) for side in (spec.height, spec.width))
        self.width = min(range(1, 1024), key=lambda width: abs(self._count(width) - parameters))
        if not abs(self._count(self.width) - parameters) <= 0.05 * parameters:
            raise ValueError(f"parameters: no decoder of this kind has about {parameters}; the nearest has {self._count(self.width):,}")
        maps = self._maps(self.width)
        self.spread = nn.Linear(size, maps[0] * self.low[0] * self.low[1])
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(maps[i], maps[i + 1], 4, stride=2, padding=1) for i in range(HALVINGS))

    def _maps(self, width: int) -> tuple[int, ...]:
        return (4 * width, 2 * width, width, self.spec.channels)

    def _count(self, width: int) -> int:
        maps = self._maps(width)
        spread = (self.size + 1) * maps[0] * self.low[0] * self.low[1]
        return spread + sum((16 * maps[i] + 1) * maps[i + 1] for i in range(HALVINGS))

    def picture(self, code: Tensor) -> Tensor:
        """h (B, size) → intensities (B, C, H, W), 0 for the lowest level and 1 for the highest; nothing keeps them from going beyond."""
        y = self.spread(code).unflatten(1, (-1, *self.low))
        for double in self.doublings:
            y = double(F.relu(y))
        return 0.5 + y[:, :, : self.spec.height, : self.spec.width]

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """Squared error of the picture, summed over the intensities of an image: (B,)."""
        x = check_images(self.spec, x, self.to_code.weight.device)
        return (self.picture(self.encode(x)) - x / (self.spec.levels - 1)).square().flatten(1).sum(1)
