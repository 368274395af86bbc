"""A page per system of ``rastrum.MODELS``: made of the head of its file, its class, its recipes, the bundled models and the gallery.

    models/NAME.py: paper, drawing, equations, what differs  ─┐
    the class and its config: docstrings, defaults           ─┤
    rastrum.recipes: scores, published scores, commands      ─┼──▶ systems/NAME.md
    pretrained/: what is bundled, with its scores            ─┤
    docs/gallery, rastrum.lecture: pictures                  ─┘
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

import equations
from docstrings import PARAMETER
from pictures import Picture

from rastrum import MODELS, lecture
from rastrum.checkpoint import bundled, read_config, read_origin
from rastrum.cli.about import describe, short
from rastrum.recipes import RECIPES
from rastrum.recipes.recipe import Recipe, duration

# A figure of the lecture for each system that has one.
_FIGURES = {
    "pixel-lstm": "plain-lstm", "spatial-lstm": "spatial-lstm", "row-lstm": "row-lstm", "diagonal-bilstm": "diagonal-bilstm",
    "pixelcnn": "masks", "gated-pixelcnn": "gated-layer", "pixelcnn++": "mixture", "draw": "draw-unrolled",
    "multiscale-pixelrnn": "multiscale", "one-shot": "one-shot", "gran": "gran", "vae": "vae",
}  # fmt: skip
FIGURES = {system: figure for system, figure in _FIGURES.items() if figure in lecture.available()}      # its models are bundled
# Pictures whose names begin with something else than their system.
ALSO = {
    "filter-banks": "draw", "reading": "draw", "placed-mnist": "row-lstm", "ride": "spatial-lstm", "moving-mnist": "video-pixel-network",
    "skewed-map": "diagonal-bilstm", "strengths-gated-pixelcnn": "gated-pixelcnn", "rates": "conv-draw", "lossy": "conv-draw",
}  # fmt: skip
KINDS = {
    "raster": ("pixel by pixel, exact likelihood", ["log p(x) = Σ_t log p(x_t | x_{<t})"]),
    "canvas": ("stroke by stroke, a bound", ["log p(x) ≥ E_q [log p(x | z_1 … z_T) − Σ_t KL(q(z_t) ‖ p(z_t))] = −L"]),
    "gan": ("drawn against a discriminator, no likelihood",
            ["min over G, max over D:  V(G, D) = E_x [log D(x)] + E_z [log(1 − D(G(z)))]     or another loss of the config"]),
}


def file_of(name: str) -> str:
    """The name of a system's page, without its ending: that of its pictures.

    name: in ``MODELS``.
    """
    return name.replace("+", "-plus")


def system_of(stem: str) -> str | None:
    """The system that a picture of the gallery is of, by the longest beginning of its name; None for several or none.

    stem: the picture's name without its ending.
    """
    begins = {file_of(name): name for name in MODELS} | ALSO
    return begins[max(found, key=len)] if (found := [begin for begin in begins if stem.startswith(begin)]) else None


def title_of(name: str) -> str:
    """What a system is called, as its class says.

    name: in ``MODELS``.
    """
    first = re.split(r"[.;,](?:\s|$)", inspect.getdoc(MODELS[name]) or name)[0]
    return first.removeprefix("A ")[:1].upper() + first.removeprefix("A ")[1:]


def page(name: str, gallery: list[Picture]) -> str:
    """The page of a system, as Markdown.

    name: in ``MODELS``.
    gallery: all pictures of the gallery; those whose names begin with the system's are shown.
    """
    system = MODELS[name]
    mine = [each for each in gallery if system_of(each.stem) == name]
    parts = [f"# {title_of(name)}", facts(name)]
    if name in FIGURES:
        parts += [f"![{lecture.FIGURES[FIGURES[name]].title}](figures/{FIGURES[name]}.svg)",
                  f"`rastrum figure {FIGURES[name]} --out {FIGURES[name]}.svg`"]  # fmt: skip
    elif mine:
        parts.append(mine[0].markdown(".."))
    parts += ["## The model", *head(inspect.getdoc(sys.modules[system.__module__]) or "", KINDS[kind_of(name)][1])]
    if shared := [base for base in system.__mro__[1:] if base.__name__ in ("PixelRNN", "DCGAN")]:
        parts += [f"## What it shares: {shared[0].__name__}", *head(inspect.getdoc(sys.modules[shared[0].__module__]) or "", [])]
    parts += scores(name)
    if models := [each for each in bundled() if read_config(each)["model"] == name]:
        parts += ["## Bundled with the package", *map(bundled_model, models)]
    rest = mine if name in FIGURES else mine[1:]
    if rest:
        parts += ["## More pictures", *(each.markdown("..") for each in rest)]
    parts += ["## In Python", f"```python\nmodel = rastrum.build({name!r}, rastrum.ImageSpec(1, 28, 28, levels=2), preset=\"small\")\n```",
              sizes(system), autoclass(system)]  # fmt: skip
    if system.paper is not None:
        parts += ["## To cite the paper", f"```bibtex\n{system.paper.bibtex}\n```"]
    return "\n\n".join(parts) + "\n"


def source_of(system: type) -> str:
    """The file of a system's class, by its path in the repository."""
    return f"src/{system.__module__.replace('.', '/')}.py"


def kind_of(name: str) -> str:
    """Which kind of model a system is, "raster", "canvas" or "gan", as ``rastrum models`` says."""
    return describe(name, ())["kind"]


def facts(name: str) -> str:
    """A table of what a system takes and how large its presets are."""
    found, system = describe(name), MODELS[name]
    counts = ", ".join(f"{preset} {short(count)}" for preset, count in found["parameters"].items())
    rows = {
        "name": f"`{name}`",
        "kind": f"{found['kind']}: {KINDS[found['kind']][0]}",
        "paper": f"{system.paper.authors}, *{system.paper.title}*, {system.paper.year}" if system.paper else "none",
        "conditions": ", ".join(found["conditions"]) or "none",
        "images": f"{'grey or colour' if found['colour'] else 'grey'}, up to {found['levels']:,} levels" + ", videos" * found["videos"],
        "parameters": counts + (f"; more presets: {', '.join(found['more_presets'])}" if found["more_presets"] else ""),
        "source": f"[{(file := source_of(system))}](../{file})",
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())


def head(text: str, before: list[str]) -> list[str]:
    """The head of a model's file as Markdown.

    text: its docstring.
    before: equations to show after its first paragraph.
    """
    parts = []
    for block in blocks(text):
        if not block[0].startswith("    "):
            parts.append("\n".join(map(markdown, block)))
        elif equations.is_equations(block):
            parts.append(equations.html(block))
        else:
            parts.append("```text\n" + "\n".join(line[4:] for line in block) + "\n```")
    parts = [re.sub(r"\AWhat differs(.*?):\n(?=-)", r"**What differs\1**\n\n", part) for part in parts]
    parts[1:1] = [equations.html(before)] if before else []
    return parts


def blocks(text: str) -> Iterator[list[str]]:
    """Paragraphs and indented blocks of a docstring; an indented block keeps its empty lines."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def markdown(line: str) -> str:
    """A line of a docstring's prose, with ``code`` as Markdown has it and nothing else that Markdown would read."""
    parts = re.split(r"(``[^`]+``|`[^`]+`)", line)
    escaped = [f"`{part.strip('`')}`" if i % 2 else re.sub(r"([\\*_<>\[\]|~])", r"\\\1", part) for i, part in enumerate(parts)]
    return "".join(escaped)


def scores(name: str) -> list[str]:
    """Scores and commands of a system's recipes; of those without a score, the command."""
    recipes = [recipe for recipe in RECIPES.values() if recipe.system == name]
    measured = [recipe for recipe in recipes if recipe.expected is not None]
    parts = ["## Scores, and the commands that train it"]
    if measured:
        parts.append("| data | score | published | time | recipe |\n|---|---|---|---|---|\n" + "\n".join(map(score_row, measured)))
        if any(recipe.tuned_on == "test" for recipe in measured):
            parts.append("† settings chosen on these test images: expect a slightly worse score on others.")
    for recipe in measured:
        parts.append(f"`{recipe.name}`: {markdown(recipe.about)} {'; '.join(markdown(str(each)) for each in recipe.further)}\n\n"
                     f"```sh\n{chr(10).join(recipe.commands)}\n```")  # fmt: skip
    if rest := [recipe for recipe in recipes if recipe.expected is None]:
        lines = [f"- `rastrum train {recipe.name}`: {markdown(recipe.about)}"
                 + "".join(f" Published: {markdown(str(each))}." for each in recipe.published) for recipe in rest]  # fmt: skip
        parts += ["Recipes that have not been run to their end yet:", "\n".join(lines)]
    return [*parts, f"On images of your own: `rastrum train {name} --data FOLDER --minutes 10`. What was measured: "
                    "[results](../docs/results.md)."]  # fmt: skip


def score_row(recipe: Recipe) -> str:
    """A row of the table of scores."""
    score = recipe.expected
    assert score is not None
    sign, mark = "≤ " * (score.kind == "bound"), " †" * (recipe.tuned_on == "test")
    time = duration(sum(run.minutes for run in recipe.budget)) if recipe.budget else ""
    data = ", ".join(part for part in (recipe.data.name, str(recipe.data)) if part)
    published = recipe.published[0].number if recipe.published else "–"
    return f"| {data} | {sign}{score.number} {score.unit}{mark} | {published} | {time} | `{recipe.name}` |"


def bundled_model(name: str) -> str:
    """A bundled model: its picture, its scores, and its card.

    name: "rastrum/NAME".
    """
    origin, folder = read_origin(name), f"../src/rastrum/pretrained/{name.removeprefix('rastrum/')}"
    results = "; ".join(markdown(str(score)) for score in origin.results)
    trained = f"{markdown(origin.training)}. " if origin.training else ""
    return f"![samples of {name}]({folder}/samples.png)\n\n[`{name}`]({folder}/README.md): {results}. {trained}"


def sizes(system: Any) -> str:
    """A table of a config's fields."""
    about = descriptions(system.config_class)
    rows = [f"| `{each.name}` | {'' if each.default is MISSING else f'`{each.default!r}`'} | {markdown(about.get(each.name, ''))} |"
            for each in fields(system.config_class)]  # fmt: skip
    what = f"`{system.config_class.__name__}`, whose fields are overrides of `build` and flags (`--model.…`) of `rastrum train`:"
    return "\n".join([what, "", "| option | default | |", "|---|---|---|", *rows])


def descriptions(config: type) -> dict[str, str]:
    """What each field of a config is, from the docstrings of it and its bases, and the comments beside the fields."""
    found: dict[str, str] = {}
    for each in reversed(config.__mro__[:-1]):
        names: list[str] = []
        for line in (inspect.getdoc(each) or "").splitlines():
            if match := PARAMETER.fullmatch(line):
                names = match[1].split(", ")
                found |= dict.fromkeys(names, match[3])
            elif names and line.startswith("    "):
                found |= {name: f"{found[name]} {line.strip()}" for name in names}
            else:
                names = []
        for node in ast.walk(ast.parse(inspect.getsource(each))):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                line = inspect.getsource(each).splitlines()[node.lineno - 1]
                if comment := re.search(r"  # (.+)", line):
                    found[node.target.id] = comment[1].strip()
    return found


def autoclass(system: type) -> str:
    """Sphinx's documentation of a class, with the members of its own."""
    return f"```{{eval-rst}}\n.. autoclass:: {system.__module__}.{system.__qualname__}\n   :no-members:\n```"


def index() -> str:
    """The page that lists the systems."""
    rows = [f"| [{title_of(name)}]({file_of(name)}.md) | `{name}` | {kind_of(name)} |" for name in MODELS]
    tree = "\n".join(file_of(name) for name in MODELS)
    return ("# The systems\n\n| system | name | kind |\n|---|---|---|\n" + "\n".join(rows) + "\n\n" + "\n".join(
        f"{kind}: {text} ·" for kind, (text, _) in KINDS.items()).removesuffix(" ·")
        + f"\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n")  # fmt: skip
