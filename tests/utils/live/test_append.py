"""Pieces of a file: whole or not at all."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from utils.live.append import append, replace, require_still_there, require_writable


def test_append_makes_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    append(path, b"one ")
    append(path, b"two")
    assert path.read_bytes() == b"one two"


class Full(io.FileIO):
    """A file on a disk with room for three more bytes."""

    def write(self, data: Any) -> int:
        room = 6 - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(bytes(data)[:room])


def test_a_piece_that_does_not_fit_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fdopen", lambda handle, mode, buffering: Full(handle, "ab"))
    with pytest.raises(OSError, match="No space"):
        append(path, b"too much")
    with pytest.raises(OSError, match="No space"):
        replace(path, b"too much")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_replace(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_trial_leaves_nothing(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r".*"):
        require_writable(tmp_path / "file" / "below")


def test_what_is_gone(tmp_path: Path) -> None:
    require_still_there(tmp_path)
    with pytest.raises(FileNotFoundError, match="it has vanished"):
        require_still_there(tmp_path / "file")
