"""Pictures that a network is asked about: of a .npz file, of a picture, or of a folder of them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.own_file import held
from benchmarks.own_tasks import in_units
from benchmarks.picture_folder import require_plain
from exps.messages import Told, shown, shown_path

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
NAMES = (("x_test", "y_test"), ("x", "y"))  # of the arrays in a .npz file


class PicturesError(Told):
    """Pictures that cannot be used: which, and why."""


class Takes(NamedTuple):
    """What a network takes: pictures of the shape [channels, height, width], float32 with `floats`;
    smaller ones by `padding` on each side get zeros there, and those of a folder are brought to
    `size` pixels a side (0: none), both as the benchmark has it. units: of features, as
    `TaskStream` has them; None for pictures. classes: the names of labels, () where not known.
    """

    shape: Sequence[int]
    padding: int = 0
    size: int = 0
    floats: bool = False
    units: Tensor | None = None
    classes: Sequence[str] = ()


class Asked(NamedTuple):
    """names: of each picture; x: uint8 or float32 [n, channels, height, width]; y: int64 [n], -1
    for what is no label of the network's, or None where no labels are known."""

    names: list[str]
    x: Tensor
    y: Tensor | None


def read(path: Path, takes: Takes) -> Asked:
    """The pictures of a path: an npz file, a picture, or a folder of them or, where they are
    labelled, of a folder for every class. Raises PicturesError."""
    if path.suffix == ".npz":
        return _of_npz(path, takes)
    if takes.floats:
        what = "floats" if takes.units is None else "features"
        raise PicturesError(
            f"{shown_path(path)}: the network was trained on {what}, on a scale that a picture does"
            " not tell; give a .npz with them"
        )
    found, labels = [path], None
    if path.is_dir():
        found = _inside(path)
        folders = [its for its in sorted(path.iterdir()) if its.is_dir()]
        if not found and (found := [its for folder in folders for its in _inside(folder)]):
            labels = _labels(np.array([its.parent.name for its in found]), takes, path)
        if not found:
            raise PicturesError(f"{shown_path(path)}: there is no picture ({', '.join(SUFFIXES)})")
    pictures = [_fit(_of_picture(its, takes.shape[0], takes.size), takes, its) for its in found]
    names = [str(its.relative_to(path)) if path.is_dir() else its.name for its in found]
    return Asked(names, torch.cat(pictures), labels)


def _inside(folder: Path) -> list[Path]:
    return sorted(its for its in folder.iterdir() if its.suffix.lower() in SUFFIXES)


def _of_picture(path: Path, channels: int, size: int) -> Tensor:
    """uint8 [1, channels, height, width]: grey for one channel, colours for three."""
    from PIL import Image  # comes with torchvision and matplotlib

    if channels not in (1, 3):
        raise PicturesError(f"{shown_path(path)}: a picture has 1 or 3 channels, not {channels}")
    try:
        with Image.open(path) as file:
            require_plain(file)  # as of the pictures that are trained on
            image = file.convert("L" if channels == 1 else "RGB")
            if size:
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            array = np.array(image)
    except FileNotFoundError:
        raise PicturesError(f"{shown_path(path)}: there is no such file or folder") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PicturesError(f"{shown_path(path)}: no picture that can be read ({error})") from error
    return _channels_first(array[np.newaxis])


def _of_npz(path: Path, takes: Takes) -> Asked:
    try:
        with np.load(path, allow_pickle=False) as file:
            x_name, y_name = next((n for n in NAMES if n[0] in file.files), (None, ""))
            if x_name is None:
                raise ValueError("it has neither an array x_test nor x")
            x, y = file[x_name], file[y_name] if y_name in file.files else None
    except OSError as error:
        raise PicturesError(f"{shown_path(path)}: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        why = (
            "it holds objects of Python, which may do anything" if "pickle" in str(error) else error
        )
        raise PicturesError(f"{shown_path(path)}: no pictures can be read: {why}") from error
    _require_kind(x_name, x, takes, path)
    if y is not None and (y.shape != (len(x),) or y.dtype.kind not in "uiUS"):
        raise PicturesError(f"{shown_path(path)}: {y_name} has no label a picture")
    labels = None if y is None else _labels(y, takes, path)
    try:
        x = held(x_name, x) if takes.floats else x
    except ValueError as error:
        raise PicturesError(f"{shown_path(path)}: {error}") from error
    if takes.units is not None:
        x = in_units(x, *takes.units.numpy())
    return Asked([str(i) for i in range(len(x))], _fit(_channels_first(x), takes, path), labels)


def _require_kind(name: str, x: Any, takes: Takes, path: Path) -> None:
    """PicturesError for what is no pictures, or no features, as the network takes them."""
    features = takes.units is not None
    fits = x.dtype.kind == "f" if takes.floats else x.dtype == np.uint8
    fits |= features and x.dtype == np.uint8
    if features:
        fits &= x.shape[1:] == (takes.shape[2],)
    if fits and x.ndim in ((2,) if features else (3, 4)) and len(x):
        return
    kind = "floats" if takes.floats else "uint8"
    wanted = f"pictures are {kind} [n, height, width] or [n, height, width, channels]"
    if features:
        wanted = f"features are floats [n, {takes.shape[2]}]"
    raise PicturesError(f"{shown_path(path)}: {name} is {x.dtype} {list(x.shape)}; {wanted}")


def _labels(y: Any, takes: Takes, path: Path) -> Tensor:
    """int64 [n], by their names; numbers by themselves where classes are called otherwise."""
    names = [str(name) for name in takes.classes]
    if y.dtype.kind in "ui" and not all(name.lstrip("-").isdigit() for name in names):
        names = []
    if not names and y.dtype.kind in "ui":
        return torch.from_numpy(y.astype(np.int64)).clamp(min=-1)
    if len(set(names)) < max(len(names), 1):
        raise PicturesError(f"{shown_path(path)}: the network has no names that tell its classes")
    place = {name: i for i, name in enumerate(names)}
    texts = np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
    kinds, which = np.unique(texts, return_inverse=True)
    known = np.array([place.get(shown(str(kind), 40), -1) for kind in kinds.tolist()], np.int64)
    return torch.from_numpy(known[which])


def _channels_first(x: Any) -> Tensor:
    tensor = torch.from_numpy(x)
    if x.ndim == 2:
        return tensor.view(-1, 1, 1, x.shape[1])
    return tensor.unsqueeze(1) if x.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def _fit(x: Tensor, takes: Takes, path: Path) -> Tensor:
    """The pictures in this shape, or PicturesError."""
    shape, padding = takes.shape, takes.padding
    channels, height, width = shape
    bare = (channels, height - 2 * padding, width - 2 * padding)
    if tuple(x.shape[1:]) == bare:
        x = torch.nn.functional.pad(x, [padding] * 4)
    if tuple(x.shape[1:]) != tuple(shape):
        found, wanted = (" × ".join(map(str, its)) for its in (x.shape[1:], bare))
        raise PicturesError(
            f"{shown_path(path)}: of {found} (channels, height, width); the network takes {wanted}"
        )
    return x
