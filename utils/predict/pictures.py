"""Pictures that a network is asked about: of a .npz file, of a picture, or of a folder of them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from exps.messages import Told, shown_path

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
NAMES = (("x_test", "y_test"), ("x", "y"))  # of the arrays in a .npz file


class PicturesError(Told):
    """Pictures that cannot be used: which, and why."""


class Asked(NamedTuple):
    """names: of each picture; x: uint8 [n, channels, height, width]; y: int64 [n], or None where
    no labels are known."""

    names: list[str]
    x: Tensor
    y: Tensor | None


def read(path: Path, shape: Sequence[int], padding: int = 0) -> Asked:
    """The pictures of a path, of this shape [channels, height, width]; smaller ones by `padding`
    on each side get zeros there, as the benchmark gives them. Raises PicturesError."""
    if path.suffix == ".npz":
        return _of_npz(path, shape, padding)
    found = [path]
    if path.is_dir():
        found = sorted(its for its in path.iterdir() if its.suffix.lower() in SUFFIXES)
        if not found:
            raise PicturesError(f"{shown_path(path)}: there is no picture ({', '.join(SUFFIXES)})")
    pictures = [_fit(_of_picture(its, shape[0]), shape, padding, its) for its in found]
    return Asked([its.name for its in found], torch.cat(pictures), None)


def _of_picture(path: Path, channels: int) -> Tensor:
    """uint8 [1, channels, height, width]: grey for one channel, colours for three."""
    from PIL import Image  # comes with torchvision and matplotlib

    if channels not in (1, 3):
        raise PicturesError(f"{shown_path(path)}: a picture has 1 or 3 channels, not {channels}")
    try:
        with Image.open(path) as file:
            array = np.array(file.convert("L" if channels == 1 else "RGB"))
    except FileNotFoundError:
        raise PicturesError(f"{shown_path(path)}: there is no such file or folder") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PicturesError(f"{shown_path(path)}: no picture that can be read ({error})") from error
    return _channels_first(array[np.newaxis])


def _of_npz(path: Path, shape: Sequence[int], padding: int) -> Asked:
    try:
        with np.load(path, allow_pickle=False) as file:
            x_name, y_name = next((n for n in NAMES if n[0] in file.files), (None, ""))
            if x_name is None:
                raise ValueError("it has neither an array x_test nor x")
            x, y = file[x_name], file[y_name] if y_name in file.files else None
    except OSError as error:
        raise PicturesError(f"{shown_path(path)}: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise PicturesError(f"{shown_path(path)}: no pictures can be read: {error}") from error
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or not len(x):
        what = f"{x_name} is {x.dtype} {list(x.shape)}"
        wanted = "uint8 [n, height, width] or [n, height, width, channels]"
        raise PicturesError(f"{shown_path(path)}: {what}; pictures are {wanted}")
    whole = y is None or (y.shape == (len(x),) and y.dtype.kind in "ui" and y.min() >= 0)
    if not whole:
        raise PicturesError(f"{shown_path(path)}: {y_name} has no label (from 0) a picture")
    labels = None if y is None else torch.from_numpy(y.astype(np.int64))
    return Asked(
        [str(i) for i in range(len(x))], _fit(_channels_first(x), shape, padding, path), labels
    )


def _channels_first(x: Any) -> Tensor:
    tensor = torch.from_numpy(x)
    return tensor.unsqueeze(1) if x.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def _fit(x: Tensor, shape: Sequence[int], padding: int, path: Path) -> Tensor:
    """The pictures in this shape, or PicturesError."""
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
