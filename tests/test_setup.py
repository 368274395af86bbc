"""What an installation takes: lower bounds, pins, and the hashes of the pinned releases agree, and no advice mixes package indexes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES = [
    *(Requirement(text) for text in PROJECT["project"]["dependencies"]),
    *(Requirement(text) for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra),
]
PINS = {line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")}
ADVICE = [path for pattern in ("*.md", "docs/*.md", "Makefile", ".ci/*", "*.lock", "constraints.txt") for path in ROOT.glob(pattern)]


def locked(name: str) -> dict[str, tuple[Marker | None, list[str]]]:
    """The pins of a lock, with the platforms that each is for and the hashes of its files."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    entries = [line.partition(" --hash=")[::2] for line in text.splitlines() if not line.startswith("#")]
    found = {}
    for head, hashes in entries:
        requirement = Requirement(head)
        found[f"{requirement.name}{requirement.specifier}"] = (requirement.marker, re.split(r"\s+--hash=", hashes.strip()))
    assert len(found) == len(entries)
    return found


LOCK, CUDA = locked("requirements.lock"), locked("requirements-cuda.lock")


@pytest.mark.parametrize("requirement", DEPENDENCIES, ids=str)
def test_every_dependency_has_a_lower_bound_and_a_pin(requirement: Requirement) -> None:
    assert {each.operator for each in requirement.specifier} == {">="}
    (pin,) = (pin for pin in PINS if pin.startswith(f"{canonicalize_name(requirement.name)}=="))
    assert pin.partition("==")[2] in requirement.specifier


def test_the_build_needs_a_release_of_its_own() -> None:
    """`pip install --no-build-isolation` takes the locked one."""
    (build,) = (Requirement(text) for text in PROJECT["build-system"]["requires"])
    (pin,) = (pin for pin in LOCK if pin.startswith("setuptools=="))
    assert {each.operator for each in build.specifier} == {">="} and pin.partition("==")[2] in build.specifier


def test_the_lock_holds_the_pinned_releases() -> None:
    """All of them, and nothing else but what some other platform needs."""
    assert LOCK.keys() >= PINS
    for name in LOCK.keys() - PINS:
        marker = LOCK[name][0]
        assert marker is not None and not marker.evaluate({"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}), name
    assert CUDA.keys() & LOCK.keys() == set()
    for name, (marker, _) in CUDA.items():
        assert re.match(r"(nvidia|cuda)-|triton=", name) and "sys_platform == 'linux'" in str(marker).replace('"', "'")


def test_every_locked_release_has_its_hashes() -> None:
    seen = set()
    for name, (_, hashes) in (LOCK | CUDA).items():
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes), name
        assert not seen & set(hashes) and len(set(hashes)) == len(hashes), name
        seen |= set(hashes)
    wheels = len(LOCK[next(pin for pin in PINS if pin.startswith("numpy=="))][1])
    assert wheels > 20                                                    # of every platform, not of one


@pytest.mark.parametrize("path", ADVICE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_advice_mixes_indexes(path: Path) -> None:
    """With a second index, pip takes a package from whichever has the higher version, whoever put it there; so an index that is not PyPI is
    asked for one package, without its dependencies."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"extra[-_]index|find[-_]links|trusted[-_]host", text, re.IGNORECASE)
    for line in text.splitlines():
        if "download.pytorch.org" in line:
            alone = re.search(r"--no-deps --index-url https://download\.pytorch\.org/whl/cpu (torch==\d+\.\d+\.\d+)", line)
            assert alone is not None and alone[1] in PINS, line
