"""Saved models load bit for bit; damaged or foreign folders are refused with the cause; a failed save leaves the old model."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import rastrum
from rastrum import ConditionSpec, ImageSpec, checkpoint, files
from rastrum.checkpoint import CheckpointError, Origin, read_origin, save_pretrained
from rastrum.config import DataConfig, Score
from rastrum.distributions import Bernoulli
from rastrum.models import MODELS, load

CASES = [
    ("pixelcnn", ImageSpec(1, 5, 4, 2), None),
    ("gated-pixelcnn", ImageSpec(3, 4, 4, 5), ConditionSpec("class", 3)),
    ("pixelcnn++", ImageSpec(3, 4, 4, 256), ConditionSpec("vector", 2)),
    ("draw", ImageSpec(1, 6, 5, 17), ConditionSpec("class", 2)),
]


def tiny(seed: int = 0, **overrides: Any) -> Any:
    return rastrum.build("pixelcnn", ImageSpec(1, 4, 4, 2), "tiny", seed=seed, **overrides)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize(("name", "spec", "condition"), CASES, ids=[case[0] for case in CASES])
def test_a_model_comes_back_as_it_was(name: str, spec: ImageSpec, condition: ConditionSpec | None, tmp_path: Path) -> None:
    """Weights, buffers, spec, condition and config; loading leaves torch's random stream alone."""
    model = rastrum.build(name, spec, "tiny", condition=condition, seed=3)
    save_pretrained(model, tmp_path / "new" / "folder")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    other = load(tmp_path / "new" / "folder")
    assert torch.equal(torch.rand(3), expected)
    assert type(other) is type(model) and same(model, other) and not other.training
    assert (other.spec, other.condition_spec, other.config) == (spec, condition, model.config)  # pyright: ignore[reportAttributeAccessIssue]
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == ["README.md", "config.json", "model.safetensors"]


LSTMS = {
    "draw": ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"),
    "conv-draw": tuple(f"{part}.{n}.gates.{kind}" for part in ("encoders", "decoders") for n in (0, 1) for kind in ("weight", "bias")),
}


@pytest.mark.parametrize("kind", ["class", "vector"])
@pytest.mark.parametrize(("name", "options"), [("draw", {"hidden": 6}), ("draw", {"attention": False}), ("conv-draw", {"layers": 2})])
def test_format_1_had_gates_in_another_order(name: str, options: dict[str, Any], kind: Any, tmp_path: Path) -> None:
    """Format 1 has gates in the order input, forget, output, content; projections of a condition have those of all LSTMs one after another,
    and a class has them along the columns of its embedding."""
    model: Any = rastrum.build(name, ImageSpec(1, 6, 5, 2), "tiny", condition=ConditionSpec(kind, 3), seed=1, **options)
    model.save_pretrained(tmp_path)
    units, tensors = options.get("hidden", 16) if name == "draw" else model.config.features, load_file(tmp_path / "model.safetensors")
    others = ("encoder_image.weight",) if not options.get("attention", True) else ()
    for key in (*LSTMS[name], *others, "condition.weight", *(["condition.bias"] if kind == "vector" else [])):
        across = key == "condition.weight" and kind == "class"
        rows = list((tensors[key].t() if across else tensors[key]).split(units))
        for lstm in range(0, len(rows), 4):
            rows[lstm], rows[lstm + 2] = rows[lstm + 2], rows[lstm]
        tensors[key] = (torch.cat(rows).t() if across else torch.cat(rows)).contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    spoil_config(rastrum=1)(tmp_path)
    assert same(load(tmp_path), model)
    spoil_config(rastrum=2)(tmp_path)
    assert not same(load(tmp_path), model)


def test_the_models_own_method_and_the_public_name_do_the_same(tmp_path: Path) -> None:
    model = tiny().double()
    model.save_pretrained(tmp_path / "m")
    other = rastrum.load(str(tmp_path / "m"))
    assert same(model, other) and next(other.parameters()).dtype == torch.float64


ORIGIN = Origin(
    data=DataConfig(name="digits", train="train[:50]", binarise="threshold"),
    images=50,
    class_names=("zero", "one"),
    recipe="pixelcnn-digits",
    commands=("rastrum train x", "rastrum train x --start y"),
    tuned_on="test",
    training="3 steps",
    results=(Score(value=1.20, error=0.1, unit="nats", kind="exact", images=7, split="test"),),
    rows={"draws": "well"},
    samples="samples.png",
    example=("import rastrum", "draw()"),
)


def test_a_folder_says_where_its_model_comes_from(tmp_path: Path) -> None:
    """config.json returns the origin, and the card prints it and credits the digits; a model without an origin has none of this."""
    save_pretrained(tiny(), tmp_path / "m", ORIGIN)
    assert read_origin(tmp_path / "m") == ORIGIN
    text, parameters = (tmp_path / "m" / "README.md").read_text(), sum(p.numel() for p in tiny().parameters())
    for part in ("# pixelcnn", "1 x 4 x 4, 2 levels", f"{parameters:,}", "`rastrum train x`, then `rastrum train x --start y`", "CC BY 4.0",
                 "digits train[:50], 50 images, threshold binarisation; held out: test", "zero, one", "settings chosen on test images",
                 "1.2 ± 0.1 nats (7 test images, exact)", "| draws | well |", "draw()\n```", "samples.png"):  # fmt: skip
        assert part in text
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["data"]["binarise"] == "threshold" and config["data"]["class_names"] == ["zero", "one"]
    assert config["recipe"]["name"] == "pixelcnn-digits" and same(load(tmp_path / "m"), tiny())
    tiny().save_pretrained(tmp_path / "plain")
    assert set(json.loads((tmp_path / "plain" / "config.json").read_text())) == {"rastrum", "model", "spec", "condition_spec", "config"}
    assert read_origin(tmp_path / "plain") == Origin()


@pytest.mark.parametrize("entry", [{"data": {"nam": "digits"}}, {"data": 3}, {"results": [{"value": 1}]}, {"recipe": "x"}, {"card": [1]}])
def test_damaged_entries_are_named_and_the_model_still_loads(entry: dict[str, Any], tmp_path: Path) -> None:
    save_pretrained(tiny(), tmp_path)
    spoil_config(**entry)(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: data, recipe, training, results or card cannot be read"):
        read_origin(tmp_path)
    assert same(load(tmp_path), tiny())


def test_names_are_those_of_the_classes() -> None:
    assert {name: vars(model_class)["name"] for name, model_class in MODELS.items()} == {name: name for name in MODELS}


def test_a_class_without_a_name_of_its_own_is_not_saved(tmp_path: Path) -> None:
    """Neither a user's class nor a subclass of a built-in model is saved, except under its own name, which its user enters in MODELS."""

    class Mine(rastrum.RasterModel):
        def distribution(self, x: Any, condition: Any = None) -> Any:
            return Bernoulli(torch.zeros(x.shape))

    class Derived(MODELS["pixelcnn"]):
        pass

    class Named(MODELS["pixelcnn"]):
        name = "named"

    spec, config = ImageSpec(1, 4, 4, 2), tiny().config
    for model in (Mine(spec), Derived(spec, config)):
        with pytest.raises(ValueError, match=rf"{type(model).__name__} has no name.*enter it in rastrum\.MODELS"):
            model.save_pretrained(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    Named(spec, config).save_pretrained(tmp_path / "named")
    with pytest.raises(CheckpointError, match="unknown model 'named'"):
        load(tmp_path / "named")


def spoil_config(**changes: Any) -> Any:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config = {key: value for key, value in (config | changes).items() if value != "gone"}
        (folder / "config.json").write_text(json.dumps(config))

    return spoil


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def spoil_tensors(change: Any) -> Any:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file(change(tensors), folder / "model.safetensors")

    return spoil


def first_renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    key = min(tensors)
    return {"other" if name == key else name: value for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "is not Rastrum's"),
        (spoil_config(rastrum="gone"), "is not Rastrum's"),
        (spoil_config(rastrum=99), "format 99, this Rastrum reads formats 1 and 2"),
        (spoil_config(spec="gone"), "has no entry 'spec'"),
        (spoil_config(model="pixelcnm"), "unknown model 'pixelcnm'"),
        (spoil_config(model=["x"]), "unknown model"),
        (spoil_config(spec={"channels": 1}), "does not describe a pixelcnn"),
        (spoil_config(spec=None), "does not describe a pixelcnn"),
        (spoil_config(config={"mapz": 3}), "has no option 'mapz'"),
        (spoil_config(config={"channels": "many"}), "does not describe a pixelcnn"),
        (spoil_config(config={"channels": 8, "layers": 2}), "tensor|shape"),
        (truncate, "is truncated or not a safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "is truncated or not a safetensors file"),
        (spoil_tensors(first_renamed), "lacks the tensor"),
        (spoil_tensors(lambda t: t | {"extra": torch.zeros(2)}), "has a tensor 'extra'"),
        (spoil_tensors(lambda t: {k: v[..., :1].clone() if v.dim() > 1 else v for k, v in t.items()}), "the model needs"),
    ],
)
def test_damaged_and_foreign_folders_are_refused(spoil: Any, says: str, tmp_path: Path) -> None:
    save_pretrained(tiny(), tmp_path)
    spoil(tmp_path)
    with pytest.raises(CheckpointError, match=says) as error:
        load(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_no_folder_no_bundled_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cases = {tmp_path / "nothing": "is not there", tmp_path / "file": "is a file", "rastrum/nothing": "bundled with the package; there are"}
    for name, says in cases.items():
        with pytest.raises(CheckpointError, match=says):
            load(name)


def test_a_full_disk_leaves_the_old_model_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills while the second file is synced; also when there was no folder before."""
    folder, fresh = tmp_path / "old", tmp_path / "a" / "b"
    save_pretrained(tiny(seed=1), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for target in (folder, fresh):
        calls = iter((None, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))

        def sync(descriptor: int, calls: Any = calls) -> None:
            if error := next(calls):
                raise error

        monkeypatch.setattr(files.os, "fsync", sync)
        with pytest.raises(OSError, match="No space left on device") as error:
            save_pretrained(tiny(seed=2), target)
        assert error.value.errno == errno.ENOSPC and "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_truly_full_device_is_an_oserror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = open
    monkeypatch.setattr("builtins.open", lambda path, *a, **k: real("/dev/full" if str(path).endswith(".new") else path, *a, **k))
    with pytest.raises(OSError, match="what was there is unchanged"):
        save_pretrained(tiny(), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_foreign_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(ValueError, match=r"holds a README.md that is not Rastrum's"):
        save_pretrained(tiny(), tmp_path)
    assert (tmp_path / "README.md").read_text() == "my project" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "README.md").unlink()
    (tmp_path / "notes.txt").write_text("mine")
    save_pretrained(tiny(seed=1), tmp_path)
    save_pretrained(tiny(seed=2), tmp_path)
    assert same(load(tmp_path), tiny(seed=2)) and (tmp_path / "notes.txt").read_text() == "mine"


def test_there_is_no_pickle_in_the_folder_or_the_code(tmp_path: Path) -> None:
    save_pretrained(tiny(), tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json", ".md"}
    for name in ("checkpoint", "files", "models/__init__", "train"):
        source = (Path(checkpoint.__file__).parent / f"{name}.py").read_text()
        assert "torch.save" not in source and "torch.load" not in source and "import pickle" not in source
