"""Progressive files of versions 1 and 2, kept in tests/golden, with their models, which are made of integers alone.

``python tests/golden_pictures.py`` writes those that are not there; they stay as they are, and every later release decodes them to these
pictures.
"""

from __future__ import annotations

import numpy as np
import torch
from golden_files import FOLDER, integers

from rastrum import ImageSpec, load
from rastrum.compression import compress_pictures
from rastrum.models.conv_draw import ConvDRAW, ConvDRAWConfig

# file: (channels, levels, layers) of the model
CASES = {"pictures": (3, 256, 2), "letters": (1, 2, 1), "shades": (3, 256, 1)}
GREY = ("shades",)             # pictures of one channel, so version 2
BUNDLED = {"drawn": "rastrum/conv-draw-cifar10-files"}  # file: the model that it names


def model(case: str) -> ConvDRAW:
    """A tiny model whose weights are integers / 2^17, with wide enough priors that latents have something to say."""
    channels, levels, layers = CASES[case]
    config = ConvDRAWConfig(steps=3, layers=layers, latent=2, features=6, kernel=3, posterior="uniform", positional=False)
    made = ConvDRAW(ImageSpec(channels, 8, 8, levels), config)
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters()):
            values = integers(parameter.numel(), seed + 1) - 32768
            parameter.copy_(torch.from_numpy(values).float().view(parameter.shape) / (1 << 17))
        for head in made.priors:
            assert isinstance(head, torch.nn.Conv2d) and head.bias is not None
            head.bias[2 * config.latent :] = -1.5
    return made.eval()


def images(case: str) -> np.ndarray:
    """Two images of another size than the model's."""
    channels, levels, _ = CASES[case]
    channels = 1 if case in GREY else channels
    y, x, c, n = np.ogrid[:7, :9, :channels, :2]
    noise = integers(7 * 9 * channels * 2, 7).reshape(7, 9, channels, 2) % (1 + levels // 20)
    return ((5 * y * (n + 1) + 9 * x + 40 * c + noise) % levels).transpose(3, 2, 0, 1)


if __name__ == "__main__":
    for case, name in BUNDLED.items():
        if not (FOLDER / f"{case}.rastrum").exists():
            bundled = load(name)
            assert isinstance(bundled, ConvDRAW)
            drawn = compress_pictures(bundled, images("pictures"), seed=5, name=name)
            (FOLDER / f"{case}.rastrum").write_bytes(drawn.data)
    for case in CASES:
        if not (FOLDER / f"{case}.rastrum").exists():
            made = compress_pictures(model(case), images(case), lossless=True, seed=5, name="./golden")
            (FOLDER / f"{case}.rastrum").write_bytes(made.data)
