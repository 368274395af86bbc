"""Short stories of users and how-tos, docs/stories and docs/howto: every command and example runs, in order, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rastrum.cli import main

DOCS = Path(__file__).parent.parent / "docs"
STORIES = [path.relative_to(DOCS).as_posix() for folder in ("stories", "howto") for path in sorted((DOCS / folder).glob("*.md"))]


@pytest.mark.parametrize("story", STORIES)
def test_a_story(story: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples check what the text promises; a command must end well."""
    monkeypatch.chdir(tmp_path)
    text, names = (DOCS / story).read_text(encoding="utf-8"), {"__name__": story}
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language == "python":
            exec(compile(block, story, "exec"), names)
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
