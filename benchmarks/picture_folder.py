"""A folder with a folder of PNG or JPEG pictures for every class, perhaps in `train` and `test`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from exps.messages import all_of, shown

ENDS = (".png", ".jpg", ".jpeg")
LITTER = (
    "thumbs.db",
    "desktop.ini",
)  # what Windows leaves; names with a dot before them are others'
GREY, COLOUR = ("1", "L"), ("RGB", "P")  # modes of Pillow
MOST_PIXELS = 2**26  # of one picture

Parts = dict[str, list[tuple[str, Path]]]  # "" or "_train", "_test": every picture, and its class


def look(folder: Path, size: int) -> tuple[tuple[int, int, int], dict[str, NDArray[Any]]]:
    """(height, width, channels) of the first picture, and the labels. Raises ValueError, OSError.

    size: of a side to which pictures are brought, 0: none.
    """
    parts = _listed(folder)
    return _shape(folder, parts, size), {f"y{part}": _labels(its) for part, its in parts.items()}


def read(folder: Path, size: int) -> dict[str, NDArray[Any]]:
    """x uint8 [n, height, width, channels] and y, texts; or x_train, y_train, x_test and y_test."""
    parts, found = _listed(folder), dict[str, NDArray[Any]]()
    shape = _shape(folder, parts, size)
    for part, pictures in parts.items():
        x = np.empty((len(pictures), *shape), np.uint8)
        for one, (_, path) in zip(x, pictures, strict=True):
            one[...] = _pixels(folder, path, shape, size)
        found |= {f"x{part}": x, f"y{part}": _labels(pictures)}
    return found


def _shape(folder: Path, parts: Parts, size: int) -> tuple[int, int, int]:
    """(height, width, channels), as the first picture has them."""
    with _opened(folder, next(iter(parts.values()))[0][1]) as image:
        height, width = (size, size) if size else (image.height, image.width)
        return height, width, 1 if image.mode in GREY else 3


def _labels(pictures: list[tuple[str, Path]]) -> NDArray[Any]:
    return np.array([label for label, _ in pictures])


def _listed(folder: Path) -> Parts:
    """Every picture there is, class by class."""
    inside = _folders(folder, folder)
    names = {path.name for path in inside}
    if "train" in names:
        if more := sorted(names - {"train", "test"}):
            raise ValueError(f"beside train there may be a folder test, not {_few(more)}")
        parts = [("_train" if "test" in names else "", folder / "train")]
        parts += [("_test", folder / "test")] * ("test" in names)
    elif "test" in names:
        raise ValueError("there is a folder test in it, and none that is called train")
    else:
        parts = [("", folder)]
    return {part: [*_pictures(folder, place)] for part, place in parts}


def _pictures(top: Path, place: Path) -> Iterator[tuple[str, Path]]:
    classes = _folders(top, place)
    if not classes:
        raise ValueError(f"there are no folders in {_name(top, place)}, of which each is a class")
    for folder in classes:
        files = [folder / name for name in sorted(os.listdir(folder)) if not _litter(name)]
        if not files:
            raise ValueError(f"there are no pictures in {_name(top, folder)}")
        for path in files:
            if path.suffix.lower() not in ENDS:
                raise ValueError(f"{_name(top, path)} is no .png, .jpg or .jpeg; remove it")
            yield folder.name, path


def _folders(top: Path, place: Path) -> list[Path]:
    """Those in a folder, in which there may be nothing else."""
    paths = [place / name for name in sorted(os.listdir(place)) if not _litter(name)]
    if loose := [path.name for path in paths if not path.is_dir()]:
        where = "in it" if place == top else f"in {_name(top, place)}"
        raise ValueError(f"{_few(loose)} {where} is in no folder of a class")
    return paths


def _litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


@contextmanager
def opened(file: IO[bytes]) -> Iterator[Image.Image]:
    """A picture of which the header alone has been read. Raises ValueError for what is none, and
    nearly anything for a damaged one."""
    try:
        image = Image.open(file, formats=("PNG", "JPEG"))
    except UnidentifiedImageError:
        raise ValueError("it is no PNG or JPEG") from None
    with image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"it has {image.width} × {image.height} pixels")
        require_plain(image)
        yield image


def require_plain(image: Image.Image) -> None:
    """Raise ValueError for a picture that would be another one in 8 bits."""
    if image.mode not in GREY + COLOUR or "transparency" in image.info:
        kind = "with transparency" if image.mode in GREY + COLOUR else f"mode {image.mode}"
        raise ValueError(f"it is of {kind}; grey or RGB, of 8 bits, can be used")


@contextmanager
def _opened(top: Path, path: Path) -> Iterator[Image.Image]:
    try:
        if not path.is_file():
            raise ValueError("this is not a file")
        with path.open("rb") as file, opened(file) as image:
            yield image
    except Exception as error:
        raise ValueError(f"{_name(top, path)} cannot be used: {error}") from error


def _pixels(top: Path, path: Path, shape: tuple[int, int, int], size: int) -> NDArray[Any]:
    height, width, channels = shape
    with _opened(top, path) as image:
        if (1 if image.mode in GREY else 3) != channels:
            found, first = ("grey", "colours") if channels == 3 else ("coloured", "grey")
            raise ValueError(f"it is {found}, and the first picture has {first}: save all alike")
        plain = image.convert("L" if channels == 1 else "RGB")
        if size:
            plain = plain.resize((width, height), Image.Resampling.BILINEAR)
        elif plain.size != (width, height):
            raise ValueError(
                f"it has {plain.width} × {plain.height} pixels, the first one {width} × {height};"
                " picture_size brings all to one size"
            )
        return np.asarray(plain).reshape(shape)


def _name(top: Path, path: Path) -> str:
    return shown(str(path.relative_to(top)), 200) if path != top else "it"


def _few(names: list[str]) -> str:
    few = [shown(name, 40) for name in names[:3]]
    return all_of(few + [f"{len(names) - 3} more"] * (len(names) > 3))
