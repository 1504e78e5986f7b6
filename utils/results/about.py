"""What a file of weights says of its network, which is read without torch: see `weights`."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from exps.messages import Told, shown, shown_path

ENTRY = "sparse_syn"
FORMAT = 1
MAX_HEADER = 16 * 2**20
MAX_CLASSES = 100_000
SUFFIX = ".safetensors"


class WeightsError(Told):
    """A file of weights that cannot be used; the text says which, why, and what to do."""


@dataclass(frozen=True)
class KeptTask:
    """A task as `benchmarks.stream.Task` has it; view: through which its pictures are seen."""

    name: str
    view: int
    head: int
    outputs: list[int] | None
    among: int | None


@dataclass(frozen=True)
class About:
    """What a network is.

    config: every key as a configuration file writes it; mean, std: of the channels of a picture, on
    the scale of 0 to 1; classes: the names of the labels where they are known; trained: after how
    many tasks the weights are kept; accs, untrained: what was measured until then, None where
    nothing was; memory: what methods remember, with the names of tensors in their place; made: how
    it came about; floats: whether pictures are float32, not uint8.
    """

    format: int
    config: dict[str, str]
    input_shape: list[int]
    head_sizes: list[int]
    mean: list[float]
    std: list[float]
    tasks: list[KeptTask]
    classes: list[str]
    trained: int
    accs: list[list[float | None]]
    untrained: list[float | None]
    memory: dict[str, Any]
    made: dict[str, str]
    floats: bool = False


def file_of(run: str, task: int | None = None) -> str:
    """The name of the file of a run: of the last weights, or of those after a task (from 0)."""
    return f"{run}{SUFFIX}" if task is None else f"{run}.task{task + 1}{SUFFIX}"


def beside(path: Path) -> Path:
    """The file of weights that a path names: itself, or of a result the last ones beside it."""
    if path.suffix != ".pkl":
        return path
    last = path.with_suffix(SUFFIX)
    if last.is_file():
        return last
    found = _of_tasks(path)
    if not found:
        raise WeightsError(
            f"{shown_path(path)}: there are no weights beside it; a run keeps them with"
            " --set keep_weights=final"
        )
    return max(found)[1]


def _of_tasks(result: Path) -> list[tuple[int, Path]]:
    name = re.compile(rf"{re.escape(result.stem)}\.task([0-9]{{1,4}}){re.escape(SUFFIX)}")
    found = [(name.fullmatch(path.name), path) for path in result.parent.glob(f"*{SUFFIX}")]
    return [(int(match[1]), path) for match, path in found if match]


def read_about(path: Path) -> About:
    """What is said in a file. Raises WeightsError for whatever else it is."""
    try:
        header = json.loads(_header(path))
        metadata = header.get("__metadata__") if isinstance(header, dict) else None
        about = _about(metadata.get(ENTRY) if isinstance(metadata, dict) else None)
        _check_sense(about)
    except OSError as error:
        raise unusable(path, error.strerror or str(error)) from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise unusable(path, str(error)) from error
    return about


def unusable(path: Path, why: str) -> WeightsError:
    """The error that says why."""
    why = shown(" ".join(why.split()), 300)
    return WeightsError(f"{shown_path(path)}: these weights cannot be used: {why}")


def _header(path: Path) -> bytes:
    """The header of a file. ValueError where it is larger than any of ours, before it is read."""
    if path.is_dir():
        raise ValueError("it is a folder")
    if not path.is_file():
        raise ValueError("it is not a file" if path.exists() else "there is no such file")
    with path.open("rb") as file:
        size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("it is cut off, or no file of safetensors")
        if length > MAX_HEADER:
            raise ValueError(f"its header is larger than {MAX_HEADER >> 20} MiB")
        return file.read(length)


def _about(text: Any) -> About:
    if not isinstance(text, str):
        raise ValueError(f"it has no metadata {ENTRY}: another program has made it")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"its metadata are no JSON ({error})") from None
    if isinstance(found, dict) and found.get("format") != FORMAT:
        raise ValueError(f"its format is {found.get('format')!r:.40}, not {FORMAT}")
    about: About = _typed(found, About, "metadata")
    return about


def _typed(value: Any, kind: Any, where: str) -> Any:
    """JSON as a value of this type. ValueError for what is none."""
    if isinstance(kind, UnionType):
        kind = next(k for k in get_args(kind) if (k is type(None)) == (value is None))
    origin, args = get_origin(kind) or kind, get_args(kind)
    if kind is Any or (kind is type(None) and value is None):
        return value
    if origin is list and isinstance(value, list):
        return [_typed(its, args[0], f"{where}[{i}]") for i, its in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _typed(its, args[1], f"{where}.{key}") for key, its in value.items()}
    if hasattr(kind, "__dataclass_fields__") and isinstance(value, dict):
        names, hints = {field.name for field in fields(kind)}, get_type_hints(kind)
        may_lack = {field.name for field in fields(kind) if field.default is not MISSING}
        if wrong := (value.keys() ^ names) - (may_lack - value.keys()):
            raise ValueError(f"its {where} lack or add {sorted(wrong)[:5]}")
        return kind(
            **{key: _typed(its, hints[key], f"{where}.{key}") for key, its in value.items()}
        )
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"its {where} is {value!r:.40}, no {kind.__name__}")
    return value


def _check_sense(about: About) -> None:
    """ValueError for numbers that no network has."""
    sizes, channels = about.head_sizes, about.input_shape[:1]
    if len(about.input_shape) != 3 or not all(0 < n <= 2**16 for n in about.input_shape):
        raise ValueError(f"pictures of the shape {about.input_shape}")
    if not sizes or not all(0 < n <= MAX_CLASSES for n in sizes) or sum(sizes) > MAX_CLASSES:
        raise ValueError(f"heads of {sizes[:5]} classes")
    if not [len(about.mean)] == [len(about.std)] == channels or not all(
        map(math.isfinite, (*about.mean, *about.std))
    ):
        raise ValueError("its mean and std are not those of the channels")
    if not all(std > 0 for std in about.std):
        raise ValueError("its std is not above zero")
    if not about.tasks or not 0 < about.trained <= len(about.tasks):
        raise ValueError(f"{about.trained} of {len(about.tasks)} tasks trained")
    for task in about.tasks:
        there = 0 <= task.head < len(sizes)
        units = range(sizes[task.head] if there else 0)
        if not 0 <= task.view < len(about.tasks):
            raise ValueError(f"task {shown(task.name)!r} has a view that is not there")
        there &= set(task.outputs or ()) <= set(units) and 0 <= (task.among or 0) <= len(units)
        if not there:
            raise ValueError(f"task {shown(task.name)!r} has a head or outputs that are not there")
