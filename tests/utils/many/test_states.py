"""What a results folder says about runs."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from exps import config
from exps.config import Experiment, as_dict
from utils.identity import configuration, fingerprint
from utils.many.states import Folder, progress
from utils.results import save_results
from utils.runs import reserve

EXP = Experiment(name="A")
KEY = fingerprint(configuration(EXP))


def saved(folder: Path, exp: Experiment = EXP, **meta: object) -> Path:
    stats = {"accs": np.array([[0.5, 0.7]]), "elapsed": 3.0, "meta": meta}
    when = datetime(2020, 1, 1)
    return save_results(folder, as_dict(exp), stats, name="A", seed=exp.seed, when=when)


def begun(folder: Path, code: str, share: float) -> None:
    identity = {"config": configuration(EXP), "program": {"code": code}}
    reserve(folder, "A").write({"identity": identity, "share": share, "progress": "task 1"}, {})


def test_nothing_there(tmp_path: Path) -> None:
    assert Folder(tmp_path / "nowhere").state(KEY, "c").kind == "new"


@pytest.mark.parametrize(
    ("meta", "kind"),
    [
        ({"code": "c", "status": "complete"}, "done"),
        ({"code": "c", "status": "diverged"}, "diverged"),
        ({"code": "c", "status": "interrupted"}, "new"),
        ({"code": "d", "status": "complete"}, "new"),
        ({"status": "complete"}, "new"),
        ({}, "new"),
    ],
)
def test_results(tmp_path: Path, meta: dict[str, object], kind: str) -> None:
    path = saved(tmp_path, **meta)
    folder = Folder(tmp_path)
    state = folder.state(KEY, "c")
    assert (state.kind, state.path) == (kind, path if kind != "new" else None)
    assert folder.state(KEY, "c", again=True).kind == "new"
    assert folder.of_other_programs(KEY, "c") == (meta.get("code") != "c")


def test_another_seed_or_value_is_another_run(tmp_path: Path) -> None:
    for other in (Experiment(name="A", seed=1), Experiment(name="A", lr=0.2), Experiment(name="B")):
        saved(tmp_path, other, code="c", status="complete")
    assert Folder(tmp_path).state(KEY, "c").kind == "new"


def test_keys_that_change_no_number_do_not_count(tmp_path: Path) -> None:
    other = Experiment(name="A", description="x", data_dir="/d", checkpoint_every=1.0)
    saved(tmp_path, other, code="c", status="complete")
    assert Folder(tmp_path).state(KEY, "c").kind == "done"


def test_every_kind_of_value_has_the_same_text_in_a_result(tmp_path: Path) -> None:
    exp, _ = config.load("DEFAULT", overrides=["mnist_mode=split", "num_batch=5", "lr=1e-5"])
    saved(tmp_path, exp, code="c", status="complete")
    key = fingerprint(configuration(exp))
    (known,) = Folder(tmp_path).done[key]
    assert (known.mean, known.seconds) == (0.6, 3.0)


def test_unfinished_runs(tmp_path: Path) -> None:
    begun(tmp_path, "d", 0.1)
    assert Folder(tmp_path).state(KEY, "c").kind == "new"
    begun(tmp_path, "c", 0.25)
    state = Folder(tmp_path).state(KEY, "c")
    assert (state.kind, state.far.share, state.detail) == ("unfinished", 0.25, "task 1")
    assert state.run is not None
    assert set(progress(tmp_path)) == {KEY}
    with state.run.held():
        assert Folder(tmp_path).state(KEY, "c").kind == "in use"
    assert Folder(tmp_path).state(KEY, "c", again=True).kind == "unfinished"


def test_files_of_others(tmp_path: Path) -> None:
    """A damaged one is named; one of 2019, or with anything in it, is of no run."""
    (tmp_path / "damaged.pkl").write_bytes(b"x")
    old = {"name": "A", "lr": "0.1", "odd": [1, {2: None}]}
    save_results(tmp_path, old, {"accs": 1}, name="old", seed=0, when=datetime(2019, 1, 1))
    folder = Folder(tmp_path)
    assert [path.name for path in folder.unreadable] == ["damaged.pkl"]
    ((known,),) = folder.done.values()
    assert math.isnan(known.mean)
    assert folder.state(KEY, "").kind == "new"
