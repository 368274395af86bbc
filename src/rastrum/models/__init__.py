"""Every model by its name; adding one is its file, one line here and a recipe."""

from __future__ import annotations

from typing import Any

import torch

from ..model import Model
from ..protocol import ConditionSpec, ImageSpec
from .conv_draw import ConvDRAW
from .diagonal_bilstm import DiagonalBiLSTM
from .draw import DRAW
from .gated_pixelcnn import GatedPixelCNN
from .multiscale_pixelrnn import MultiscalePixelRNN
from .pixel_lstm import PixelLSTM
from .pixelcnn import PixelCNN
from .pixelcnn_plus_plus import PixelCNNPlusPlus
from .row_lstm import RowLSTM
from .spatial_lstm import SpatialLSTM
from .video_pixel_network import VideoPixelNetwork

MODELS: dict[str, Any] = {
    "pixel-lstm": PixelLSTM,
    "spatial-lstm": SpatialLSTM,
    "row-lstm": RowLSTM,
    "diagonal-bilstm": DiagonalBiLSTM,
    "multiscale-pixelrnn": MultiscalePixelRNN,
    "pixelcnn": PixelCNN,
    "gated-pixelcnn": GatedPixelCNN,
    "pixelcnn++": PixelCNNPlusPlus,
    "video-pixel-network": VideoPixelNetwork,
    "draw": DRAW,
    "conv-draw": ConvDRAW,
}


def build(
    name: str, spec: ImageSpec, preset: str = "small", condition: ConditionSpec | None = None, seed: int = 0, **overrides: Any
) -> Model:
    """A fresh model, in evaluation mode, so that its likelihoods are exact; a training loop of your own calls ``model.train()``.

    name: in ``MODELS``.
    spec: of the images.
    preset: "tiny", "small" (default) or "paper"; ``more_presets`` of a model's class names others.
    condition: kind and size of the condition; None (default) = unconditional.
    seed: of the initial parameters; default 0.
    overrides: options of the model's config that replace those of the preset.

    Raises ``ValueError`` naming an unknown model, preset or option, or a spec that the model does not support.
    """
    if name not in MODELS:
        raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {name!r}")
    if not isinstance(spec, ImageSpec):
        raise ValueError(f"spec: expected an ImageSpec, got {spec!r}")
    if condition is not None and not isinstance(condition, ConditionSpec):
        raise ValueError(f"condition: expected a ConditionSpec, got {condition!r}")
    model_class = MODELS[name]
    config = model_class.preset(preset, spec, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(spec, config, condition).eval()
