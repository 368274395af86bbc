"""Every model by its name; adding one is its file, one line here and a recipe."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from ..card import HUB
from ..checkpoint import (
    CONFIG,
    WEIGHTS,
    CheckpointError,
    check_digest,
    fill,
    find,
    one_line,
    picture_of,
    read_config,
    read_origin,
    read_shapes,
)
from ..devices import find_device, place
from ..memory import Allowance, TooLarge, available
from ..model import Model
from ..protocol import ConditionSpec, ImageSpec
from .conv_draw import ConvDRAW
from .dcgan import DCGAN
from .diagonal_bilstm import DiagonalBiLSTM
from .draw import DRAW
from .gated_pixelcnn import GatedPixelCNN
from .gran import GRAN
from .least_squares import LeastSquares
from .multiscale_pixelrnn import MultiscalePixelRNN
from .one_shot import OneShot
from .pixel_lstm import PixelLSTM
from .pixelcnn import PixelCNN
from .pixelcnn_plus_plus import PixelCNNPlusPlus
from .row_lstm import RowLSTM
from .spatial_lstm import SpatialLSTM
from .vae import VAE
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
    "least-squares": LeastSquares,
    "video-pixel-network": VideoPixelNetwork,
    "draw": DRAW,
    "conv-draw": ConvDRAW,
    "one-shot": OneShot,
    "vae": VAE,
    "gran": GRAN,
    "dcgan": DCGAN,
}


TEMPORARY = 3                  # parameters are at most a third of what is made while a model is built
MOST_VALUES = 1 << 24          # of an image of a saved model: 4096 x 4096 grey pixels
ROOM = 1 << 26                 # bytes that building a saved model may take beside those for its weights and its image


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

    Raises ``ValueError`` naming an unknown model, preset or option, a spec that the model does not support, or a size beyond the memory.
    """
    if name not in MODELS:
        raise ValueError(f"model: expected one of {', '.join(MODELS)}, got {name!r}")
    if not isinstance(spec, ImageSpec):
        raise ValueError(f"spec: expected an ImageSpec, got {spec!r}")
    if condition is not None and not isinstance(condition, ConditionSpec):
        raise ValueError(f"condition: expected a ConditionSpec, got {condition!r}")
    model_class = MODELS[name]
    config = model_class.preset(preset, spec, **overrides)
    free = available()
    try:
        with torch.random.fork_rng(devices=[]), Allowance(math.inf if free is None else TEMPORARY * free):
            torch.manual_seed(seed)
            return model_class(spec, config, condition).eval()
    except TooLarge as error:
        raise ValueError(f"build: {name} of this size does not fit the memory, {error}; choose a smaller preset or images") from None


def load(folder_or_name: str | Path, device: str | torch.device = "cpu") -> Model:
    """Rebuild a saved model, in evaluation mode.

    folder_or_name: what ``save_pretrained`` wrote; "rastrum/NAME" for a model bundled with the package; or "hf://OWNER/NAME" for a model on
        the Hugging Face Hub, "hf://OWNER/NAME@REVISION" for it at a branch, a tag or a commit. Of the Hub's files only the model's are
        downloaded, once, into the Hub's cache, which also answers offline.
    device: where the model goes and computes: cpu (default), cuda, cuda:1, mps, or auto, the first of cuda, mps and cpu that is here. Only
        on the CPU does a seed give the same bits on every machine; elsewhere scores, and with them samples, differ by rounding.

    Raises ``CheckpointError`` (a ``ValueError``) naming what is wrong with the folder, before more memory is taken than its weights need,
    and for a model that the Hub does not have or does not show; ``OSError`` if the Hub cannot be reached; ``ImportError`` without the extra
    ``hub``; ``ValueError`` for a device that is not here.
    """
    where = find_device(device)
    folder = find(folder_or_name)
    try:
        return place(_rebuilt(folder), where)
    except CheckpointError as error:
        if not str(folder_or_name).startswith(HUB):
            raise
        raise CheckpointError(str(error).replace(str(folder), str(folder_or_name))) from None   # a name rather than a place in a cache


def _rebuilt(folder: Path) -> Model:
    """The model that a folder holds, in evaluation mode, on the CPU."""
    saved = read_config(folder)
    read_shapes(folder, saved["rastrum"])
    check_digest(folder, saved)
    name = saved["model"]
    if not isinstance(name, str) or name not in MODELS:
        raise CheckpointError(f"{folder / CONFIG}: unknown model {name!r}; this Rastrum has {', '.join(MODELS)}")
    model_class = MODELS[name]
    try:
        spec = ImageSpec(**saved["spec"])
        if spec.size > MOST_VALUES:
            raise ValueError(f"images of {spec.size:,} values, at most {MOST_VALUES:,} are possible")
        condition = None if saved["condition_spec"] is None else ConditionSpec(**saved["condition_spec"])
        unknown = set(saved["config"]) - {field.name for field in fields(model_class.config_class)}
        if unknown:
            raise ValueError(f"{name} has no option {min(unknown)!r}")
        allowed = ROOM + 64 * spec.size + 8 * (folder / WEIGHTS).stat().st_size
        with torch.random.fork_rng(devices=[]), Allowance(allowed):
            model = model_class(spec, model_class.config_class(**saved["config"]), condition)
    except TooLarge as error:
        raise CheckpointError(f"{folder / CONFIG}: describes a {name} that is larger than its weights ({error})") from None
    except (TypeError, ValueError, AttributeError, RuntimeError, AssertionError, ArithmeticError, LookupError, MemoryError) as error:
        raise CheckpointError(f"{folder / CONFIG}: does not describe a {name} ({one_line(error)})") from None
    fill(model, folder, saved["rastrum"])
    with suppress(CheckpointError):                                       # a damaged note on its origin does not stand in a model's way
        origin = read_origin(folder)
        model.saved_picture = picture_of(folder, origin)
        model.origin = replace(origin, samples=next(iter(model.saved_picture), origin.samples))
    return model.eval()
