"""Models on the Hugging Face Hub, pushed and loaded by processes of their own through a server on this machine (``hub_server.py``); the
cards that they have there, read with the Hub's own parsers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import TOKEN, Hub, Repository, serving
from huggingface_hub import ModelCard, parse_eval_result_entries

import rastrum
from rastrum import ConditionSpec, ImageSpec
from rastrum.card import card, evaluation_results, to_yaml
from rastrum.checkpoint import BUNDLED_FOLDER, Origin, bundled, name_of, read_config, read_origin, tensor_bytes
from rastrum.cli import main
from rastrum.cli.figures import short_names
from rastrum.config import DataConfig, Score
from rastrum.hub import RESULTS, parse
from rastrum.model import Model
from rastrum.models import MODELS

FILES = ["README.md", "config.json", "model.safetensors"]
SPEC = ImageSpec(1, 4, 4, 2)
ORIGIN = Origin(
    data=DataConfig(name="cifar10", train="train[:100]", size=4, grey=True, binarise="threshold"),
    recipe="tiny-cifar10",
    commands=("rastrum train tiny-cifar10",),
    results=(
        Score(value=3.25, error=0.01, unit="bits/dim", kind="exact", images=1000, split="test"),
        Score(value=9.0, unit="nats", kind="exact", images=1000, split="test", notes="while training"),
    ),
)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        yield found


def python(hub: Hub, home: Path, code: str, token: str | None = None, **environment: str) -> Any:
    """What a fresh process prints as JSON in its last line."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\nimport rastrum\n{code}"],
        env=os.environ | hub.environment(home, token) | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def commands(hub: Hub, home: Path, *arguments: list[str], token: str | None = None, **environment: str) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of commands that run one after another in a fresh process."""
    code = f"""
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from rastrum.cli import main
from rastrum.cli.figures import short_names
found = []
for arguments in {list(arguments)!r}:
    out, err = StringIO(), StringIO()
    from rastrum.cli.show import messages
    messages.file = err
    with redirect_stdout(out), redirect_stderr(err):
        code = main(arguments)
    found.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(found))"""
    return [tuple(each) for each in python(hub, home, code, token, **environment)]


def folder_of(tmp_path: Path, seed: int = 0, origin: Origin = ORIGIN) -> Path:
    """A saved model whose weights depend on the seed."""
    model = rastrum.build("gated-pixelcnn", SPEC, "tiny", seed=seed)
    model.origin = origin
    model.save_pretrained(tmp_path / f"model-{seed}")
    return tmp_path / f"model-{seed}"


def put(hub: Hub, folder: Path, name: str = "user/model", **more: bytes) -> Repository:
    """A repository with the files of a folder, as if somebody had pushed them."""
    repository = hub.repositories.setdefault(name, Repository())
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {key.replace("__", "."): value for key, value in more.items()}
    hub.large |= {hashlib.sha256(files["model.safetensors"]).hexdigest(): files["model.safetensors"]}
    repository.commit("main", files, "by hand")
    return repository


DIGEST = """import hashlib
digest = lambda model: hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest()"""


def test_a_round_trip(hub: Hub, tmp_path: Path) -> None:
    """Two versions are pushed from one process and loaded in another one, with an empty cache: by name, branch, tag and commit."""
    first, second = folder_of(tmp_path, 1), folder_of(tmp_path, 2, Origin())
    pushed = python(
        hub,
        tmp_path / "author",
        f"""{DIGEST}
from huggingface_hub import HfApi
a, b = rastrum.load({str(first)!r}), rastrum.load({str(second)!r})
commits = [a.push_to_hub("user/model", license="cc-by-4.0", commit_message="one")]
HfApi().create_tag("user/model", tag="v1")
commits += [b.push_to_hub("user/model", branch="next"), b.push_to_hub("model", create_pr=True), b.push_to_hub("user/model", private=True)]
commits.append(a.save_pretrained({str(tmp_path / "other")!r}, push_to_hub=True, repo_id="user/other", private=True))
print(json.dumps([commits, digest(a), digest(b)]))""",
        token=TOKEN,
    )
    addresses, one, two = pushed
    repository = hub.repositories["user/model"]
    commit = repository.refs["v1"]
    assert addresses[0] == f"{hub.address}/user/model/commit/{commit}" and repository.messages[1] == "one"
    assert set(repository.refs) == {"main", "next", "v1", "refs/pr/1"} and len(set(repository.refs.values())) == 4
    assert not repository.private and hub.repositories["user/other"].private
    files = repository.commits[commit]
    assert set(files) == {*FILES, ".gitattributes", RESULTS} and RESULTS not in repository.commits[repository.refs["main"]]
    assert hub.requests.count(f"PUT /upload/{json.loads(files['config.json'])['weights']['sha256']}") == 1
    hub.requests.clear()
    loaded = python(
        hub,
        tmp_path / "reader",
        f"""{DIGEST}
names = ["hf://user/model", "hf://user/model@v1", "hf://user/model@next", "hf://user/model@refs/pr/1", "hf://user/model@{commit}"]
models = [rastrum.load(name) for name in names]
print(json.dumps([[digest(model) for model in models], models[1].origin.license, models[1].origin.recipe, models[1].training]))""",
    )
    assert loaded == [[two, one, two, two, one], "cc-by-4.0", "tiny-cifar10", False]
    assert {Path(request.split()[1]).name for request in hub.requests if "/resolve/" in request} == set(FILES)
    assert not any("api" in request for request in hub.requests)
    entries = parse_eval_result_entries(yaml.safe_load(files[RESULTS]))
    assert [(e.dataset_id, e.task_id, e.value) for e in entries] == [
        ("uoft-cs/cifar10", "bits-per-dim", 3.25),
        ("uoft-cs/cifar10", "nats", 9.0),
    ]
    notes = "bits/dim (1,000 test images, exact), 4x4, grey, threshold binarisation, standard error 0.01"
    assert entries[0].notes == notes and "while training" in str(entries[1].notes)
    text = files["README.md"].decode()
    assert 'rastrum.load("hf://user/model")' in text and parsed(text)["license"] == "cc-by-4.0"
    assert 'rastrum.load("hf://user/model@next")' in repository.commits[repository.refs["next"]]["README.md"].decode()


def test_commands_take_models_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    """They are pushed and drawn from on the command line; a second use asks for no file again, and offline the cache answers."""
    out, name = tmp_path / "x.png", "rastrum/gated-pixelcnn-binarized-mnist"
    ((code, said, _),) = commands(hub, tmp_path / "a", ["push", name, "user/digits", "--license", "mit", "--json"], token=TOKEN)
    files = hub.repositories["user/digits"].commits[hub.repositories["user/digits"].refs["main"]]
    assert code == 0 and json.loads(said)["commit"].startswith(f"{hub.address}/user/digits/commit/")
    assert files["samples.png"] == (BUNDLED_FOLDER / name.removeprefix("rastrum/") / "samples.png").read_bytes()
    assert b"![samples](samples.png)" in files["README.md"]
    sample = ["sample", "hf://user/digits", "--count", "1", "--out", str(out), "--json"]
    score = ["score", "hf://user/digits@main", "--images", str(tmp_path / "none.png")]
    drawn, scored = commands(hub, tmp_path / "b", sample, score)
    assert (drawn[0], drawn[2]) == (0, "") and json.loads(drawn[1])["out"] == str(out) and out.exists()
    assert scored[0] == 2 and "none.png" in scored[2]                     # the model is there, the image is not
    assert sum(request.startswith("GET") for request in hub.requests) == 3
    (offline,) = commands(hub, tmp_path / "b", sample, HF_HUB_OFFLINE="1")
    (gone,) = commands(hub, tmp_path / "b", sample, HF_ENDPOINT="http://127.0.0.1:9")
    assert (offline[0], gone[0]) == (0, 0)


def test_what_is_not_there_is_one_line(hub: Hub, tmp_path: Path) -> None:
    put(hub, folder_of(tmp_path))
    put(hub, folder_of(tmp_path), "user/private").private = True
    put(hub, folder_of(tmp_path), "user/gated").gated = True
    hub.repositories["user/bert"] = bert = Repository()
    bert.commit("main", {"config.json": b'{"architectures": ["Bert"]}', "model.safetensors": b"x"}, "another library's")
    hub.repositories["user/pickled"] = pickled = Repository()
    ours = (tmp_path / "model-0" / "config.json").read_bytes()
    pickled.commit("main", {"config.json": ours, "pytorch_model.bin": b"cos\n."}, "no weights")
    hub.repositories["user/data"] = data = Repository()
    data.commit("main", {"README.md": b"data"}, "no model")
    expected = {
        "hf://user/nothing": (2, "not on the Hub, or it is private: check the name"),
        "hf://user/model@v7": (2, "has no branch, tag or commit 'v7'"),
        "hf://user/model@" + "0" * 40: (2, "has no branch, tag or commit '0000"),
        "hf://user/private": (2, "hf auth login"),
        "hf://user/gated": (2, "is gated: accept its terms"),
        "hf://user/bert": (2, "is not Rastrum's"),
        "hf://user/pickled": (2, "has no model.safetensors"),
        "hf://user/data": (2, "has no config.json"),
        "hf://model": (2, "expected hf://OWNER/NAME"),
        "hf://user/model@../../x": (2, "expected hf://OWNER/NAME"),
        "hf://../model": (2, "expected hf://OWNER/NAME"),
        "hf://user/model@a b": (2, "expected hf://OWNER/NAME"),
    }
    for (name, (code, words)), found in zip(
        expected.items(), commands(hub, tmp_path / "a", *(["sample", name, "--count", "1"] for name in expected)), strict=True
    ):
        assert (found[0], found[1]) == (code, "") and words in found[2], (name, found)
        assert found[2].startswith("rastrum: ") and found[2].count("\n") == 1, found
    assert not any("pytorch_model" in request or "bert/resolve/main/model" in request for request in hub.requests)
    (login,) = commands(hub, tmp_path / "b", ["sample", "hf://user/private", "--count", "1"], token=TOKEN)
    assert login[0] == 0
    for environment in ({"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}):
        (found,) = commands(hub, tmp_path / "c", ["sample", "hf://user/model"], **environment)
        assert found[0] == 1 and "cannot be reached" in found[2] and "not in the cache" in found[2] and found[2].count("\n") == 1


def test_what_cannot_be_pushed_is_one_line(hub: Hub, tmp_path: Path) -> None:
    """Without a login, to another's name, with a licence or a name that is none; nothing is created."""
    model = str(folder_of(tmp_path))
    (stranger,) = commands(hub, tmp_path / "a", ["push", model, "user/model"])
    arguments = [["other/model"], ["user/a/b"], ["user/../b"], ["user/m", "--license", "MIT"], ["user/m", "--license", "nonsense"]]
    found = [stranger, *commands(hub, tmp_path / "a", *(["push", model, *each] for each in arguments), token=TOKEN)]
    expected = [
        (1, "hf auth login"),
        (1, "You don't have the rights"),
        (2, "expected OWNER/NAME"),
        (2, "expected OWNER/NAME"),
        (2, "in lower case"),
        (2, "must be one of the known identifiers"),
    ]
    for (code, words), (ours, out, said) in zip(expected, found, strict=True):
        assert (ours, out) == (code, "") and words in said and said.count("\n") == 1, said
    assert set(hub.repositories) == {"user/m"} and len(hub.repositories["user/m"].commits) == 1


def test_an_interrupted_download(hub: Hub, tmp_path: Path) -> None:
    """Once: it goes on where it was. For good: one line, and nothing that a later use would take for a model."""
    large = rastrum.build("gated-pixelcnn", SPEC, "tiny", hidden=700_000)  # the library writes to the disk every 10 MB
    large.save_pretrained(tmp_path / "large")
    put(hub, tmp_path / "large", "user/large")
    hub.cut = 1
    assert python(hub, tmp_path / "a", "print(json.dumps(rastrum.load('hf://user/large').config.hidden))") == 700_000
    assert len(hub.ranges) == 1 and int(hub.ranges[0].removeprefix("bytes=").rstrip("-")) >= 10_000_000
    put(hub, folder_of(tmp_path))
    hub.cut = 100
    (broken,) = commands(hub, tmp_path / "b", ["sample", "hf://user/model", "--count", "1"])
    assert broken[0] == 1 and broken[2].splitlines()[-1].startswith("rastrum: hf://user/model")
    (offline,) = commands(hub, tmp_path / "b", ["sample", "hf://user/model", "--count", "1"], HF_HUB_OFFLINE="1")
    assert offline[0] == 1 and "model.safetensors of this revision is not in the cache" in offline[2]
    hub.cut = 0
    (found,) = commands(hub, tmp_path / "b", ["sample", "hf://user/model", "--count", "1"])
    assert found[0] == 0


def test_weights_that_are_not_those_of_the_config_are_refused(hub: Hub, tmp_path: Path) -> None:
    """On the way, and in the repository; the message says what to delete, and after that the right ones load."""
    folder = folder_of(tmp_path)
    weights = (folder / "model.safetensors").read_bytes()
    put(hub, folder)
    tampered = weights[:-1] + bytes([weights[-1] ^ 1])
    (digest,) = hub.large
    hub.replaced[digest] = tampered
    put(hub, folder, "user/swapped", model__safetensors=tampered)
    way, swapped = commands(hub, tmp_path / "a", ["sample", "hf://user/model"], ["sample", "hf://user/swapped"])
    for code, out, said in (way, swapped):
        assert (code, out) == (2, "") and "its sha256 differs" in said
    deleted = Path(way[2].strip().rpartition("after deleting ")[2])
    assert deleted.is_dir() and deleted.name == "models--user--model"
    hub.replaced.clear()
    shutil.rmtree(deleted)
    (found,) = commands(hub, tmp_path / "a", ["sample", "hf://user/model", "--count", "1"])
    assert found[0] == 0


def test_a_hostile_repository_is_harmless(hub: Hub, tmp_path: Path) -> None:
    """Pickles, programs and names that lead elsewhere are not even asked for; what its config and card name is not opened."""
    folder, secret = folder_of(tmp_path), tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG\r\n\x1a\n secret")
    config = json.loads((folder / "config.json").read_text())
    config["card"] = {"rows": {}, "samples": "../secret.png", "example": [f"open({str(tmp_path / 'written')!r}, 'w')"]}
    config["data"]["name"] = str(secret)
    (folder / "config.json").write_text(json.dumps(config))
    repository = put(hub, folder)
    files = next(reversed(repository.commits.values()))
    pickle = b"cos\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "written").encode()
    names = ("pytorch_model.bin", "../../../written", "/tmp/written", "modeling.py", "model.pkl", "adapter/../../x")
    repository.commit("main", files | dict.fromkeys(names, pickle), "more")
    code = f"model = rastrum.load('hf://user/model')\nmodel.save_pretrained({str(tmp_path / 'again')!r})\nprint(json.dumps(None))"
    before = {path for path in tmp_path.rglob("*") if "home" not in path.parts}
    python(hub, tmp_path / "home", code)
    assert {path for path in tmp_path.rglob("*") if "home" not in path.parts} - before == {
        tmp_path / "again",
        *(tmp_path / "again" / name for name in FILES),
    }
    assert {request.split("/resolve/")[1].partition("/")[2] for request in hub.requests if "/resolve/" in request} == set(FILES)
    for path in (tmp_path / "again").iterdir():
        assert b"PNG" not in path.read_bytes()


def test_an_answer_that_would_be_written_elsewhere_is_refused(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache names a file after the server's ETag."""
    import hub_server

    put(hub, folder_of(tmp_path))
    send = hub_server.Handler.send

    def elsewhere(self: Any, status: int, content: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        changed = {key: '"../../../../../escaped"' if key == "ETag" else value for key, value in (headers or {}).items()}
        send(self, status, content, changed, cut)

    monkeypatch.setattr(hub_server.Handler, "send", elsewhere)
    (found,) = commands(hub, tmp_path / "home" / "of" / "user", ["sample", "hf://user/model"])
    assert found[0] == 1 and "none of the Hub's" in found[2]
    assert not [path for path in tmp_path.rglob("*escaped*")]


# ── without a server ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # pyright: ignore[reportArgumentType]
    for arguments in (["sample", "hf://user/model"], ["push", str(folder_of(tmp_path)), "user/model"]):
        assert main(arguments) == 1
        assert "pip install 'rastrum[hub]'" in capsys.readouterr().err


def test_the_library_is_imported_when_it_is_needed() -> None:
    code = "import sys, rastrum\nfrom rastrum.cli import main\nmain(['push', '--help'])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "OWNER/NAME" in done.stdout and not {"torch", "huggingface_hub", "httpx2"} & set(done.stderr.split())


def test_addresses() -> None:
    assert parse("hf://user/model") == ("user/model", None)
    assert parse("hf://a-b/c.d_e@refs/pr/1") == ("a-b/c.d_e", "refs/pr/1")
    for wrong in ("hf://", "hf://a", "hf://a/b/c", "hf://a/b@", "hf://a/..", "hf://a/b@x/../y", "hf://a/b@-x", "hf://a/b@x/", "hf://ä/b", "hf://a/b\n"):
        with pytest.raises(ValueError, match="expected hf://OWNER/NAME"):
            parse(wrong)


def parsed(text: str) -> Any:
    """The metadata of a card, as the Hub's own library reads them."""
    return ModelCard(text).data


def test_figures_of_a_revision_are_named_after_the_model() -> None:
    models = ("hf://user/draw@exp/1", "hf://user/draw", "runs/a@b")
    assert short_names(models) == ["draw", "draw-2", "a@b"]


def one_of(name: str) -> Model:
    """A tiny model of each class, of the kind of images and condition that it is for."""
    spec = ImageSpec(1, 8, 8, 2, 2) if name == "video-pixel-network" else ImageSpec(1, 8, 8, 2)
    return rastrum.build(name, spec, "tiny", ConditionSpec("class", 3) if "gated" in name else None)


@pytest.mark.parametrize("name", MODELS)
def test_the_hub_reads_the_card_of_every_model(name: str) -> None:
    model = one_of(name)
    text = card(model, replace(ORIGIN, license="mit"), "hf://user/model")
    data = parsed(text).to_dict()
    still = name != "video-pixel-network"
    assert data["library_name"] == "rastrum" and data["license"] == "mit" and data["datasets"] == ["uoft-cs/cifar10"]
    assert name_of(model).replace("++", "-plus-plus") == data["tags"][0]
    assert data.get("pipeline_tag") == ("unconditional-image-generation" if still and model.condition_spec is None else None)
    found = parsed(text).eval_results
    assert [(each.metric_type, each.metric_value, each.dataset_type, each.dataset_split) for each in found] == [
        ("bits-per-dim", 3.25, "uoft-cs/cifar10", "test"),
        ("nats", 9.0, "uoft-cs/cifar10", "test"),
    ]
    assert found[0].metric_args == {"standard_error": 0.01, "images": 1000} and parsed(text).model_name == "model"
    assert model.paper is not None and f"  title = {{{{{model.paper.title}}}}},\n" in text and 'rastrum.load("hf://user/model")' in text
    bare = card(model, Origin())
    assert not {"license", "datasets", "model-index"} & parsed(bare).to_dict().keys() and "licence" not in bare


@pytest.mark.parametrize("name", bundled())
def test_the_hub_reads_the_bundled_cards(name: str) -> None:
    origin, text = read_origin(name), (BUNDLED_FOLDER / name.removeprefix("rastrum/") / "README.md").read_text(encoding="utf-8")
    found = parsed(text)
    assert [each.metric_value for each in found.eval_results] == [score.value for score in origin.results]
    assert found.to_dict().get("datasets", []) == {"cifar10": ["uoft-cs/cifar10"], "binarized-mnist": []}.get(
        origin.data.name if origin.data else "", ["ylecun/mnist"]
    )
    known = parse_eval_result_entries(yaml.safe_load(evaluation_results(origin) or "[]"))
    assert len(known) == (len(origin.results) if "cifar10" in name or "classes" in name else 0)  # others are no sets of the Hub


def test_text_stays_text_in_the_metadata() -> None:
    """Whatever a data set is called."""
    texts = ['a: b\n- "c"\n---\n', "null", "no", "1.0", "#x", "\x85\u2028\x00", "é 😀 \\", "\ud800", "{a", "@", "'", ""]
    value = {"list": [*texts, 1, 0.5, True, None], "map": [{"a": text, "b": [[text]]} for text in texts]}
    read = yaml.safe_load("\n".join(to_yaml(value)))
    plain = ["".join(letter if letter.isprintable() else " " for letter in text) for text in texts]
    assert read == {"list": [*plain, 1, 0.5, True, None], "map": [{"a": text, "b": [[text]]} for text in plain]}


def test_a_model_keeps_its_licence_and_its_picture(tmp_path: Path) -> None:
    """Saved with a licence, loaded and saved again; a card names no picture that is not there."""
    model = rastrum.load("rastrum/gated-pixelcnn-binarized-mnist")
    assert model.save_pretrained(tmp_path / "a", license="cc0-1.0") is None
    again = rastrum.load(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    assert read_origin(tmp_path / "b").license == "cc0-1.0" and (tmp_path / "b" / "samples.png").exists()
    (tmp_path / "b" / "samples.png").write_bytes(b"not a picture")
    other = rastrum.load(tmp_path / "b")
    other.save_pretrained(tmp_path / "c")
    assert "![samples]" not in (tmp_path / "c" / "README.md").read_text() and read_config(tmp_path / "c").get("card") is None
    for wrong in ("MIT", "my own", "a\nb"):
        with pytest.raises(ValueError, match="license: expected"):
            model.save_pretrained(tmp_path / "d", license=wrong)
    with pytest.raises(ValueError, match="config: a model is saved with"):
        model.save_pretrained(tmp_path / "d", config={"layers": 3})
    with pytest.raises(ValueError, match="got 'template'"):
        model.save_pretrained(tmp_path / "d", model_card_kwargs={"template": "x"})
    assert not (tmp_path / "d").exists()


def test_no_folder_of_this_machine_goes_out(tmp_path: Path) -> None:
    """A model of own images is pushed with the last part of their path alone."""
    data = str(tmp_path / "patients" / "scans")
    origin = Origin(data=DataConfig(name=data), commands=(f"rastrum train gated-pixelcnn --data {data}",), results=ORIGIN.results)
    model = rastrum.build("gated-pixelcnn", SPEC, "tiny")
    model.origin = origin
    model.save_pretrained(tmp_path / "out", model_card_kwargs={"address": "hf://user/model"})
    written = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir() if path.suffix != ".safetensors")
    assert "patients" not in written and "--data scans" in written and parsed(written).eval_results[0].dataset_name == "scans"
    assert not (tmp_path / "out" / RESULTS).exists()                      # it is no set of the Hub
    assert tensor_bytes(model.state_dict()) == (tmp_path / "out" / "model.safetensors").read_bytes()
