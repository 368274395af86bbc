"""Four short stories of users, docs/stories: every command and every example runs, in order, in an empty folder, as they are printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rastrum.cli import main

FOLDER = Path(__file__).parent.parent / "docs" / "stories"
STORIES = sorted(path.stem for path in FOLDER.glob("*.md"))


@pytest.mark.parametrize("story", STORIES)
def test_a_story(story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples check what the text promises; a command must end well."""
    monkeypatch.chdir(tmp_path)
    text, names = (FOLDER / f"{story}.md").read_text(encoding="utf-8"), {"__name__": story}
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language == "python":
            exec(compile(block, f"{story}.md", "exec"), names)
            continue
        assert language == "sh"
        for line in block.splitlines():
            program, *command = shlex.split(line, comments=True)
            assert program == "rastrum"
            try:
                code = main(command)
            except SystemExit as end:
                code = end.code
            assert not code, line


def test_links_exist() -> None:
    for story in STORIES:
        for target in re.findall(r"\]\(([^)#]+)\)", (FOLDER / f"{story}.md").read_text(encoding="utf-8")):
            assert target.startswith("https://") or (FOLDER / target).exists(), target
