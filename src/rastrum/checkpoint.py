"""Saved models: a folder with model.safetensors, config.json and README.md (the card), without pickle. ``models.load`` rebuilds them.

config.json {rastrum, model, spec, condition_spec, config} says what to build; ``rastrum`` is the version of this format. Further entries
say which weights belong to it, and where the model comes from (``Origin``), as far as it is known:

    weights   sha256 of model.safetensors; and ``before``, that of the weights that this save replaced, since a kill between the renaming
              of two files leaves them beside the new config.json. Folders of older versions lack it, and are not compared
    data      the images that it was made for: name, splits, preprocessing, number of training images, names of the classes
    recipe    name, commands, what its settings were chosen on          training    in words          results    scores
    card      what only the card shows: rows, a picture, lines of Python; and the temperature at which samples are shown
    license   of the weights, an identifier of the Hub's

The card is written from these entries and the model alone (``card.py``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from sys import float_info
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from . import hub
from .card import HUB, card
from .config import DataConfig, Score
from .files import SURROGATES, check_name, write_files

if TYPE_CHECKING:
    from .model import Model

FORMAT, READABLE = 2, (1, 2)
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
MOST_CONFIG = 1 << 20          # bytes of config.json
MOST_PICTURE = 1 << 22         # bytes of a picture of samples
BUNDLED = "rastrum/"  # "rastrum/NAME" is a model bundled with the package
BUNDLED_FOLDER = Path(__file__).with_name("pretrained")
FORMER = "former"        # in it: models that were bundled before, each in a folder named after its fingerprint, for files that they coded


# What was renamed after format 1: options of a model's config, and parts of a parameter's name.
RENAMED_OPTIONS = {"maps": "channels", "condition_maps": "condition_channels", "encoder_maps": "encoder_channels"}
RENAMED_PARAMETERS = {"told": "condition", "told_to_right": "condition_to_right", "told_to_left": "condition_to_left"}


class CheckpointError(ValueError):
    """A folder that does not hold a model that can be rebuilt; the message names the file and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model comes from; an entry that is unknown is empty or None, the default.

    data: the images that it was made for, and their preprocessing.
    images: number of training images; None also where they are generated without end.
    class_names: of the data set, in the order of the class numbers.
    recipe: its name.
    commands: what was typed, in order.
    tuned_on: what the settings were chosen on.
    training: time and steps, in words.
    results: scores.
    rows: further rows of the card.
    samples: file name of a picture next to the card.
    example: lines of Python for the card instead of the usual ones.
    temperature: at which samples are shown, chosen by eye; None where it is 1.
    license: of the weights, as the Hub spells it, such as "mit" or "cc-by-4.0"; "" where none is stated.
    """

    data: DataConfig | None = None
    images: int | None = None
    class_names: tuple[str, ...] = ()
    recipe: str | None = None
    commands: tuple[str, ...] = ()
    tuned_on: Literal["validation", "test"] | None = None
    training: str = ""
    results: tuple[Score, ...] = ()
    rows: Mapping[str, str] = field(default_factory=dict)
    samples: str | None = None
    example: tuple[str, ...] = ()
    temperature: float | None = None
    license: str = ""

    @property
    def trained_for(self) -> str:
        """How long it was trained, without the steps: "45 CPU-minutes of one core"."""
        return re.split(r"[,:]| \(", self.training)[0]

    def entries(self) -> dict[str, Any]:
        """For config.json; only what is known."""
        found: dict[str, Any] = {}
        if self.data is not None:
            first = {key: getattr(self.data, key) for key in ("name", "train", "held_out")}
            found["data"] = first | asdict(self.data) | {"images": self.images, "class_names": list(self.class_names)}
        if self.recipe is not None or self.commands:
            found["recipe"] = {"name": self.recipe, "commands": list(self.commands), "tuned_on": self.tuned_on}
        card = {"rows": dict(self.rows), "samples": self.samples, "example": list(self.example)}
        if self.temperature is not None:
            card["temperature"] = self.temperature
        results = [asdict(score) for score in self.results]
        rest = {"training": self.training, "results": results, "card": card, "license": self.license}
        return found | {key: value for key, value in rest.items() if (any(value.values()) if key == "card" else value)}

    @staticmethod
    def of(config: Mapping[str, Any]) -> Origin:
        """From the entries of a config.json. Raises ``TypeError`` or ``ValueError`` for entries of another kind."""
        data, recipe, card = (dict(config.get(key) or {}) for key in ("data", "recipe", "card"))
        images, class_names = data.pop("images", None), data.pop("class_names", ())
        results = [_typed(Score(**score)) for score in config.get("results", ())]
        return _typed(
            Origin(
                data=_typed(DataConfig(**data)) if data else None,
                images=images,
                class_names=class_names,
                recipe=recipe.get("name"),
                commands=recipe.get("commands", ()),
                tuned_on=recipe.get("tuned_on"),
                training=config.get("training", ""),
                results=tuple(score for score in results if all(abs(part) <= float_info.max for part in (score.value, score.error or 0))),
                rows=card.get("rows", {}),
                samples=card.get("samples"),
                example=card.get("example", ()),
                temperature=card.get("temperature"),
                license=config.get("license", ""),
            )
        )


def _typed(instance: Any) -> Any:
    """The same dataclass; ``TypeError`` naming a field whose value is not of the kind that its annotation says."""

    def fits(value: Any, hint: Any) -> bool:
        kind, inside = get_origin(hint), get_args(hint)
        if kind is Literal:
            return value in inside
        if kind is UnionType or (kind is not None and not isinstance(kind, type)):
            return any(fits(value, each) for each in inside)
        if kind is tuple:
            return isinstance(value, tuple) and all(fits(each, inside[0]) for each in value)
        if kind is not None:
            return isinstance(value, kind) and all(fits(each, inside[1]) for each in value.values())
        if isinstance(value, str) and not re.sub("[\n\ud800-\udfff]", "", value).isprintable():
            return False                                                  # it gives no orders to a terminal
        return isinstance(value, (int, float) if hint is float else hint) and (hint is bool or not isinstance(value, bool))

    hints = get_type_hints(type(instance), globals() | {"Mapping": Mapping})
    for name in (each.name for each in fields(instance)):
        if not fits(value := getattr(instance, name), hints[name]):
            raise TypeError(f"{name} cannot be {str(value)[:50]!r}")
    return instance


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def save_pretrained(
    model: Model,
    folder: str | Path,
    origin: Origin | None = None,
    more: Mapping[str, bytes] | None = None,
    address: str = "this folder",
    half: bool = False,
) -> None:
    """Write a model to a folder; an earlier model there is replaced, other files stay.

    model: of a class that ``MODELS`` holds.
    folder: path, made if need be.
    origin: where the model comes from, for config.json and the card; None (default) = unknown. ``Model.save_pretrained`` gives that of the
        folder that the model was loaded from.
    more: further files by name, written together with the model's; None (default) for none.
    address: how the card says that the model is loaded, "this folder" by default.
    half: whether weights are rounded to float16, False by default.

    Raises ``ValueError`` for a class without a name of its own, for a folder with foreign files of these names and for weights that
    float16 cannot hold; ``OSError`` (one line) if writing fails, with nothing changed.
    """
    check_name(folder)
    origin = origin or Origin()
    config = {
        "rastrum": FORMAT,
        "model": name_of(model),
        "spec": asdict(model.spec),
        "condition_spec": None if model.condition_spec is None else asdict(model.condition_spec),
        "config": asdict(model.config),  # pyright: ignore[reportArgumentType]
    }
    tensors = model.state_dict()
    weights, path = tensor_bytes(_rounded(tensors) if half else tensors), Path(folder) / WEIGHTS
    digests = {"sha256": hashlib.sha256(weights).hexdigest()}
    if path.is_file() and (before := _digest_of(path)) != digests["sha256"]:
        digests["before"] = before
    about = json.dumps(config | {"weights": digests} | origin.entries(), indent=2, ensure_ascii=False) + "\n"
    files = {  # config.json is renamed first: it knows the weights before and after
        CONFIG: about.encode(errors=SURROGATES),
        WEIGHTS: weights,
        CARD: card(model, origin, address).encode(errors=SURROGATES),
    }
    _refuse_foreign(Path(folder), files)
    write_files(folder, {**files, **(more or {})})


def _rounded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name in float16, whole numbers as they are."""
    halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    for key, value in halves.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"half: {key} holds values that float16 cannot, its largest is 65,504; save it without half")
    return halves


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file of ``tensors`` by name, with ``metadata`` in its header."""
    return to_bytes({key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}, metadata)


def name_of(model: nn.Module) -> str:
    """The name under which ``MODELS`` holds the model's class; ``ValueError`` if the class has none of its own."""
    name = vars(type(model)).get("name")                                  # not inherited: a subclass is another model
    if not isinstance(name, str):
        raise ValueError(
            f"save_pretrained: {type(model).__name__} has no name, so load could not rebuild it; give the class a `name`, `config_class` "
            f"and `config` of its own and enter it in rastrum.MODELS, or keep its state_dict with safetensors"
        )
    return name


def _refuse_foreign(folder: Path, files: Mapping[str, bytes]) -> None:
    """Someone else's README.md or config.json is not ours to replace."""
    there = [name for name in files if (folder / name).exists()]
    if there:
        try:
            ours = "rastrum" in json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, TypeError):
            ours = False
        if not ours:
            raise ValueError(f"save: {str(folder)!r} holds a {there[0]} that is not Rastrum's; choose another folder")


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def bundled() -> list[str]:
    """Names of the models bundled with the package, as ``load`` takes them."""
    return sorted(BUNDLED + path.parent.name for path in BUNDLED_FOLDER.glob(f"*/{CONFIG}"))


def find(folder_or_name: str | Path) -> Path:
    """The folder of a saved model. The text "rastrum/NAME" always means a bundled one; a folder of that name here is "./rastrum/NAME".

    folder_or_name: a folder, "rastrum/NAME" for a model bundled with the package, or "hf://OWNER/NAME@REVISION" for one on the Hub, which
        is downloaded.

    Raises ``CheckpointError`` if there is none, ``OSError`` if the Hub cannot be reached.
    """
    if isinstance(folder_or_name, str) and folder_or_name.startswith(HUB):
        return _from_hub(folder_or_name)
    folder = Path(folder_or_name).expanduser()
    if isinstance(folder_or_name, str) and folder_or_name.startswith(BUNDLED):
        if folder_or_name in (names := bundled()):
            return BUNDLED_FOLDER / folder_or_name.removeprefix(BUNDLED)
        here = f"; the folder here is ./{folder_or_name}" if folder.is_dir() else ""
        raise CheckpointError(f"no model {folder_or_name!r} is bundled with the package; there are {', '.join(names)}{here}")
    if folder.is_dir():
        return folder
    what = "is a file, not a folder" if folder.exists() else "is not there"
    expected = f"a folder with {CONFIG} and {WEIGHTS}, rastrum/NAME, or {HUB}OWNER/NAME"
    raise CheckpointError(f"model: {str(folder_or_name)!r} {what}; expected {expected}")


def _from_hub(address: str) -> Path:
    """The folder, in the cache, of a model on the Hub. Weights are only fetched for a config.json of ours, and compared with it."""
    try:
        repository, revision = hub.parse(address)
        config = hub.download(repository, CONFIG, revision)
        assert config is not None
        folder, commit = config.parent, config.parent.name
        try:
            saved = read_config(folder)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(folder), address)) from None   # a name rather than a place in a cache
        hub.download(repository, WEIGHTS, commit)
        hub.download(repository, CARD, commit, optional=True)
    except ValueError as error:
        raise CheckpointError(str(error) if address.partition("@")[0] in str(error) else f"{address}: {error}") from None
    try:
        check_digest(folder, saved)
    except CheckpointError as error:
        raise CheckpointError(f"{error}, after deleting {folder.parents[1]}".replace(str(folder), address)) from None
    return folder


def picture_of(folder: Path, origin: Origin) -> dict[str, bytes]:
    """The picture of samples next to a saved model, by its name; empty if there is none, or the name is that of anything else.

    folder: of the saved model. In the folder of a run it is the last sheet, by the name samples.png.
    origin: where it comes from.
    """
    sheets = sorted(folder.glob("samples-*.png"), key=lambda sheet: (len(sheet.name), sheet.name))
    name = origin.samples or ("samples.png" if sheets else "")
    path = folder / name if origin.samples or not sheets else sheets[-1]
    if not re.fullmatch(r"\w[\w.-]*\.png", name, re.ASCII) or path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_PICTURE:
        return {}                                                         # config.json is text of whoever wrote it
    content = path.read_bytes()
    return {name: content} if content.startswith(b"\x89PNG\r\n") else {}


def _require_file(path: Path) -> None:
    """A pipe would be waited for, and a device read without end."""
    if not path.exists():
        hint = "; is it the folder of a saved model?" if path.name == CONFIG else ""
        raise CheckpointError(f"{path.parent}: has no {path.name}{hint}")
    if not path.is_file():
        raise CheckpointError(f"{path}: is not a regular file")


def read_config(folder_or_name: str | Path) -> dict[str, Any]:
    """config.json of a saved model, lists as tuples and options by their present names.

    folder_or_name: as for ``find``.

    Raises ``CheckpointError`` if it is missing, damaged, of another format or without an entry that ``load`` needs.
    """
    folder = find(folder_or_name)
    path = folder / CONFIG
    _require_file(path)
    if (size := path.stat().st_size) > MOST_CONFIG:
        raise CheckpointError(f"{path}: has {size:,} bytes, a model's has at most {MOST_CONFIG:,}")
    try:
        config = _tuples(json.loads(path.read_text(encoding="utf-8")))
    except RecursionError:
        raise CheckpointError(f"{path}: is nested too deeply") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise CheckpointError(f"{path}: is not JSON ({one_line(error)})") from None
    if not isinstance(config, dict) or "rastrum" not in config:
        raise CheckpointError(f"{path}: is not Rastrum's (no entry 'rastrum')")
    if config["rastrum"] not in READABLE:
        reads = " and ".join(map(str, READABLE))
        found = one_line(config["rastrum"])
        raise CheckpointError(f"{path}: format {found}, this Rastrum reads formats {reads}; install a matching version")
    missing = [key for key in ("model", "spec", "condition_spec", "config") if key not in config]
    if missing:
        raise CheckpointError(f"{path}: has no entry {missing[0]!r}")
    if config["rastrum"] == 1 and isinstance(config["config"], dict):
        config["config"] = {RENAMED_OPTIONS.get(option, option): value for option, value in config["config"].items()}
    return config


def read_origin(folder_or_name: str | Path) -> Origin:
    """Where a saved model comes from; empty for folders that do not say.

    folder_or_name: as for ``find``.

    Raises ``CheckpointError`` for entries that cannot be read.
    """
    config = read_config(folder_or_name)
    try:
        return Origin.of(config)
    except (TypeError, ValueError, AttributeError) as error:
        path = find(folder_or_name) / CONFIG
        raise CheckpointError(f"{path}: data, recipe, training, results or card cannot be read ({one_line(error)})") from None


def read_shapes(folder: Path, saved_format: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of a saved model, by their present names, from a header that agrees with the length of the file.

    folder: of the saved model.
    saved_format: the entry ``rastrum`` of its config.json.

    Raises ``CheckpointError`` if there is no whole file of them.
    """
    path = folder / WEIGHTS
    _require_file(path)
    try:
        with safe_open(path, "pt") as file:
            return {_present(key, saved_format): tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118, its own method
    except (SafetensorError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: is truncated or not a safetensors file ({one_line(error)})") from None


def read_tensors(folder: Path, saved_format: int) -> dict[str, Tensor]:
    """The weights of a saved model, by their present names; parameters and errors are as for ``read_shapes``."""
    path = folder / WEIGHTS
    _require_file(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: is truncated or not a safetensors file ({one_line(error)})") from None
    return {_present(key, saved_format): value for key, value in tensors.items()}


def check_digest(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises ``CheckpointError`` if the weights are not those that config.json was saved with; an old one does not say.

    folder: of the saved model.
    config: its config.json.
    """
    known = config.get("weights", {})
    if not isinstance(known, dict) or ("weights" in config and not isinstance(known.get("sha256"), str)):
        raise CheckpointError(f"{folder / CONFIG}: weights must hold the sha256 of {WEIGHTS}")
    if known and _digest_of(folder / WEIGHTS) not in (known["sha256"], known.get("before")):
        differs = f"is not the file that {CONFIG} was saved with (its sha256 differs)"
        raise CheckpointError(f"{folder / WEIGHTS}: {differs}; fetch the folder again")


def _present(key: str, saved_format: int) -> str:
    """The present name of a parameter."""
    return ".".join(RENAMED_PARAMETERS.get(part, part) for part in key.split(".")) if saved_format == 1 else key


def fill(model: Model, folder: Path, saved_format: int) -> None:
    """Give a model the weights of a saved one, and their dtype; those of 16 bits become float32.

    model: of the saved model's class and config; changed in place.
    folder: of the saved model.
    saved_format: the entry ``rastrum`` of its config.json.

    Raises ``CheckpointError`` naming a tensor that is missing, does not fit or is not finite.
    """
    path, shapes, expected = folder / WEIGHTS, read_shapes(folder, saved_format), model.state_dict()
    if missing := sorted(expected.keys() - shapes.keys()):
        raise CheckpointError(f"{path}: lacks the tensor {missing[0]!r} ({len(missing)} missing); it belongs to another model")
    if extra := sorted(shapes.keys() - expected.keys()):
        raise CheckpointError(f"{path}: has a tensor {one_line(extra[0])!r} ({len(extra)} too many); it belongs to another model")
    for key, value in expected.items():
        if shapes[key] != value.shape:
            raise CheckpointError(f"{path}: {key} has shape {shapes[key]}, the model needs {tuple(value.shape)}")
    tensors = read_tensors(folder, saved_format)
    for key, value in tensors.items():
        if value.is_floating_point() != expected[key].is_floating_point() or value.is_complex():
            raise CheckpointError(f"{path}: {key} holds {value.dtype}, the model needs {expected[key].dtype}")
        if value.is_floating_point() and (broken := value.numel() - int(value.isfinite().sum())):
            raise CheckpointError(f"{path}: {key} holds {broken} values that are NaN or infinite; nothing can be computed with them")
    if saved_format < FORMAT:
        model.upgrade(tensors, saved_format)
    kinds = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point() and tensor.dtype.itemsize > 2}
    if len(kinds) == 1:
        model.to(kinds.pop())
    model.load_state_dict(tensors)


def one_line(error: object) -> str:
    """What an ``error`` says, or another thing as text, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _tuples(value: Any) -> Any:
    """JSON has no tuples: its lists are ours."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return {key: _tuples(item) for key, item in value.items()} if isinstance(value, dict) else value
