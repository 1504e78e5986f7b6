"""Recorded cases that the tests of the layers share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

RECORDED = Path(__file__).parents[1] / "data" / "layers_reference.npz"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kinds(*names): the recorded cases a test replays")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`recorded` is every case of the kinds that the test's marker names: (case, arrays)."""
    if "recorded" not in metafunc.fixturenames:
        return
    kinds = metafunc.definition.get_closest_marker("kinds").args
    with np.load(RECORDED) as file:
        cases = [c for c in json.loads(bytes(file["cases.json"])) if c["kind"] in kinds]
        values = [(case, _arrays(file, case["name"])) for case in cases]
    metafunc.parametrize("recorded", values, ids=[case["name"] for case in cases])


def _arrays(file: Any, name: str) -> dict[str, Tensor]:
    keys = [key for key in file.files if key.startswith(f"{name}/")]
    return {key.removeprefix(f"{name}/"): torch.from_numpy(file[key]) for key in keys}
