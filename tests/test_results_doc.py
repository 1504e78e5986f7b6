"""docs/results.md lists what a result holds: no key more, and none less."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import run_exps
from utils.training.record import RESERVED

ROOT = Path(__file__).parents[1]
TINY = ["--name", "Smoke", "--quiet", "--set", "hidden_units=20", "--set", "num_batch=2"]
TINY += ["--set", "train_ep=1", "--set", "train_ep_inc=1"]
# A network that changes in every way that has numbers of its own.
ALL = ["--set", "context=prototype", "--set", "context_units=5", "--set", "weight_decay=0"]
ALL += ["--set", "old_synapse_lr=0.5", "--set", "methods=ewc", "--set", "keep_weights=final"]
ALL += ["--set", "scenario=class", "--set", "record=confidence, confusion"]
ALL += ["--set", "eval_every=3"]


def documented(heading: str) -> set[str]:
    """The keys in the first cells of the tables below a heading."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    part = re.split(r"^##+ ", text.split(f"# {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    cells = re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


def result(folder: Path, *words: str) -> dict[str, Any]:
    from utils.results.files import load_results

    assert run_exps.main([*TINY, *words, "--results-dir", str(folder)]) == 0
    (path,) = folder.glob("*.pkl")
    return load_results(path)[1]


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return result(tmp_path_factory.mktemp("all"), *ALL)


def test_every_key_of_a_result_is_documented(stats: dict[str, Any], tmp_path: Path) -> None:
    # What does not go with eval_every, and with methods that train.
    patient = result(tmp_path / "patience", "--set", "patience=1")
    closed = result(tmp_path / "ridge", "--set", "classifier=ridge")
    assert documented("Contents") == stats.keys() | patient.keys() | closed.keys()
    assert {*RESERVED} <= documented("Contents") | {"method_costs"}


def test_every_key_of_meta_is_documented(stats: dict[str, Any]) -> None:
    # Of runs that go on with weights or lose them, with another program, on a benchmark of one's
    # own.
    some = {"began_with", "trusted_code", "tested", "lost_weights"}
    assert documented("How a result came about") - some == stats["meta"].keys()


def test_what_is_not_recorded(tmp_path: Path) -> None:
    stats = result(tmp_path, "--set", "record_stats=false")
    assert np.isnan([stats["perc_on_avg"], stats["perc_on_std"]]).all()
    assert stats["on_idxs"].shape == (2, 0)
