"""The card of a saved model: README.md, whose first lines tell the Hub what it is, and the scores as the Hub's ``.eval_results`` has them.

Both are written from what the model's folder says (``Origin``), its class and its data set alone. The licence of the weights is stated
where their author gave one, and never guessed; what the data ask for is in ``data/sources.py``.

The metadata are YAML: of the keys of https://huggingface.co/docs/hub/model-cards, and for the scores also those of
https://huggingface.co/docs/hub/eval-results. Scalars are written as JSON, which YAML reads alike, so nothing here needs a library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from .config import Score
from .data.sources import NOTICES, hub_repositories, hub_repository, is_public

if TYPE_CHECKING:
    from .checkpoint import Origin
    from .model import Model

MOST_CLASSES = 50              # named in a card
HUB = "hf://"                  # "hf://OWNER/NAME@REVISION" is a model on the Hub


class Paper(NamedTuple):
    """What a model is cited by.

    title: of the paper.
    authors: family names between commas; "others" for those that are left out.
    year: of publication.
    """

    title: str
    authors: str
    year: int

    @property
    def bibtex(self) -> str:
        """The entry, under a key such as gregor2015draw."""
        first, word = self.authors.partition(",")[0], self.title.split()[0]
        key = re.sub(r"[^a-z0-9]", "", f"{first}{self.year}{word}".lower())
        authors = self.authors.replace(", ", " and ")
        return f"@misc{{{key},\n  title = {{{{{self.title}}}}},\n  author = {{{authors}}},\n  year = {{{self.year}}},\n}}"


def card(model: Model, origin: Origin, address: str = "this folder") -> str:
    """The text of README.md.

    model: what the card describes.
    origin: where the model comes from.
    address: what ``rastrum.load`` is given to find the model, "this folder" by default.
    """
    spec, condition, name = model.spec, model.condition_spec, vars(type(model))["name"]
    size = f"{spec.channels} x {spec.height} x {spec.width}, {spec.levels} levels"
    parameters = sum(p.numel() for p in model.parameters())
    rows = {
        "model": f"{name} ({', '.join(f'{part.name}={getattr(model.config, part.name)!r}' for part in fields(model.config))})",  # pyright: ignore[reportArgumentType]
        "images": size if spec.frames == 1 else f"{spec.frames} frames of {size}",
        "condition": "none" if condition is None else f"{condition.kind}, size {' x '.join(map(str, condition.shape)) or condition.size}",
        "parameters": f"{parameters:,}",
    }
    if origin.license:
        rows["licence of the weights"] = origin.license
    if origin.data is not None:
        of = "" if origin.images is None else f"{origin.images:,} images"
        split = f"{origin.data.name} {origin.data.train}"
        rows["data"] = ", ".join(part for part in (split, of, str(origin.data)) if part) + f"; held out: {origin.data.held_out}"
    if origin.class_names:
        more = len(origin.class_names) - MOST_CLASSES
        rows["classes"] = ", ".join(origin.class_names[:MOST_CLASSES]) + (f" and {more:,} more" if more > 0 else "")
    if origin.recipe is not None:
        chosen = "" if origin.tuned_on is None else f", settings chosen on {origin.tuned_on} images"
        rows["recipe"] = origin.recipe + chosen
    cells = {as_cell(key): as_cell(value) for key, value in rows.items()}
    if origin.commands:
        cells["command"] = ", then ".join(map(as_code, origin.commands))
    after = {"training": origin.training, "score": "; ".join(map(str, origin.results))}
    if origin.temperature is not None:
        after["samples"] = f"shown at temperature {origin.temperature:g}, chosen by eye"
    cells |= {as_cell(key): as_cell(value) for key, value in {**after, **origin.rows}.items() if value}
    table = "\n".join(f"| {key} | {value} |" for key, value in cells.items())
    picture = f"\n![samples]({origin.samples})\n" if origin.samples else ""
    example = example_of(model, origin, address)
    fence = "`" * (max(map(len, re.findall("`{3,}", example)), default=2) + 1)
    paper = getattr(model, "paper", None)
    citation = "" if paper is None else f"\nThe paper that the model builds on:\n\n```bibtex\n{paper.bibtex}\n```\n"
    notice = NOTICES.get(origin.data.name if origin.data else "", "")
    return (
        "\n".join(["---", *to_yaml(metadata(model, origin, address)), "---", "", f"# {name}", "", "| | |", "|---|---|", table, ""])
        + f"\n{fence}python\n{example}\n{fence}\n{picture}{citation}" + (f"\n{notice}\n" if notice else "")
    )


def as_cell(text: str) -> str:
    """Plain text in a cell of a table: on one line, and neither Markdown nor HTML whatever it holds."""
    return re.sub(r"[\\`*|<&]|!(?=\[)|\](?=[(\[])|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", " ".join(text.split()))


def as_code(text: str) -> str:
    """Code in a cell of a table: on one line, between more backticks than it holds in a row."""
    text = " ".join(text.split()).replace("|", r"\|")
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def example_of(model: Model, origin: Origin, address: str) -> str:
    """Lines of Python that load the model and draw with it, where it can. Parameters as of ``card``."""
    if origin.example:
        named = f'rastrum.load("{address}")'
        return "\n".join(re.sub(r'rastrum\.load\("[^"]*"\)', named, line) if address.startswith(HUB) else line for line in origin.example)
    condition = model.condition_spec
    given = "" if condition is None else ", condition=0" if condition.kind == "class" else f", condition=torch.zeros{condition.shape}"
    if model.condition_remedy():
        given = f", condition=torch.full({condition and condition.shape}, -1.0)"     # no exemplar
    lines = ["import torch"] if "torch" in given else []
    lines += ["import rastrum", "", f'model = rastrum.load("{address}")']
    if hasattr(model, "log_prob") and not model.has_likelihood:
        return "\n".join([*lines, "loss = model.loss(images)                  # no likelihood, so there is nothing to sample"])
    given += "" if origin.temperature is None else f", temperature={origin.temperature:g}"
    return "\n".join([*lines, f"images = rastrum.sample(model, 16{given})"])


# ── metadata ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def metadata(model: Model, origin: Origin, address: str = "") -> dict[str, Any]:
    """What the Hub reads at the top of a card.

    model: what the card describes.
    origin: where the model comes from. Scores on images of one's own are left out: nobody else has the data set.
    address: what ``rastrum.load`` is given to find the model; "" (default) for none.

    The Hub has a task for unconditional images alone: models of videos or with a condition say in their tags what they are.
    """
    name, condition, frames = vars(type(model))["name"], model.condition_spec, model.spec.frames
    still = "image-generation" if frames == 1 else "video-generation"
    task = "unconditional-image-generation" if condition is None and frames == 1 else f"{'un' * (condition is None)}conditional-{still}"
    kind = "autoregressive" if hasattr(model, "log_prob") else "latent-variable-model"
    found: dict[str, Any] = {"license": origin.license} if origin.license else {}
    found["library_name"] = "rastrum"
    if task == "unconditional-image-generation":
        found["pipeline_tag"] = task
    found["tags"] = list(dict.fromkeys([name.replace("+", "-plus").replace("-plus-plus-plus", "-plus"), still, task, kind]))
    repositories = hub_repositories(origin.data.name) if origin.data is not None else []
    if repositories:
        found["datasets"] = repositories
    if origin.data is not None and is_public(origin.data.name) and origin.results:
        title = address.removeprefix(HUB).rpartition("/")[2] if address.startswith(HUB) else origin.recipe or name
        data = hub_repository(origin.data.name) or origin.data.name
        found["model-index"] = [{"name": title, "results": [_result(score, task, data, origin) for score in origin.results]}]
    return found


def _result(score: Score, task: str, data: str, origin: Origin) -> dict[str, Any]:
    """One entry of model-index, as ``huggingface_hub.EvalResult`` reads it."""
    assert origin.data is not None
    split = {"split": score.split} if score.split else {}
    measured = {"standard_error": score.error, "images": score.images}
    metric = {"type": metric_of(score), "value": score.value, "name": _title(score)}
    if any(value is not None for value in measured.values()):
        metric["args"] = {key: value for key, value in measured.items() if value is not None}
    name = ", ".join(part for part in (origin.data.name, str(origin.data)) if part)
    return {"task": {"type": task}, "dataset": {"type": data, "name": name, **split}, "metrics": [metric]}


def metric_of(score: Score) -> str:
    """The name of a ``score``'s unit as the Hub spells such names: nats, bits-per-dim, percent."""
    return re.sub(r"\W+", "-", score.unit.replace("/", " per ").replace("%", "percent"))


def _title(score: Score) -> str:
    """What was measured, without the value: "nats per image (10,000 test images, exact)"."""
    unit = "nats per image" if score.unit == "nats" else score.unit
    return unit + str(score).partition(f" {score.unit}")[2]


def evaluation_results(origin: Origin) -> str:
    """The scores as the Hub's ``.eval_results/*.yaml`` has them; "" where there are none, or the data set is not on the Hub.

    origin: of the model.
    """
    repository = None if origin.data is None else hub_repository(origin.data.name)
    if repository is None or not origin.results:
        return ""
    entries = []
    for score in origin.results:
        notes = ", ".join(part for part in (_title(score), str(origin.data)) if part)
        notes += "" if score.error is None else f", standard error {score.error:g}"
        entries.append({"dataset": {"id": repository, "task_id": metric_of(score)}, "value": score.value, "notes": notes})
    return "\n".join([*to_yaml(entries), ""])


def to_yaml(value: Mapping[str, Any] | Sequence[Any], indent: str = "") -> list[str]:
    """Lines of YAML.

    value: mappings and lists of each other, of text and of numbers; none of them empty.
    indent: before each line, none by default.
    """
    lines = []
    for key, each in value.items() if isinstance(value, Mapping) else ((None, each) for each in value):
        head = f"{indent}-" if key is None else f"{indent}{key}:"
        if isinstance(each, str):
            each = "".join(letter if letter.isprintable() else " " for letter in each)
        if not isinstance(each, Mapping | list):
            lines.append(f"{head} {json.dumps(each, ensure_ascii=False)}")
            continue
        inner = to_yaml(each, indent + "  ")
        lines += [f"{head} {inner[0].strip()}", *inner[1:]] if key is None else [head, *inner]
    return lines
