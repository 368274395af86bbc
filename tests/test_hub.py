"""Models on the Hugging Face Hub, pushed and loaded by processes of their own through a server on this machine (``hub_server.py``); the
cards that they have there, read with the Hub's own parsers."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hub_server import TOKEN, Hub, Repository, serving
from huggingface_hub import ModelCard, parse_eval_result_entries
from markdown_it import MarkdownIt
from PIL import Image

import rastrum
from rastrum import ConditionSpec, ImageSpec
from rastrum.card import as_cell, as_code, card, evaluation_results, to_yaml
from rastrum.checkpoint import BUNDLED_FOLDER, Origin, bundled, name_of, read_config, read_origin, tensor_bytes
from rastrum.cli import main
from rastrum.cli.figures import short_names
from rastrum.config import DataConfig, Score
from rastrum.data.sources import NAMES, as_path
from rastrum.hub import RESULTS, parse, public
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


def ours_with(folder: Path, **entries: Any) -> bytes:
    """config.json of a folder with other entries."""
    return json.dumps(json.loads((folder / "config.json").read_text()) | entries).encode()


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
    ((code, said, _),) = commands(hub, tmp_path / "a", ["push", name, "digits", "--license", "mit", "--json"], token=TOKEN)
    files = hub.repositories["user/digits"].commits[hub.repositories["user/digits"].refs["main"]]
    assert code == 0 and json.loads(said)["commit"].startswith(f"{hub.address}/user/digits/commit/")
    assert json.loads(said)["repository"] == "user/digits"
    assert files["samples.png"] == (BUNDLED_FOLDER / name.removeprefix("rastrum/") / "samples.png").read_bytes()
    assert b"![samples](samples.png)" in files["README.md"]
    sample = ["sample", "hf://user/digits", "--count", "1", "--out", str(out), "--json"]
    score = ["score", "hf://user/digits@main", "--images", str(tmp_path / "none.png")]
    drawn, scored = commands(hub, tmp_path / "b", sample, score)
    warned = re.sub("rastrum: compiling.*\n", "", drawn[2])               # where no test before it had to
    assert (drawn[0], warned) == (0, "") and json.loads(drawn[1])["out"] == str(out) and out.exists()
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
    put(hub, folder_of(tmp_path), "user/unknown", config__json=ours_with(folder_of(tmp_path), model="os.system"))
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
        "hf://user/bert": (2, "rastrum: hf://user/bert/config.json: is not Rastrum's"),
        "hf://user/unknown": (2, "rastrum: hf://user/unknown/config.json: unknown model"),
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
    arguments += [["user/m", "--branch", "a..b"]]
    found = [stranger, *commands(hub, tmp_path / "a", *(["push", model, *each] for each in arguments), token=TOKEN)]
    expected = [
        (1, "hf auth login"),
        (1, "You don't have the rights"),
        (2, "expected OWNER/NAME"),
        (2, "expected OWNER/NAME"),
        (2, "in lower case"),
        (2, 'rastrum: "license" must be one of the known identifiers'),
        (2, "expected the name of a branch"),
    ]
    for (code, words), (ours, out, said) in zip(expected, found, strict=True):
        assert (ours, out) == (code, "") and words in said and said.count("\n") == 1, said
    assert not hub.repositories
    (gone,) = commands(hub, tmp_path / "a", ["push", model, "user/m"], token=TOKEN, HF_ENDPOINT="http://127.0.0.1:9")
    (offline,) = commands(hub, tmp_path / "a", ["push", model, "user/m"], token=TOKEN, HF_HUB_OFFLINE="1")
    for code, out, said in (gone, offline):
        assert (code, out) == (1, "") and "hf://user/m: the Hub cannot be reached" in said and said.count("\n") == 1, said


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
    assert "run it again" in broken[2].splitlines()[-1]
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
    assert way[2].startswith("rastrum: hf://user/model/model.safetensors: ")
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
        assert "pip install huggingface_hub" in capsys.readouterr().err


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
    photographs = ["berkeley/bsds300", "debian/photographs"]
    sets = {"cifar10": ["uoft-cs/cifar10"], "photographs": photographs}
    sets |= {elsewhere: [] for elsewhere in ("binarized-mnist", "omniglot", "omniglot28", "bsds300")}
    assert found.to_dict().get("datasets", []) == sets.get(origin.data.name if origin.data else "", ["ylecun/mnist"])
    known = parse_eval_result_entries(yaml.safe_load(evaluation_results(origin) or "[]"))
    assert origin.data is not None
    assert len(known) == (len(origin.results) if origin.data.name in ("cifar10", "mnist") else 0)   # others are no sets of the Hub


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
    misspelt: dict[str, Any] = {"licence": "mit"}
    for wrong in (misspelt, misspelt | {"push_to_hub": True}, {"token": "x"}, {"class_names": False}):
        with pytest.raises(TypeError, match=f"unexpected option '{next(iter(wrong))}'"):
            model.save_pretrained(tmp_path / "d", **wrong)  # pyright: ignore[reportArgumentType]
    for wrong in (5, None, "a b", "a/b/c"):
        with pytest.raises(ValueError, match="expected OWNER/NAME"):
            model.push_to_hub(wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"license: expected .* got 5"):
        model.push_to_hub("user/x", license=5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="got 'template'"):
        model.save_pretrained(tmp_path / "d", model_card_kwargs={"template": "x"})
    assert not (tmp_path / "d").exists()


def sent(origin: Origin, folder: Path, **about: Any) -> tuple[dict[str, Any], str]:
    """config.json and all text of a model of this origin as it goes to the Hub."""
    model = rastrum.build("gated-pixelcnn", SPEC, "tiny")
    model.origin = origin
    model.save_pretrained(folder, model_card_kwargs={"address": "hf://user/model", **about})
    assert tensor_bytes(model.state_dict()) == (folder / "model.safetensors").read_bytes()
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".safetensors"]
    return json.loads((folder / "config.json").read_text(encoding="utf-8")), "".join(texts)


@pytest.mark.parametrize(
    "name", ["{}/patients/scans", "{}/patients/scans/", "folder:{}/patients/scans", r"C:\Users\patients\scans", "hub:{}/patients/scans"]
)
def test_no_folder_of_this_machine_goes_out(tmp_path: Path, name: str) -> None:
    """A model of own images is pushed with the last part of their path alone; of runs, and of models on this machine, with none."""
    data, run, start = name.format(tmp_path), f"{tmp_path}/patients/run", r"D:\patients\start"
    words = ["rastrum", "train", "gated-pixelcnn", "--data", data, f"--data.name={data}", "--run.folder", run, "--start", start]
    resumed = ["rastrum", "train", "--resume", run, "--steps", "5"]
    others = (f"rastrum train --start={run} --x {tmp_path}/patients/x", "an unclosed 'quote")
    origin = Origin(data=DataConfig(name=data), commands=(*map(shlex.join, (words, resumed)), *others), results=ORIGIN.results)
    config, written = sent(origin, tmp_path / "out")
    assert config["data"]["name"] == "folder:scans" and "patients" not in written and str(tmp_path) not in written
    assert config["recipe"]["commands"] == [
        "rastrum train gated-pixelcnn --data folder:scans --data.name=folder:scans --run.folder FOLDER --start FOLDER",
        "rastrum train --resume FOLDER --steps 5",
        "rastrum train --start=FOLDER --x x",
    ]
    assert not (tmp_path / "out" / RESULTS).exists() and "model-index" not in written     # nobody else has these images


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_the_name_of_a_public_set_is_no_public_set(tmp_path: Path, name: str) -> None:
    origin = replace(ORIGIN, data=DataConfig(name=f"/home/jane/{name}"), commands=(f"rastrum train x --data /home/jane/{name}",))
    config, written = sent(origin, tmp_path / "out")
    assert config["data"]["name"] == f"folder:{name}" and as_path(config["data"]["name"]) == Path(name) and "jane" not in written
    assert config["recipe"]["commands"] == [f"rastrum train x --data folder:{name}"]
    data = parsed((tmp_path / "out" / "README.md").read_text(encoding="utf-8")).to_dict()
    assert not {"datasets", "model-index"} & data.keys() and not (tmp_path / "out" / RESULTS).exists()


def test_commands_are_changed_by_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short name of a folder is no text to replace; public names and everything else stay."""
    (tmp_path / "cells" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cells")
    tail = "--optim.learning-rate 2e-3 --data.train 'test[:9]' --minutes 0.5"
    for name, shown in ((".", "cells"), ("deep/..", "cells"), ("/", "images"), ("deep", "deep")):
        origin = public(Origin(data=DataConfig(name=name), commands=(f"rastrum train x --data {name} {tail}",)))
        assert origin.data is not None and origin.data.name == f"folder:{shown}"
        assert origin.commands == (f"rastrum train x --data folder:{shown} {tail}",)
        assert public(origin) == origin
    same = (
        "rastrum train x --data hub:user/cells:part --start hf://user/model@v1",
        f"rastrum train x --data mnist --start rastrum/draw-binarized-mnist {tail}",
        "rastrum train x --data 'my images' --model.layers 2 3",
    )
    assert public(Origin(data=DataConfig(name="hub:user/cells:part"), commands=same)).commands == same


def test_a_trained_folder_is_pushed(hub: Hub, tmp_path: Path) -> None:
    """Trained, resumed and pushed on the command line: no file on the server names a folder, the last sheet of samples is the picture."""
    data, run = tmp_path / "private" / "mnist", tmp_path / "private" / "runs" / "secret"
    for name in ("Alice", "Bob"):
        (data / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8)).astype(np.uint8)).save(data / name / f"{i}.png")
    train = ["train", "gated-pixelcnn", "--preset", "tiny", "--conditional", "--run.evaluations", "2"]
    trained = [*train, "--data", str(data), "--run.folder", str(run), "--run.steps", "4"]
    pushed = ["push", str(run), "user/private"], ["push", str(run), "user/nameless", "--no-class-names"]
    found = commands(hub, tmp_path / "a", trained, ["train", "--resume", str(run), "--steps", "2"], *pushed, token=TOKEN)
    assert [code for code, _, _ in found] == [0] * 4, found
    sheet = sorted(run.glob("samples-*.png"))[-1].read_bytes()
    for name in ("user/private", "user/nameless"):
        repository = hub.repositories[name]
        files = repository.commits[repository.refs["main"]]
        assert set(files) == {*FILES, ".gitattributes", "samples.png"} and files["samples.png"] == sheet
        for place in (str(Path.home()), os.getcwd(), str(tmp_path), "secret", "private/"):
            assert not any(place.encode() in content.replace(f"hf://{name}".encode(), b"") for content in files.values()), place
        assert all((b"Alice" in files[file]) == (name == "user/private") for file in ("README.md", "config.json"))
        assert "resume FOLDER" in files["README.md"].decode() and "![samples](samples.png)" in files["README.md"].decode()
    (drawn,) = commands(hub, tmp_path / "b", ["sample", "hf://user/private", "--count", "2", "--out", str(tmp_path / "x.png")])
    assert drawn[0] == 0, drawn


def test_text_stays_text_in_the_card() -> None:
    """Names, words and commands are shown as they are, on one line, whatever they hold."""
    evil = "a|b `x`\n# <script>alert(1)</script> ![p](http://x/y.png) *b* _i_ __i__ \\ &lt; under_score"
    origin = Origin(
        data=DataConfig(name=evil),
        class_names=(evil, *map(str, range(900))),
        recipe=evil,
        training=evil,
        commands=(evil, "`", "``x``", ""),
        rows={evil: evil},
        example=("```", "````", "<script>"),
        results=(Score(value=1.0, unit=evil, kind="measure", notes=evil),),
    )
    text = card(rastrum.build("gated-pixelcnn", SPEC, "tiny"), origin)
    body = text.partition("\n# gated-pixelcnn\n")[2]
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3} and len(rows) == 12
    plain = [row for row in rows if not row.startswith("| command")]
    for row in plain:
        assert not re.search(r"(?<!\\)(`|<|\*|&|!\[|\]\()", row), row
    assert r"a\|b \`x\` # \<script>" in plain[-1] and "under_score" in plain[-1]
    shown = MarkdownIt("commonmark").enable("table").render(f"| a | b |\n|---|---|\n| {as_cell(evil)} | {as_code(evil)} |\n")
    first, second = (html.unescape(found) for found in re.findall("<td>(.*)</td>", shown))
    assert first == " ".join(evil.split()) and second == f"<code>{first}</code>"
    (command,) = set(rows) - set(plain)
    assert r"`` a\|b `x` # <script>" in command and ", then `` ` ``, then ``` ``x`` ```" in command
    (classes,) = [row for row in rows if row.startswith("| classes")]
    assert classes.endswith(", 48 and 851 more |")
    assert body.count("\n`````python\n```\n````\n<script>\n`````\n") == 1


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_a_score_that_is_no_number_is_dropped(tmp_path: Path, value: str) -> None:
    """What a config.json claims; the rest of it stays."""
    folder = folder_of(tmp_path)
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"value": 3.25', f'"value": {value}'))
    model = rastrum.load(folder)
    assert model.origin is not None and [score.value for score in model.origin.results] == [9.0] and model.origin.recipe == "tiny-cifar10"
    path.write_text(path.read_text().replace('"error": 0.01', f'"error": {value}').replace(f'"value": {value}', '"value": 3.25'))
    assert [score.value for score in read_origin(folder).results] == [9.0]
