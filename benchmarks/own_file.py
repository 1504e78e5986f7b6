"""Data of a user's own, an npz file or a folder of pictures: what is known of them by headers and
labels alone, and the arrays. They may be damaged or hostile."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from benchmarks import npz, picture_folder
from benchmarks.digest import of_arrays
from benchmarks.formats import MAX_BYTES, Arrays, Layout, faults_of, require_file
from exps.facts import Shape
from exps.messages import shown

FOUR, TWO = ("x_train", "y_train", "x_test", "y_test"), ("x", "y")
REMEDY = "see docs/data.md for what it must look like"
MOST = 4 * 2**30  # bytes of the arrays
PACKED = 200  # times the size of the file is what more than MAX_BYTES may take
CHANNELS = 4  # the most: red, green, blue, and one more
CLASSES = 10_000  # the most
SEED = 0  # of what is split off to test on: the same for every run
CHUNK = 4096  # pictures at a time

Array = NDArray[Any]


@dataclass(frozen=True)
class Where:
    """path: an npz file or a folder; share: what is split off to test on, of every class; size: to
    how many pixels a side pictures of a folder are brought, 0: none."""

    path: Path
    share: float
    size: int


@dataclass(frozen=True)
class Known:
    """picture: the shape of one, (1, 1, number) of features; labels: the classes, in order;
    pictures, tested: how many to train on, and to test on; alone: without data to test on;
    features: whether they are no pictures; floats: whether they are held as floats."""

    picture: Shape
    labels: tuple[str, ...]
    pictures: int
    tested: int
    alone: bool
    features: bool = False
    floats: bool = False


def look(where: Where) -> Known:
    """What is known of the data before they are read. Raises DataError for what cannot be used."""
    return _look(where, _signature(where.path))


def read(where: Where) -> tuple[Arrays, Known]:
    """The arrays: uint8 pictures, float32 pictures or features, and labels int64 from 0 on, in the
    order of `Known.labels`. Raises DataError."""
    known = look(where)
    with faults_of(where.path, REMEDY):
        if where.path.is_dir():
            parts = picture_folder.read(where.path, where.size)
        else:
            with ZipFile(where.path) as archive:
                parts = {key: npz.array(archive, key) for key in _layouts(archive)}
        x, y = TWO if known.alone else FOUR[:2]
        first = parts[x][0]
        if np.array_equal(first, parts[x][-1]) and (parts[x] == first).all():
            raise ValueError(f"all pictures of {x} are the same")
        classes = np.unique(_texts(parts[y]))
        for key, array in parts.items():
            found = np.searchsorted(classes, _texts(array)) if key[0] == "y" else held(key, array)
            parts[key] = found
        if known.alone:
            parts = _divided(parts["x"], parts["y"], where.share)
    return Arrays(**parts, source=str(where.path)), known


def digest(where: Where) -> str:
    """That of the data (`benchmarks.digest`)."""
    return _digest(where, _signature(where.path))


@lru_cache(maxsize=64)
def _digest(where: Where, _: object) -> str:
    arrays, known = read(where)
    return of_arrays(arrays, known.labels)


@lru_cache(maxsize=64)
def _look(where: Where, _: object) -> Known:
    with faults_of(where.path, REMEDY):
        if where.path.is_dir():
            shape, labels = picture_folder.look(where.path, where.size)
            pixels = {key: Layout((len(y), *shape), np.dtype("u1")) for key, y in labels.items()}
            _require_room(pixels, MOST)
            features, floats, picture = False, False, (shape[2], *shape[:2])
        else:
            require_file(where.path, MOST)
            with _zip(where.path) as archive:
                layouts = _layouts(archive)
                _check(layouts, where.path.stat().st_size)
                labels = {key: npz.array(archive, key) for key in layouts if key[0] == "y"}
            x = layouts["x" if "x" in layouts else "x_train"]
            features, picture = len(x.shape) == 2, _picture(x.shape)
            floats = features or x.dtype.kind == "f"
        known = _of_labels(labels, where.share)
        return replace(known, picture=picture, features=features, floats=floats)


def _signature(path: Path) -> object:
    """What changes when the data do, as far as `look` sees them; None where there is nothing."""
    try:
        if not path.is_dir():
            s = path.stat()
            return s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns
        folders = [path, path / "train", path / "test"]
        found = [entry for f in folders if f.is_dir() for entry in os.scandir(f) if entry.is_dir()]
        return tuple((e.path, e.stat().st_mtime_ns) for e in found), path.stat().st_mtime_ns
    except (OSError, ValueError):
        return None


def _zip(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except BadZipFile:
        raise ValueError(
            "it is no npz file, which numpy.savez(path, x_train=..., ...) writes, or a damaged one"
        ) from None


def _layouts(archive: ZipFile) -> dict[str, Layout]:
    """Those of the arrays that are used. Raises ValueError where some are missing."""
    names = {name.removesuffix(".npy") for name in archive.namelist()}
    if names.issuperset({"x", "x_train"}):
        raise ValueError("it has x and x_train: leave one of them out, with its labels")
    keys = FOUR if names.intersection(FOUR) or not names.intersection(TWO) else TWO
    if missing := [key for key in keys if key not in names]:
        raise ValueError(
            f"no {', '.join(missing)} in it (found {npz.found_in(archive)}), expected"
            f" {', '.join(FOUR)}; or x and y alone, of which a part is then tested on"
        )
    return {key: npz.layout(archive, key) for key in keys}


def _check(layouts: dict[str, Layout], size: int) -> None:
    """Raise ValueError unless these can be pictures or features, and labels, of a file so large."""
    for key, layout in layouts.items():
        (_check_x if key[0] == "x" else _check_y)(key, layout)
    _require_room(layouts, max(MAX_BYTES, min(MOST, PACKED * size)))
    for x, y in zip([*layouts][::2], [*layouts][1::2], strict=True):
        pictures, labels = layouts[x].shape[0], layouts[y].shape[0]
        if pictures != labels:
            raise ValueError(f"{x} has {pictures} pictures, but {y} has {labels} labels")
    first, *others = (key for key in layouts if key[0] == "x")
    for other in others:
        one, two = layouts[first], layouts[other]
        if one.shape[1:] != two.shape[1:] or one.dtype.kind != two.dtype.kind:
            raise ValueError(
                f"the pictures of {first} are {one.shape[1:]}, {one.dtype}; those of {other}"
                f" {two.shape[1:]}, {two.dtype}"
            )


def _require_room(layouts: dict[str, Layout], most: int) -> None:
    size = sum(math.prod(its.shape) * its.dtype.itemsize for its in layouts.values())
    if size > most:
        raise ValueError(f"its arrays take {size} bytes, more than the {most} allowed")


def _check_x(key: str, layout: Layout) -> None:
    shape, dtype = layout.shape, layout.dtype
    if dtype != np.uint8 and (dtype.kind != "f" or dtype.itemsize > 8):
        raise ValueError(
            f"{key} is of type {dtype}: pictures are uint8, from 0 to 255, or floats, and features"
            f" are floats; {key}.astype(numpy.uint8) or (numpy.float32) makes them so"
        )
    if len(shape) not in (2, 3, 4):
        raise ValueError(
            f"{key} has shape {shape}, not (n, height, width), (n, height, width, channels) or, of"
            " features, (n, number)"
        )
    if min(shape) < 1:
        raise ValueError(f"{key} is empty: its shape is {shape}")
    if len(shape) == 4 and shape[3] > CHANNELS:
        raise ValueError(
            f"{key} has shape {shape}, with {shape[3]} channels, which come last; the most is"
            f" {CHANNELS}"
            + ("; are these channels first? numpy.moveaxis(x, 1, -1)" * (shape[1] <= CHANNELS))
        )


def _check_y(key: str, layout: Layout) -> None:
    if layout.dtype.hasobject:
        raise ValueError(
            f"{key} holds Python objects, which are not read, as code may hide in them; for texts,"
            " numpy.array(labels, dtype=str)"
        )
    if layout.dtype.kind not in "iuUS":
        raise ValueError(f"{key} is of type {layout.dtype}: labels are whole numbers or texts")
    if len(layout.shape) != 1:
        raise ValueError(f"{key} has shape {layout.shape}, not (n): one label a picture")
    if min(layout.shape) < 1 or layout.dtype.itemsize < 1:
        raise ValueError(f"{key} is empty: its shape is {layout.shape}, its type {layout.dtype}")


def _picture(shape: tuple[int, ...]) -> Shape:
    """The shape of a picture with its channels first, by that of the array."""
    if len(shape) == 2:
        return 1, 1, shape[1]
    return (*shape[3:], *(1,) * (4 - len(shape)), *shape[1:3])  # type: ignore[return-value]


def _texts(y: Array) -> Array:
    """Labels, those that are bytes as texts."""
    return np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y


def _of_labels(labels: dict[str, Array], share: float) -> Known:
    """What labels say. Raises ValueError where they are none to learn from, or to test."""
    first, *others = (_texts(y) for y in labels.values())
    classes, counts = np.unique(first, return_counts=True)
    names = tuple(shown(str(c), 40) for c in classes)
    if not 1 < len(names) <= CLASSES:
        raise ValueError(
            f"there {'is' if len(names) == 1 else 'are'} {len(names)} class"
            f"{'' if len(names) == 1 else 'es'} in it, {names[0]} the first; 2 to {CLASSES} can be"
            " learned"
        )
    for test in others:
        if test.dtype.kind != first.dtype.kind and "U" in (test.dtype.kind, first.dtype.kind):
            raise ValueError("the labels of one part are numbers, those of the other texts")
        if len(foreign := np.setdiff1d(test, classes)):
            few = ", ".join(shown(str(c), 40) for c in foreign[:5])
            more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
            raise ValueError(f"there are pictures to test, and none to train on, of {few}{more}")
    if not others and counts.min() < 2:
        raise ValueError(
            f"there is one picture alone of class {names[counts.argmin()]}, and it takes two: one"
            " to train on, and one to test on"
        )
    tested = sum(map(len, others)) if others else int(_tested(counts, share).sum())
    pictures = int(counts.sum()) - (0 if others else tested)
    return Known((0, 0, 0), names, pictures, tested, not others)


def _tested(counts: Array, share: float) -> Array:
    """Of so many pictures of a class, how many are tested on: at least one goes each way."""
    return np.clip(np.rint(counts * share), 1, counts - 1).astype(np.int64)


def _divided(x: Array, y: Array, share: float) -> dict[str, Array]:
    """A share of every class to test on, drawn at random, and the rest, each in its order."""
    draw, tested = np.random.default_rng(SEED), np.zeros(len(y), bool)
    counts = _tested(np.bincount(y), share)
    for label, count in enumerate(counts):
        tested[draw.permutation(np.flatnonzero(y == label))[:count]] = True
    parts = (("x_train", x[~tested]), ("y_train", y[~tested]), ("x_test", x[tested]))
    return {**dict(parts), "y_test": y[tested]}


def held(key: str, x: Array) -> Array:
    """Pictures and features as they are held. Raises ValueError where one is no number."""
    if x.dtype == np.uint8 and x.ndim > 2:
        return x
    found = np.empty(x.shape, np.float32)
    for at in range(0, len(x), CHUNK):
        with np.errstate(over="ignore"):
            found[at : at + CHUNK] = x[at : at + CHUNK]
        good = np.isfinite(found[at : at + CHUNK]).reshape(len(found[at : at + CHUNK]), -1).all(1)
        if not good.all():
            raise ValueError(
                f"{key}[{at + int(good.argmin())}] holds nan, infinity or a number too large for"
                " float32"
            )
    return found
