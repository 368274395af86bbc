"""Saved models load bit for bit; damaged or foreign folders are refused with the cause; a failed save leaves the old model."""

import errno
import json
import os
import time
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
    spoil_config(rastrum=1, weights="gone")(tmp_path)
    assert same(load(tmp_path), model)
    spoil_config(rastrum=2)(tmp_path)
    assert not same(load(tmp_path), model)


def test_the_models_own_method_and_the_public_name_do_the_same(tmp_path: Path) -> None:
    model = tiny().double()
    model.save_pretrained(tmp_path / "m")
    other = rastrum.load(str(tmp_path / "m"))
    assert same(model, other) and next(other.parameters()).dtype == torch.float64


def test_half_the_size(tmp_path: Path) -> None:
    """What float16 holds of each weight is read as float32, so the model computes as any other; what it cannot hold is refused."""
    model = tiny()
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "half", half=True)
    other = load(tmp_path / "half")
    for key, value in model.state_dict().items():
        assert other.state_dict()[key].dtype == value.dtype
        assert torch.equal(other.state_dict()[key], value.half().to(value.dtype) if value.is_floating_point() else value)
    bytes_of = {name: sum(v.nbytes for v in load_file(tmp_path / name / "model.safetensors").values()) for name in ("whole", "half")}
    assert bytes_of["half"] < 0.6 * bytes_of["whole"]
    other.save_pretrained(tmp_path / "again", half=True)
    assert same(load(tmp_path / "again"), other)
    with torch.no_grad():
        next(model.parameters()).flatten()[0] = 1e5
    with pytest.raises(ValueError, match=r"half: .* float16"):
        model.save_pretrained(tmp_path / "none", half=True)
    assert not (tmp_path / "none").exists()


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
    entries = {"rastrum", "model", "spec", "condition_spec", "config", "weights"}
    assert set(json.loads((tmp_path / "plain" / "config.json").read_text())) == entries
    assert read_origin(tmp_path / "plain") == Origin()


@pytest.mark.parametrize("entry", [{"data": {"nam": "digits"}}, {"data": 3}, {"results": [{"value": 1}]}, {"recipe": "x"}, {"card": [1]},
                                   {"training": 3}, {"data": {"name": 3}}, {"data": {"class_names": "ab"}}, {"data": {"size": 1e9}},
                                   {"card": {"rows": {"a": 1}}}, {"results": 7}])  # fmt: skip
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
        spoil_config(weights="gone")(folder)

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


def test_a_flipped_byte_of_the_weights_is_noticed(tmp_path: Path) -> None:
    """Wherever it is; folders of versions that did not say what their weights are load as before."""
    save_pretrained(tiny(), tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"model\.safetensors: is (not the file|truncated)"):
            load(tmp_path)
    path.write_bytes(whole)
    assert same(load(tmp_path), tiny())
    spoil_config(weights="gone")(tmp_path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not same(load(tmp_path), tiny())


def test_a_save_that_is_killed_between_two_files_leaves_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each number of renamed files the folder loads: with the weights before, then with those after."""
    replace, found = os.replace, []
    for stop in range(4):
        folder = tmp_path / str(stop)
        for seed in (1, 2):
            save_pretrained(tiny(seed), folder)
        calls = iter(range(stop))
        monkeypatch.setattr(files.os, "replace", lambda *paths, calls=calls: replace(*paths) if next(calls, None) is not None else None)
        save_pretrained(tiny(3), folder)
        monkeypatch.undo()
        found.append([seed for seed in (1, 2, 3) if same(load(folder), tiny(seed))])
    assert found == [[2], [2], [3], [3]]


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {"channels": 1, "height": 10**6, "width": 10**6, "levels": 2, "frames": 1}},
        {"spec": {"channels": 10**30, "height": 1, "width": 1, "levels": 2, "frames": 1}},
        {"spec": {"channels": 1, "height": 4, "width": 4, "levels": 2, "frames": 10**15}},
        {"config": {"channels": 10**5}},
        {"config": {"channels": 10**40}},
        {"config": {"layers": 10**9}},
        {"config": {"first_kernel": 10**9 + 1}},
        {"condition_spec": {"kind": "class", "size": 10**12}},
        {"condition_spec": {"kind": "vector", "size": 10**9}},
    ],
    ids=str,
)
def test_shapes_beyond_the_weights_are_refused_before_memory_is_taken(changes: Any, tmp_path: Path) -> None:
    save_pretrained(tiny(), tmp_path)
    spoil_config(**{key: json.loads((tmp_path / "config.json").read_text())[key] | value if key == "config" else value
                    for key, value in changes.items()})(tmp_path)  # fmt: skip
    started, before = time.perf_counter(), peak()
    with pytest.raises(CheckpointError, match=r"config\.json: d(oes not describe a pixelcnn|escribes a pixelcnn that is larger)") as error:
        load(tmp_path)
    assert time.perf_counter() - started < 20 and peak() - before < 400e6 and "\n" not in str(error.value)


def peak() -> int:
    """Largest memory of this process so far, in bytes."""
    resource = pytest.importorskip("resource")
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000 + "]" * 100_000, "is nested too deeply"),
        ('{"a":' * 900 + "1" + "}" * 900, "is nested too deeply|is not Rastrum's"),
        ('{"rastrum": ' + "[" * 800 + "]" * 800 + "}", "is nested too deeply|format"),
        ('{"rastrum": ' + "1" * 5000 + "}", "is not JSON"),
        ('{"rastrum": 2, "model": "' + "x" * 2**20 + '"}', "a model's has at most"),
    ],
    ids=["deep list", "deep object", "deep entry", "long number", "long text"],
)
def test_a_config_of_any_nesting_and_length_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    save_pretrained(tiny(), tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=says) as error:
        load(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    save_pretrained(tiny(), tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match="is not a regular file"):
        load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    model = tiny()
    name = next(key for key, _ in model.named_parameters())
    model.get_parameter(name).data.view(-1)[:2] = value
    save_pretrained(model, tmp_path)
    with pytest.raises(CheckpointError, match=rf"{name} holds 2 values that are NaN or infinite"):
        load(tmp_path)


def test_no_folder_no_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the working directory does not stand in for a bundled model of its name."""
    (tmp_path / "file").write_text("")
    cases = {tmp_path / "nothing": "is not there", tmp_path / "file": "is a file", "rastrum/nothing": "bundled with the package; there are"}
    cases |= {"rastrum/..": "there are", "rastrum/": "there are", "rastrum/../pretrained/draw-binarized-mnist": "there are"}
    for name, says in cases.items():
        with pytest.raises(CheckpointError, match=says):
            load(name)
    monkeypatch.chdir(tmp_path)
    for name in ("draw-binarized-mnist", "mine"):
        save_pretrained(tiny(), tmp_path / "rastrum" / name)
    assert type(load("rastrum/draw-binarized-mnist")) is MODELS["draw"]
    with pytest.raises(CheckpointError, match=r"the folder here is \./rastrum/mine"):
        load("rastrum/mine")
    assert same(load("./rastrum/mine"), tiny()) and same(load(Path("rastrum/mine")), tiny())


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
