"""Trained networks as files: safetensors with all that is needed to build the network again.

The metadata have one entry, `sparse_syn`: JSON, an `About`. The tensors are those of the network
(`network.`), of what its methods remember (`methods.`), and of the tasks (`stream.`). Nothing in
such a file is run, whatever it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exps.messages import Told
from utils.results.about import ENTRY, About, WeightsError, beside, read_about, unusable
from utils.results.files import os_errors_explained, temporary_file
from utils.system.disk import sync_folder

NETWORK, METHODS, STREAM = "network.", "methods.", "stream."
# Of `STREAM`, as `TaskStream` has them.
VIEWS, UNITS = ("permutations", "places", "shares"), "units"


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


def read(path: Path) -> Kept:
    """The weights that a path names (see `beside`). Raises WeightsError for whatever else it is."""
    from safetensors import SafetensorError, safe_open

    path = beside(path)
    about = read_about(path)
    try:
        with safe_open(path, framework="pt") as file:
            # A copy each: the file may be replaced while it is in use.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise unusable(path, error.strerror or str(error)) from error
    except (ValueError, TypeError, SafetensorError) as error:
        raise unusable(path, str(error)) from error
    except MemoryError as error:
        raise unusable(path, "it needs more memory than there is") from error
    return Kept(path, about, tensors)


def checked(kept: Kept, name: str) -> Tensor:
    """A tensor of the tasks: int64 [tasks, n]. Raises WeightsError for anything else."""
    found, tasks = kept.tensors.get(STREAM + name), len(kept.about.tasks)
    if found is None or found.dtype != torch.int64 or found.dim() != 2:
        raise kept.unfit(f"{STREAM}{name} is missing, or no table of whole numbers")
    if len(found) != tasks:
        raise kept.unfit(f"{STREAM}{name} is of {len(found)} tasks, not {tasks}")
    return found
