"""Engines on a user's file: features, and pictures in colours, in units of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import make_stream
from exps.experiment import Experiment
from models import make_model
from utils.engines.choose import EngineError, make_engine
from utils.live.progress import Progress
from utils.system.runtime import seed_everything
from utils.training.loop import run_stream
from utils.training.record import RunRecord, empty_record

SMALL = {"hidden_units": 64, "percent_on_fc": 0.0625, "mb_size": 16, "lr": 0.01, "dropout": 0.0}
SMALL |= {"num_batch": 3, "train_ep": 1, "train_ep_inc": 1}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def trained(device: str, **keys: Any) -> RunRecord:
    """The record of a whole run."""
    exp = Experiment(name="T", benchmark="arrays", **SMALL, **keys)
    stream, order = make_stream(exp), seed_everything(exp.seed)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    engine = make_engine(exp, model, stream.to(torch.device(device)), torch.device(device), [])
    record = empty_record(exp, engine.stream, engine.model)
    with Progress(len(stream.training), quiet=True) as progress:
        run_stream(exp, engine.stream, engine, [], order, record, progress)
    return record


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("tasks", ["split", "permute", "rotate"])
@pytest.mark.parametrize("shape", [(30,), (5, 6), (5, 6, 3)])
def test_all_engines_come_to_the_same(
    tmp_path: Path, device: str, tasks: str, shape: tuple[int, ...]
) -> None:
    """Up to rounding: features and grey pictures of floats, and pictures of uint8 in colours."""
    draw, y = np.random.default_rng(0), np.arange(120) % 6
    x = draw.normal(3, 2, size=(120, *shape))
    if len(shape) == 3:
        x = draw.integers(0, 256, x.shape, np.uint8)
    np.savez(tmp_path / "own.npz", x=x, y=y)
    keys = {"data_file": str(tmp_path / "own.npz"), "tasks": tasks}
    if tasks == "rotate" and len(shape) == 1:
        return  # refused before there is an engine
    expected = trained("cpu", engine="reference", **keys).stats()
    engines = ("reference", "dense", "sparse", "stacked") if device == "cpu" else ("auto", "dense")
    for engine in engines:
        try:
            found = trained(device, engine=engine, **keys).stats()
        except EngineError as error:
            assert (engine, tasks) == ("stacked", "rotate") and "blend" in str(error)
            continue
        rounding = 1e-5 if device == "cpu" else 1e-3
        np.testing.assert_allclose(found["loss"], expected["loss"], atol=rounding)
        assert np.abs(found["accs"] - expected["accs"]).max() <= (0 if device == "cpu" else 0.1)
