"""An autoencoder with a conditional PixelCNN as its decoder.

Source: van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", section 2.4 and figure 6.

    x ──▶ encoder: 3x3, stride 2, three times ──▶ h: ``size`` values ──▶ linear, relu ──▶ p(x | s = m(map)), a Gated PixelCNN
                                                          └─────────────▶ transposed convolutions ──▶ x̂, the usual decoder, for comparison

Encoder and decoder learn together, from −log p(x | h(x)). Pixels that follow from their neighbours need not be in h, so h describes what
the image shows, and what is drawn from it is another image of the same thing rather than a blurred copy. The usual decoder answers
everything that h leaves open with the mean; its loss is the squared error.

The decoder gets h as a spatial map (section 2.3), a quarter as high and wide as the image: V h alone, the same at every position, does not
tell a pixel where it lies, and a small decoder cannot find out from the pixels that it sees above.

−log p(x | h(x)) is not −log p(x), because h is a function of x. It is a loss, not a likelihood.

Dimensions: B batch · C channels · H, W image · F features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..autocast import restored
from ..denormals import keeping
from ..devices import as_like
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
        """The codes of images.

        x: integer levels (B, C, H, W).

        Returns h (B, size).
        """
        weight = self.to_code.weight
        y = self.spec.scale(check_images(self.spec, x, weight.device), weight.dtype)
        for halve in self.halvings:
            y = F.relu(halve(y))
        return self.to_code(y.flatten(1))


class PixelCNNAutoencoder(Autoencoder):
    """The autoencoder with a Gated PixelCNN, ``decoder``, a model like any other.

    spec, size, features: as for ``Autoencoder``.
    overrides: options of the decoder's preset "small".
    """

    def __init__(self, spec: ImageSpec, size: int, features: int = 32, **overrides: int) -> None:
        super().__init__(spec, size, features)
        self.coarse = (MAP_CHANNELS, -(-spec.height // CELL), -(-spec.width // CELL))
        self.spread = nn.Linear(size, math.prod(self.coarse))
        gated = MODELS["gated-pixelcnn"]
        decoder = gated(spec, gated.preset("small", spec, **overrides), ConditionSpec("map", self.coarse))
        assert isinstance(decoder, RasterModel)
        self.decoder = decoder

    def map_of(self, code: Tensor) -> Tensor:
        """The decoder's condition: ``code`` h (B, size) → (B, MAP_CHANNELS, ⌈H/4⌉, ⌈W/4⌉)."""
        return F.relu(self.spread(code)).unflatten(1, self.coarse)

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """−log p(x | h(x)) in nats, (B,).

        x: integer levels (B, *shape).
        condition, seed: not used.
        """
        return -self.decoder.log_prob(x, self.map_of(self.encode(x)))

    @torch.no_grad()
    @keeping
    def decode(self, code: ArrayLike, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """Draws an image from each code.

        code: h (B, size).
        seed, temperature: as for ``sample``; 0 and 1 by default.

        Returns levels (B, C, H, W). Raises ``ValueError`` for another shape or values not finite.
        """
        code = as_like(as_tensor("code", code), self.to_code.weight)
        if code.ndim != 2 or len(code) == 0 or code.shape[1] != self.size or not bool(code.isfinite().all()):
            raise ValueError(f"code: expected {self.size} finite values per image, (B, {self.size}), got shape {tuple(code.shape)}")
        return sample(self.decoder, len(code), self.map_of(code), temperature, seed)

    @keeping
    def reconstruct(self, x: ArrayLike, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """Draws an image from the code of each image.

        x: integer levels (B, C, H, W).
        seed, temperature: as for ``sample``; 0 and 1 by default.

        Returns levels (B, C, H, W).
        """
        with torch.no_grad():
            code = self.encode(x)
        return self.decode(code, seed, temperature)


class SquaredErrorAutoencoder(Autoencoder):
    """The usual autoencoder: transposed convolutions, trained on the squared error.

    spec, size, features: as for ``Autoencoder``.
    parameters: of the decoder, whose width comes as near to them as it can.

    Raises ``ValueError`` where no width comes within 5 % of them.
    """

    def __init__(self, spec: ImageSpec, size: int, parameters: int, features: int = 32) -> None:
        super().__init__(spec, size, features)
        self.low = tuple(-(-side >> HALVINGS) for side in (spec.height, spec.width))
        self.width = min(range(1, 1024), key=lambda width: abs(self._count(width) - parameters))
        if not abs(self._count(self.width) - parameters) <= 0.05 * parameters:
            raise ValueError(f"parameters: no decoder of this kind has about {parameters}; the nearest has {self._count(self.width):,}")
        channels = self._channels(self.width)
        self.spread = nn.Linear(size, channels[0] * self.low[0] * self.low[1])
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(channels[i], channels[i + 1], 4, stride=2, padding=1) for i in range(HALVINGS))

    def _channels(self, width: int) -> tuple[int, ...]:
        return (4 * width, 2 * width, width, self.spec.channels)

    def _count(self, width: int) -> int:
        channels = self._channels(width)
        spread = (self.size + 1) * channels[0] * self.low[0] * self.low[1]
        return spread + sum((16 * channels[i] + 1) * channels[i + 1] for i in range(HALVINGS))

    def picture(self, code: Tensor) -> Tensor:
        """``code`` h (B, size) → intensities (B, C, H, W): 0 is the lowest level, 1 the highest, and nothing bounds them."""
        y = self.spread(code).unflatten(1, (-1, *self.low))
        for double in self.doublings:
            y = double(F.relu(y))
        return 0.5 + restored(y)[:, :, : self.spec.height, : self.spec.width]

    def loss(self, x: ArrayLike, condition: ArrayLike | int | None = None, seed: int | None = None) -> Tensor:
        """Squared error of the intensities, summed over each image: (B,)."""
        x = check_images(self.spec, x, self.to_code.weight.device)
        return (self.picture(self.encode(x)) - x / (self.spec.levels - 1)).square().flatten(1).sum(1)
