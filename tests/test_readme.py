"""What the README shows works: the Python example, the commands in their order, the pictures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rastrum.cli import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})


def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run in an empty folder, one after another; only the training is shortened."""
    monkeypatch.chdir(tmp_path)
    text = TEXT[TEXT.index("## On the command line") :]                    # what is above sets up
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith(".venv/bin/")]
    assert {"train", "sample", "check"} <= {command[0] for _, *command in commands}
    for program, *command in commands:
        if program.endswith("python"):
            exec(command[1], {})                                           # python -c TEXT
            continue
        short = ["--run.steps", "3", "--run.evaluations", "1", "--run.held-out-images", "8"] if command[0] == "train" else []
        short = ["--steps", "3"] if "--resume" in command else short
        try:
            code = main([*command, *short])
        except SystemExit as end:
            code = end.code
        assert not code, command
    assert {"digits.png", "digits.gif", "context.png", "fives.png"} <= {path.name for path in tmp_path.iterdir()}


def test_its_links_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target).exists(), target
