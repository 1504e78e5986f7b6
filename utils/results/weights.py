"""Trained networks as files: safetensors with all that is needed to build the network again.

The metadata have one entry, `sparse_syn`: JSON, an `About`. The tensors are those of the network
(`network.`), of what its methods remember (`methods.`), and of the tasks (`stream.`). Nothing in
such a file is run, whatever it is.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from exps.messages import Told, shown, shown_path
from utils.results.files import os_errors_explained, temporary_file
from utils.system.disk import sync_folder

ENTRY = "sparse_syn"
FORMAT = 1
MAX_HEADER = 16 * 2**20
MAX_CLASSES = 100_000
SUFFIX = ".safetensors"
NETWORK, METHODS, STREAM = "network.", "methods.", "stream."


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
    it came about.
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


@dataclass(frozen=True)
class Kept:
    """What is in a file; network: tensors by the names of parameters and buffers."""

    path: Path
    about: About
    tensors: dict[str, Tensor]

    @property
    def network(self) -> dict[str, Tensor]:
        """What the network is made of."""
        return {
            name.removeprefix(NETWORK): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(NETWORK)
        }

    @property
    def memory(self) -> dict[str, Any]:
        """What methods remember, by method: as `Method.state` gave it."""
        return {name: _whole(its, self.tensors) for name, its in self.about.memory.items()}

    def unfit(self, why: str) -> WeightsError:
        """The error that says so."""
        return unusable(self.path, why)

    @contextmanager
    def fitted(self) -> Iterator[None]:
        """Whatever does not fit inside becomes such an error."""
        try:
            yield
        except Told:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            why = f"they do not fit their configuration ({type(error).__name__}: {error})"
            raise self.unfit(why) from error


def save(path: Path, about: About, tensors: dict[str, Tensor]) -> Path:
    """Write the file, complete or not at all, over one of the same name; the path. Raises
    ResultsError where that cannot be."""
    from safetensors.torch import save as as_bytes

    whole = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    payload = as_bytes(whole, {ENTRY: json.dumps(asdict(about))})
    with os_errors_explained(path.parent), temporary_file(path.parent, payload) as temporary:
        temporary.replace(path)
        sync_folder(path.parent)
    return path


def flat(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """The value of dicts, lists, tensors and plain values with names in place of its tensors, which
    are added."""
    if isinstance(value, Tensor):
        tensors[where] = value
        return {"tensor": where}
    if isinstance(value, dict):
        return {"dict": {key: flat(its, f"{where}.{key}", tensors) for key, its in value.items()}}
    if isinstance(value, list):
        return [flat(its, f"{where}.{i}", tensors) for i, its in enumerate(value)]
    return value


def _whole(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What `flat` was given."""
    if isinstance(value, list):
        return [_whole(its, tensors) for its in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    return {key: _whole(its, tensors) for key, its in content.items()}


def file_of(run: str, task: int | None = None) -> str:
    """The name of the file of a run: of the last weights, or of those after a task (from 0)."""
    return f"{run}{SUFFIX}" if task is None else f"{run}.task{task + 1}{SUFFIX}"


def beside(path: Path) -> Path:
    """The file of weights that a path names: itself, or of a result the last ones beside it."""
    if path.suffix != ".pkl":
        return path
    last = path.with_suffix(SUFFIX)
    found = [last] if last.is_file() else sorted(_of_tasks(path), key=lambda its: its[0])[-1:]
    if not found:
        raise WeightsError(
            f"{shown_path(path)}: there are no weights beside it; a run keeps them with"
            " --set keep_weights=final"
        )
    return found[0] if isinstance(found[0], Path) else found[0][1]


def _of_tasks(result: Path) -> list[tuple[int, Path]]:
    name = re.compile(rf"{re.escape(result.stem)}\.task([0-9]{{1,4}}){re.escape(SUFFIX)}")
    found = [(name.fullmatch(path.name), path) for path in result.parent.glob(f"*{SUFFIX}")]
    return [(int(match[1]), path) for match, path in found if match]


def read(path: Path) -> Kept:
    """The weights that a path names (see `beside`). Raises WeightsError for whatever else it is."""
    from safetensors import SafetensorError, safe_open

    path = beside(path)
    try:
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(ENTRY)
            about = _about(text)
            # A copy each: the file may be replaced while it is in use.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        _check_sense(about)
    except OSError as error:
        raise unusable(path, error.strerror or str(error)) from error
    except (ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
        raise unusable(path, str(error)) from error
    except MemoryError as error:
        raise unusable(path, "it needs more memory than there is") from error
    return Kept(path, about, tensors)


def unusable(path: Path, why: str) -> WeightsError:
    """The error that says why."""
    why = shown(" ".join(why.split()), 300)
    return WeightsError(f"{shown_path(path)}: these weights cannot be used: {why}")


def _check_header(path: Path) -> None:
    """ValueError for a file whose header is larger than any of ours, before it is read."""
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


def _about(text: str | None) -> About:
    if text is None:
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
        if value.keys() != names:
            raise ValueError(f"its {where} lack or add {sorted(value.keys() ^ names)[:5]}")
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


def checked(kept: Kept, name: str, rows: int | None = None) -> Tensor:
    """A tensor of the tasks: int64 [rows, n]. Raises WeightsError for anything else."""
    found = kept.tensors.get(STREAM + name)
    if found is None or found.dtype != torch.int64 or found.dim() != 2:
        raise kept.unfit(f"{STREAM}{name} is missing, or no table of whole numbers")
    if rows is not None and len(found) != rows:
        raise kept.unfit(f"{STREAM}{name} is of {len(found)} tasks, not {rows}")
    return found
