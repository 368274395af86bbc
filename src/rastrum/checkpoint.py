"""Models in folders, without pickle: model.safetensors, config.json {rastrum, model, spec, condition_spec, config}, README.md (the card).

``rastrum`` in config.json is the version of this format. A folder is written file by file to temporaries beside the final names, synced,
then renamed: a full disk or a kill leaves what was there before, whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from .data.dataset import NOTICES
from .protocol import ConditionSpec, ImageSpec

if TYPE_CHECKING:
    from .canvas import CanvasModel
    from .raster import RasterModel

FORMAT, READABLE = 2, (1, 2)
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
BOX = "rastrum/"  # "rastrum/NAME" is a model in the package
BOXED = Path(__file__).with_name("pretrained")


# Names in files that were saved before they were renamed here: options of a model's config, and parts of a parameter's name.
RENAMED_OPTIONS = {"maps": "channels", "condition_maps": "condition_channels", "encoder_maps": "encoder_channels"}
RENAMED_PARAMETERS = {"told": "condition", "told_to_right": "condition_to_right", "told_to_left": "condition_to_left"}


class CheckpointError(ValueError):
    """A folder that does not hold a model that can be rebuilt; the message names the file and what is wrong with it."""


def save_pretrained(model: RasterModel | CanvasModel, folder: str | Path, card: Mapping[str, str] | None = None) -> None:
    """Write the model to ``folder``, which is made; an earlier model there is replaced, other files stay.

    card: facts for the card, such as data, command, score; "samples" names a picture beside it, "load" what ``load`` is given.
    Raises ``ValueError`` for a model that is not in ``rastrum.MODELS`` and for a folder with foreign files of these names; ``OSError``
    (one line) if writing fails, with nothing changed.
    """
    write_files(folder, model_files(model, card))


def model_files(model: RasterModel | CanvasModel, card: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """The three files by name."""
    told = None if model.condition_spec is None else asdict(model.condition_spec)
    name = name_of(model)
    config = {"rastrum": FORMAT, "model": name, "spec": asdict(model.spec), "condition_spec": told, "config": asdict(model.config)}  # pyright: ignore[reportArgumentType]
    return {
        WEIGHTS: tensor_bytes(model.state_dict()),
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
        CARD: _card(model, name, card or {}).encode(),
    }


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors file."""
    return to_bytes({key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()})


def name_of(model: nn.Module) -> str:
    """The model's name in ``MODELS``; ``ValueError`` if it has none."""
    from .models import MODELS

    name = next((name for name, model_class in MODELS.items() if model_class is type(model)), None)
    if name is None:
        raise ValueError(
            f"save_pretrained: {type(model).__name__} is not in rastrum.MODELS, so load could not rebuild it; "
            f"enter it there (with config_class and config), or keep its state_dict with safetensors"
        )
    return name


def write_files(folder: str | Path, files: Mapping[str, bytes]) -> None:
    """Write all of ``files`` into ``folder``, or change nothing and raise ``OSError``."""
    folder = Path(folder)
    _refuse_foreign(folder, files)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    temporary = {name: folder / f".{name}.{os.getpid()}.new" for name in files}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with open(temporary[name], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name, path in temporary.items():
            os.replace(path, folder / name)
    except BaseException as error:
        for path in temporary.values():
            path.unlink(missing_ok=True)
        for path in made:  # from the inside out; one that holds something stays
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if isinstance(error, OSError):
            message = f"could not save to {str(folder)!r}, what was there is unchanged: {error.strerror or error}"
            raise OSError(error.errno, message) from None
        raise
    if hasattr(os, "O_DIRECTORY"):
        directory = os.open(folder, os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)


def _refuse_foreign(folder: Path, files: Mapping[str, bytes]) -> None:
    """Someone else's README.md or config.json is not ours to replace."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"save: {str(folder)!r} is a file, not a folder; choose another name")
    there = [name for name in files if (folder / name).exists()]
    if there and CONFIG in files:
        try:
            ours = "rastrum" in json.loads((folder / CONFIG).read_text())
        except (FileNotFoundError, ValueError, TypeError):
            ours = False
        if not ours:
            raise ValueError(f"save: {str(folder)!r} holds a {there[0]} that is not Rastrum's; choose another folder")


def load(folder_or_name: str | Path) -> RasterModel | CanvasModel:
    """Rebuild a saved model, in evaluation mode, on the CPU. "rastrum/NAME" is a model in the package.

    Raises ``CheckpointError`` (a ``ValueError``) naming what is wrong with the folder.
    """
    from .models import MODELS

    folder = _find(folder_or_name)
    config = _read_config(folder)
    name = config["model"]
    if not isinstance(name, str) or name not in MODELS:
        raise CheckpointError(f"{folder / CONFIG}: unknown model {name!r}; this Rastrum has {', '.join(MODELS)}")
    model_class = MODELS[name]
    try:
        spec = ImageSpec(**config["spec"])
        told = config["condition_spec"]
        condition = None if told is None else ConditionSpec(**_tuples(told))
        options: dict[str, Any] = {RENAMED_OPTIONS.get(option) or str(option): _tuples(value) for option, value in config["config"].items()}
        unknown = set(options) - {field.name for field in fields(model_class.config_class)}
        if unknown:
            raise ValueError(f"{name} has no option {min(unknown)!r}")
        with torch.random.fork_rng(devices=[]):
            model = model_class(spec, model_class.config_class(**options), condition)
    except (TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f"{folder / CONFIG}: does not describe a {name} ({_line(error)})") from None
    tensors = {_parameter_name(key): value for key, value in _read_tensors(folder / WEIGHTS).items()}
    _fit(model, tensors, folder / WEIGHTS)
    if config["rastrum"] == 1 and name in ("draw", "conv-draw"):
        _reorder_gates_of_format_1(name, model, tensors)
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(kinds) == 1:
        model.to(kinds.pop())
    model.load_state_dict(tensors)
    return model.eval()


def read_card(folder_or_name: str | Path) -> str:
    """The text of a saved model's card; empty where it has none."""
    path = _find(folder_or_name) / CARD
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def pretrained() -> list[str]:
    """Names of the models in the package, as ``load`` takes them."""
    return sorted(BOX + path.parent.name for path in BOXED.glob(f"*/{CONFIG}"))


def _find(folder_or_name: str | Path) -> Path:
    folder = Path(folder_or_name).expanduser()
    if folder.is_dir():
        return folder
    if str(folder_or_name).startswith(BOX):
        inside = BOXED / str(folder_or_name).removeprefix(BOX)
        if inside.is_dir() and inside.parent == BOXED:
            return inside
        raise CheckpointError(f"there is no model {str(folder_or_name)!r} in the package; there are {', '.join(pretrained())}")
    what = "is a file, not a folder" if folder.exists() else "is not there"
    raise CheckpointError(f"model: {str(folder_or_name)!r} {what}; expected a folder with {CONFIG} and {WEIGHTS}, or rastrum/NAME")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: has no {CONFIG}; is it the folder of a saved model?") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise CheckpointError(f"{path}: is not JSON ({_line(error)})") from None
    if not isinstance(config, dict) or "rastrum" not in config:
        raise CheckpointError(f"{path}: is not Rastrum's (no entry 'rastrum')")
    if config["rastrum"] not in READABLE:
        reads = " and ".join(map(str, READABLE))
        raise CheckpointError(f"{path}: format {config['rastrum']!r}, this Rastrum reads formats {reads}; install a matching version")
    missing = [key for key in ("model", "spec", "condition_spec", "config") if key not in config]
    if missing:
        raise CheckpointError(f"{path}: has no entry {missing[0]!r}")
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path.parent}: has no {path.name}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is truncated or not a safetensors file ({_line(error)})") from None


def _parameter_name(name: str) -> str:
    return ".".join(RENAMED_PARAMETERS.get(part, part) for part in name.split("."))


def _reorder_gates_of_format_1(name: str, model: RasterModel | CanvasModel, tensors: dict[str, Tensor]) -> None:
    """DRAW and conv-DRAW had the gates of their LSTMs as [i f o g] in format 1; since format 2 they are [o f i g], as in all models."""
    from .layers.lstm import gates_dim, swap_output_and_input

    units = getattr(model.config, {"draw": "hidden", "conv-draw": "features"}[name])
    for key, value in tensors.items():
        layer, _, _ = key.rpartition(".")
        if layer.partition(".")[0] in ("encoder", "encoder_image", "decoder", "encoders", "decoders", "condition"):
            tensors[key] = swap_output_and_input(value, units, gates_dim(model.get_submodule(layer)))


def _fit(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    if missing := sorted(expected.keys() - tensors.keys()):
        raise CheckpointError(f"{path}: lacks the tensor {missing[0]!r} ({len(missing)} missing); it belongs to another model")
    if extra := sorted(tensors.keys() - expected.keys()):
        raise CheckpointError(f"{path}: has a tensor {extra[0]!r} ({len(extra)} too many); it belongs to another model")
    for key, value in expected.items():
        if tensors[key].shape != value.shape:
            raise CheckpointError(f"{path}: {key} has shape {tuple(tensors[key].shape)}, the model needs {tuple(value.shape)}")


def _tuples(value: Any) -> Any:
    """JSON has no tuples: its lists are ours."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return {key: _tuples(item) for key, item in value.items()} if isinstance(value, dict) else value


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _card(model: RasterModel | CanvasModel, name: str, facts: Mapping[str, str]) -> str:
    spec, told = model.spec, model.condition_spec
    parameters = sum(p.numel() for p in model.parameters())
    size = f"{spec.channels} x {spec.height} x {spec.width}, {spec.levels} levels"
    rows = {
        "model": f"{name} ({', '.join(f'{field.name}={getattr(model.config, field.name)!r}' for field in fields(model.config))})",  # pyright: ignore[reportArgumentType]
        "images": size if spec.frames == 1 else f"{spec.frames} frames of {size}",
        "condition": "none" if told is None else f"{told.kind}, size {told.size}",
        "parameters": f"{parameters:,}",
        **{key: f"`{value}`" if key == "command" else value for key, value in facts.items() if key not in ("samples", "load")},
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    where = facts.get("load", "this folder")
    picture = f"\n![samples]({facts['samples']})\n" if "samples" in facts else ""
    notice = NOTICES.get(facts.get("data", "").split(" ")[0], "")
    return (
        f"---\nlibrary_name: rastrum\ntags: [{name.rstrip('+')}, image-generation]\n---\n\n# {name}\n\n| | |\n|---|---|\n{table}\n\n"
        f'```python\n{_use(model, where)}\n```\n' + picture + (f"\n{notice}\n" if notice else "")
    )


def _use(model: RasterModel | CanvasModel, where: str) -> str:
    """Lines of Python that load the model and draw with it, where it can."""
    from .raster import RasterModel

    told = model.condition_spec
    condition = "" if told is None else ", condition=0" if told.kind == "class" else f", condition=torch.zeros{told.shape}"
    lines = ["import torch"] if "torch" in condition else []
    lines += ["import rastrum", "", f'model = rastrum.load("{where}")']
    if isinstance(model, RasterModel) and not model.has_likelihood:
        return "\n".join([*lines, "loss = model.loss(images)                  # no likelihood, so there is nothing to sample"])
    return "\n".join([*lines, f"images = rastrum.sample(model, 16{condition})"])
