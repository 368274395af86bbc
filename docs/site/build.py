"""Builds the documentation site: `python docs/site/build.py [FOLDER]`, build/site by default. It reads nothing from the network.

    README, CHANGELOG, CONTRIBUTING, docs/, notebooks/  ── copied as they lie, so that their links hold ──┐
    systems.py, pictures.py, reference.py               ── pages made of code, recipes and models ────────┴──▶ FOLDER/source ──▶ Sphinx
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COPIED = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "docs")
SECTIONS = {"installation": ("Begin", "Installation"), "python": ("In Python", "In Python"),
            "command-line": ("On the command line", "On the command line")}  # fmt: skip


def section(text: str, heading: str) -> str:
    """What stands below a heading of the second level.

    text: Markdown.
    heading: without its marks.
    """
    (found,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found


def stage(source: Path) -> None:
    """Write all pages.

    source: the folder that Sphinx reads.
    """
    import pictures
    import reference
    import systems

    from rastrum import MODELS, lecture
    from rastrum.checkpoint import bundled, find

    for name in COPIED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
        else:
            shutil.copy(path, source / name)
    readme, gallery = (ROOT / "README.md").read_text(encoding="utf-8"), pictures.find(ROOT)
    pages = {name: f"# {title}\n{section(readme, heading)}" for name, (heading, title) in SECTIONS.items()}
    pages |= {"index": (HERE / "index.md").read_text(encoding="utf-8"), "gallery": pictures.page(gallery)}
    pages |= {f"systems/{systems.file_of(name)}": systems.page(name, gallery) for name in MODELS}
    pages |= {"systems/index": systems.index()}
    pages |= {"reference/commands": reference.commands()}
    pages |= {f"reference/{name}": text for name, text in reference.pages().items()}
    for system in MODELS.values():
        file = systems.source_of(system)
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, source / file)
    cards = []
    for name in bundled():
        folder = find(name)
        target = source / "src" / "rastrum" / "pretrained" / folder.name
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
        cards.append(f"{name} <src/rastrum/pretrained/{folder.name}/README>")
    pages["cards"] = "# Bundled models\n\nEach is part of the package: `rastrum.load(NAME)`, `rastrum sample NAME`.\n\n```{toctree}\n" \
        ":maxdepth: 1\n\n" + "\n".join(cards) + "\n```\n"
    for name, text in pages.items():
        path = source / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (source / "systems" / "figures").mkdir()
    for name in systems.FIGURES.values():
        (source / "systems" / "figures" / f"{name}.svg").write_bytes(lecture.figure(name).encode(".svg"))


def build(folder: Path) -> int:
    """Write the site, and return Sphinx's exit code; a warning is an error.

    folder: gets the pages; what was there of an earlier build is removed.
    """
    from sphinx.cmd.build import main

    source = folder.with_name(f"{folder.name}-source")
    for old in (folder, source):
        shutil.rmtree(old, ignore_errors=True)
    source.mkdir(parents=True)
    stage(source)
    return main(["-q", "-W", "--keep-going", "-E", "-c", str(HERE), "-d", str(source / ".doctrees"), str(source), str(folder)])


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")                               # of the commands' help
    sys.exit(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"))
