"""How what the user wrote is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from exps.messages import did_you_mean, either, quoted, shown, shown_path


def test_what_is_shown_is_short_and_on_one_line() -> None:
    assert quoted("a b") == "'a b'"
    assert quoted("a\nb\x1b\udc80") == "'a\\nb\\x1b\\udc80'"
    assert shown("x" * 100) == "x" * 60 + "..."


def test_did_you_mean() -> None:
    assert did_you_mean("SPLITMNIST", ["CNN", "SplitMNIST"]) == "; did you mean 'SplitMNIST'?"
    assert did_you_mean("zzz", ["CNN", "SplitMNIST"]) == ""


def test_either() -> None:
    assert either(["a"]) == "a"
    assert either(["a", "b"]) == "a or b"
    assert either([1, 2, 5]) == "1, 2 or 5"


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown_path(tmp_path / "a.cfg") == str(tmp_path / "a.cfg")
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "exps" / "a.cfg") == str(Path("exps", "a.cfg"))
    assert shown_path(Path("../a.cfg")) == str(Path("../a.cfg"))
