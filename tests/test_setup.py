"""The set-up files agree with each other, and a failed installation is not taken for a good one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import exps

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest there

ROOT = Path(__file__).parents[1]
DEFAULT_PYTHON = (3, 11)  # environment.yml's
NEEDS_MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def lines(name: str) -> list[str]:
    without_comments = (re.sub(r"(^|\s)#.*", "", line) for line in read(name).splitlines())
    return [line.rstrip() for line in without_comments if line.strip()]


def applies(marker: str, python: tuple[int, int]) -> bool:
    """Whether a marker like `python_version < "3.11"` holds."""
    if not marker:
        return True
    match = re.fullmatch(r'python_version (<|>=) "(\d+)\.(\d+)"', marker)
    assert match, f"a marker that this test does not know: {marker}"
    older = python < (int(match[2]), int(match[3]))
    return older if match[1] == "<" else not older


def requirements(name: str, python: tuple[int, int]) -> dict[str, str]:
    """Package name -> exact version, for this Python."""
    pins: dict[str, str] = {}
    for line in lines(name):
        if line.startswith("-r "):
            continue
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        package, version = requirement.split("==")
        if applies(marker, python):
            assert package not in pins, f"{package} is pinned twice for Python {python}"
            pins[package] = version
    return pins


def environment() -> tuple[list[str], dict[str, str]]:
    """The conda dependencies and the pip pins of environment.yml."""
    text = lines("environment.yml")
    start = text.index("  - pip:")
    conda = [line.removeprefix("  - ") for line in text[text.index("dependencies:") + 1 : start]]
    pins = [line.removeprefix("      - ") for line in text[start + 1 :]]
    return conda, dict(pin.split("==") for pin in pins)


def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))["project"]


def program() -> list[str]:
    """What the program needs: more than the layers, which are what pip installs."""
    groups = tomllib.loads(read("pyproject.toml"))["dependency-groups"]
    return project()["dependencies"] + groups["program"]


def test_environment_is_in_step_with_requirements() -> None:
    conda, pins = environment()
    assert "name: sparse_syn" in lines("environment.yml")
    assert conda == ["python=" + ".".join(map(str, DEFAULT_PYTHON)), "pip"]
    assert pins == requirements("requirements.txt", DEFAULT_PYTHON)


@pytest.mark.parametrize("python", [(3, 10), (3, 11), (3, 12), (3, 13)])
def test_every_python_gets_every_package_once(python: tuple[int, int]) -> None:
    named = {re.split(r"[<>=]", package)[0] for package in program()}
    assert set(requirements("requirements.txt", python)) == named
    assert set(requirements("requirements-dev.txt", python)) == {
        "pytest",
        "pytest-xdist",
        "ruff",
        "mypy",
        "hypothesis",
    }
    assert "-r requirements.txt" in lines("requirements-dev.txt")
    assert "-r requirements-tensorboard.txt" in lines("requirements-dev.txt")
    assert set(requirements("requirements-tensorboard.txt", python)) == {"tensorboard"}


def test_what_ray_needs() -> None:
    assert set(requirements("requirements-ray.txt", DEFAULT_PYTHON)) == {"ray[default,client]"}
    assert "-r requirements.txt" in lines("requirements-ray.txt")
    assert "-r requirements-ray.txt" in lines("requirements-dev.txt")


def test_what_fuzzing_needs() -> None:
    assert set(requirements("requirements-fuzz.txt", DEFAULT_PYTHON)) == {"atheris"}
    assert "-r requirements.txt" in lines("requirements-fuzz.txt")
    assert "make fuzz-install" in read(".ci/run")


def test_project_facts_agree() -> None:
    assert project()["version"] == exps.VERSION
    assert project()["requires-python"] == ">=3.10"
    assert "sys.version_info < (3, 10)" in read("Makefile")
    assert sys.version_info >= (3, 10)


def test_ci_runs_the_test_command() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert lines(".ci/run")[-1] == "exec make test"


FAKE_PYTHON = """#!/bin/sh
# Stands in for python and notes its arguments; pip fails while there is a file named broken.
echo "$@" >> log
case "$*" in
    "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip"*) test ! -e broken ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The set-up files beside a stand-in for python."""
    for name in ("Makefile", *(path.name for path in ROOT.glob("requirements*.txt"))):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(FAKE_PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def make(clone: Path, *arguments: str) -> tuple[int, list[str]]:
    """The exit status, and what python was asked to do."""
    (clone / "log").write_text("")
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-s", *arguments, "PYTHON=./python"]
    done = subprocess.run(command, cwd=clone, env=environ, capture_output=True, check=False)
    asked = (clone / "log").read_text().splitlines()
    return done.returncode, [line for line in asked if not line.startswith("-c")]


@NEEDS_MAKE
def test_make_run_installs_once_and_passes_arguments_on(clone: Path) -> None:
    install = "-m pip install --disable-pip-version-check -r requirements.txt"
    assert make(clone, "run") == (0, ["-m venv --clear .venv", install, "run_exps.py"])
    assert make(clone, "run", "ARGS=--name CNN") == (0, ["run_exps.py --name CNN"])
    later = (clone / ".venv" / "run.stamp").stat().st_mtime + 10
    os.utime(clone / "requirements.txt", (later, later))
    assert make(clone, "run") == (0, [install, "run_exps.py"])


@NEEDS_MAKE
def test_make_test_lints_checks_types_and_tests(clone: Path) -> None:
    status, asked = make(clone, "test")
    assert status == 0
    assert asked[1].endswith("-r requirements-dev.txt")
    assert asked[2:] == ["-m ruff check .", "-m mypy", "-m pytest -n auto --dist loadfile"]


@NEEDS_MAKE
def test_a_failed_installation_is_repeated(clone: Path) -> None:
    (clone / "broken").touch()
    status, asked = make(clone, "run")
    assert status != 0
    assert "run_exps.py" not in asked
    (clone / "broken").unlink()
    status, asked = make(clone, "run")
    assert status == 0
    assert asked[-1] == "run_exps.py"
    assert any("pip install" in line for line in asked)


def test_the_benchmark_can_be_started() -> None:
    """`make bench`, which no other test runs: from a folder of its own, as a script."""
    script = Path(__file__).parent / "speed" / "bench.py"
    words = [sys.executable, str(script), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--sections" in done.stdout, done.stderr
