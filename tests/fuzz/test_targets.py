"""The fuzzer's targets on sound, damaged and random inputs, without the fuzzer."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st


def load() -> ModuleType:
    path = Path(__file__).with_name("targets.py")
    spec = importlib.util.spec_from_file_location("targets", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["targets"] = module
    spec.loader.exec_module(module)
    return module


targets = load()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_seeds_and_damaged_seeds(name: str) -> None:
    rng = random.Random(name)
    seeds = targets.seeds(name)
    for seed in seeds:
        targets.TARGETS[name](seed)
        for _ in range(min(40, max(400 // len(seeds), 1))):
            damaged = bytearray(seed)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            targets.TARGETS[name](bytes(damaged))
            targets.TARGETS[name](seed[: rng.randrange(len(seed))])


@pytest.mark.parametrize("name", targets.TARGETS)
@given(data=st.binary(max_size=200))
def test_any_bytes(name: str, data: bytes) -> None:
    targets.TARGETS[name](data)
