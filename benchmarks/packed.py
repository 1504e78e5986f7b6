"""The contents of files as they are published: plain, gzipped, or in a tar or zip archive.

What counts is how a file begins, not its name: browsers unpack what they download, or do not.
Nothing is written to disk, and what unpacks to more than is allowed is given up at that size.
"""

from __future__ import annotations

import gzip
import math
import tarfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO
from zipfile import ZipFile

from benchmarks.formats import MAX_BYTES, require_file

CHUNK = 1 << 20
MAX_MEMBERS = 1000  # files in an archive


class _Limited:
    """Reads another file, and no more than `room` bytes of it."""

    def __init__(self, file: gzip.GzipFile | IO[bytes], room: int) -> None:
        self.file, self.room, self.allowed = file, room, room

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises ValueError where there are more than allowed."""
        found = self.file.read(size)
        self.room -= len(found)
        if self.room < 0:
            raise ValueError(f"it holds more than the {self.allowed} bytes allowed")
        return found


def contents(path: Path, room: int) -> bytes:
    """All bytes of a file, at most `room`, unpacked if it is gzipped."""
    with _opened(path, room) as file:
        return _whole(file)


@contextmanager
def reader(place: Path, top: str, room: int) -> Iterator[Callable[[str], bytes]]:
    """What reads a file of a folder by its path there, at most `room` bytes; `place` is the folder,
    or the zip archive that has it as `top`."""
    if place.is_dir():
        yield lambda name: contents(place / name, room)
        return
    with _zip(place) as archive:
        yield lambda name: _member(archive, f"{top}/{name}", room)


def members(path: Path, names: Container[str]) -> dict[str, bytes]:
    """The contents of the files with these names, whatever their folder in the archive; of a zip
    archive unpacked where they are gzipped and called so."""
    require_file(path, math.inf)
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    return (_of_zip if zipped else _of_tar)(path, names)


def _of_zip(path: Path, names: Container[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with _zip(path) as archive:
        for inside in archive.namelist():
            name = PurePosixPath(inside).name.removesuffix(".gz")
            if name in names and name not in found:
                room = MAX_BYTES - sum(map(len, found.values()))
                found[name] = _member(archive, inside, room)
    return found


def _zip(path: Path) -> ZipFile:
    require_file(path, math.inf)  # of a large one only what is asked for is read
    return ZipFile(path)


def _member(archive: ZipFile, name: str, room: int) -> bytes:
    with archive.open(name) as file:
        return _whole(_plain(file, room))


def _of_tar(path: Path, names: Container[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    # As a stream ("r|"): members are read in their order, and nothing is looked for at its end.
    with _opened(path, MAX_BYTES) as file, tarfile.open(fileobj=file, mode="r|") as archive:  # type: ignore[call-overload]
        for number, member in enumerate(archive):
            if number == MAX_MEMBERS:
                raise ValueError(f"it has more than {MAX_MEMBERS} files")
            name = PurePosixPath(member.name).name
            content = archive.extractfile(member) if name in names and member.isreg() else None
            if content is not None and name not in found:
                found[name] = content.read()
    return found


@contextmanager
def _opened(path: Path, room: int) -> Iterator[_Limited]:
    require_file(path)
    with path.open("rb") as file:
        yield _plain(file, room)


def _plain(file: IO[bytes], room: int) -> _Limited:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return _Limited(gzip.GzipFile(fileobj=file) if packed else file, room)


def _whole(file: _Limited) -> bytes:
    return b"".join(iter(lambda: file.read(CHUNK), b""))
