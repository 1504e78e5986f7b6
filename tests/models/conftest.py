"""Experiments and recorded cases that the tests of models share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from exps.config import Experiment

RECORDED = Path(__file__).parents[1] / "data" / "layers_reference.npz"


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """A small sparse experiment with some keys set otherwise."""

    def make(**changes: Any) -> Experiment:
        small = {"hidden_units": 60, "percent_on_fc": 0.1}
        return Experiment(name="Test", **{**small, **changes})

    return make


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
