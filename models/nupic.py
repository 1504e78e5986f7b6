"""Which library the sparse layers come from: this project's own, or an installed nupic.torch."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import sparse_syn
from models.errors import ModelError


def sparse_library(name: str) -> ModuleType:
    """The module with KWinners, KWinners2d, SparseWeights, SparseWeights2d; name is own or nupic.

    Raises ModelError when nupic.torch is asked for and cannot be imported.
    """
    if name == "own":
        return sparse_syn
    try:
        return import_module("nupic.torch.modules")
    except ImportError as error:
        raise ModelError(
            "sparse_layers = nupic: nupic.torch cannot be imported",
            str(error),
            "install it from its repository, https://github.com/numenta/nupic.torch (licence"
            " AGPL-3.0), as it is on no package index; or set sparse_layers = own",
        ) from error
