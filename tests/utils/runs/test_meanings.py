"""What code means is kept from process to process, and never taken for that of other code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from utils.runs import meanings
from utils.runs.meanings import Meanings, meaning

SOURCES = [f"import a{i}\nx = {i}\n".encode() for i in range(5)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The sources that were parsed."""
    found: list[bytes] = []
    monkeypatch.setattr(
        meanings,
        "meaning",
        lambda source, package: found.append(source) or meaning(source, package),
    )
    return found


def test_a_source_is_parsed_once(tmp_path: Path, asked: list[bytes]) -> None:
    path = tmp_path / "new" / "kept.json"
    for part in (SOURCES[:3], SOURCES):  # what is kept grows
        with Meanings(path) as kept:
            for source in part:
                assert kept.of(source, "p") == meaning(source, "p")
    assert asked == SOURCES
    with Meanings(path) as kept:
        assert kept.of(SOURCES[0] + b"y = 1\n", "p")[0] != kept.of(SOURCES[0], "p")[0]
        assert kept.of(b"from . import b", "p")[1] != kept.of(b"from . import b", "q")[1]
    assert len(asked) == 8


def test_what_other_code_has_found_does_not_count(
    tmp_path: Path, asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in (b"1", b"2", b"2"):
        monkeypatch.setattr(meanings, "_ours", lambda code=code: code)
        with Meanings(tmp_path / "kept.json") as kept:
            kept.of(SOURCES[0], "")
    assert len(asked) == 2


@pytest.mark.parametrize("spoiled", ["", "[]", "{", '{"a": 1}', '{"a": ["x", []]}', "[" * 10_000])
def test_a_spoiled_file_is_made_anew(tmp_path: Path, spoiled: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(spoiled)
    for _ in range(2):
        with Meanings(path) as kept:
            assert kept.of(SOURCES[0], "p") == meaning(SOURCES[0], "p")
    assert list(json.loads(path.read_text()).values()) == [list(meaning(SOURCES[0], "p"))]


def test_where_nothing_can_be_written_it_is_found_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Meanings(tmp_path / "file" / "kept.json") as kept:
        assert kept.of(SOURCES[0], "p") == meaning(SOURCES[0], "p")
