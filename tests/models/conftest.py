"""Experiments that the tests of models share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exps.config import Experiment


@pytest.fixture
def experiment() -> Callable[..., Experiment]:
    """A small sparse experiment with some keys set otherwise."""

    def make(**changes: Any) -> Experiment:
        small = {"hidden_units": 60, "percent_on_fc": 0.1}
        return Experiment(name="Test", **{**small, **changes})

    return make
