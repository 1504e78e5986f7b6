"""What a results folder says about runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.datasets import BUNDLED_DATA
from exps import config
from exps.config import Experiment, as_dict
from utils.many.states import Folder, progress
from utils.results.about import About, KeptTask
from utils.results.files import save_results
from utils.results.weights import save as save_weights
from utils.runs.folder import reserve, unfinished
from utils.runs.identity import Wanted, configuration, fingerprint

EXP = Experiment(name="A")
KEY = fingerprint(configuration(EXP))
WANTED = Wanted(KEY, "c", "d")


def saved(folder: Path, exp: Experiment = EXP, **meta: object) -> Path:
    stats = {"accs": np.array([[0.5, 0.7]]), "elapsed": 3.0, "meta": {"data": "d"} | meta}
    return save_results(folder, as_dict(exp), stats, run=f"A_s{exp.seed}")


def begun(folder: Path, code: str, share: float, data: str = "d") -> None:
    identity = {"config": configuration(EXP), "program": {"code": code}, "data": {"data": data}}
    reserve(folder, "A").write({"identity": identity, "share": share, "progress": "task 1"}, {})


def test_nothing_there(tmp_path: Path) -> None:
    assert Folder(tmp_path / "nowhere").state(WANTED).kind == "new"


@pytest.mark.parametrize(
    ("meta", "kind"),
    [
        ({"code": "c", "status": "complete"}, "done"),
        ({"code": "c", "status": "diverged"}, "diverged"),
        ({"code": "c", "status": "interrupted"}, "new"),
        ({"code": "d", "status": "complete"}, "new"),
        ({"status": "complete"}, "new"),
        ({}, "new"),
        ({"code": "c", "status": "complete", "data": "e"}, "new"),
        ({"code": "c", "status": "complete", "data": ""}, "new"),
    ],
)
def test_results(tmp_path: Path, meta: dict[str, object], kind: str) -> None:
    path = saved(tmp_path, **meta)
    folder = Folder(tmp_path)
    state = folder.state(WANTED)
    assert (state.kind, state.path) == (kind, path if kind != "new" else None)
    assert folder.state(WANTED, again=True).kind == "new"
    other = meta.get("code") != "c" or "data" in meta
    assert len(folder.others(WANTED)[0]) == other
    trusted = folder.state(WANTED._replace(trust=True)).kind
    good = (meta.get("status") in ("complete", "diverged"), meta.get("data", "d")) == (True, "d")
    assert (trusted != "new") == good
    assert folder.state(WANTED._replace(data="")).kind == "new"  # nobody can say it is the same


def test_the_bundled_data_of_older_results(tmp_path: Path) -> None:
    told = {"data": "", "code": "c", "status": "complete"}
    saved(tmp_path, **told, data_source="mnist.npz (bundled), tested on 10 % of the training")
    bundled = WANTED._replace(data=BUNDLED_DATA["mnist.npz"])
    assert Folder(tmp_path).state(bundled).kind == "done"


def test_another_seed_or_value_is_another_run(tmp_path: Path) -> None:
    for other in (Experiment(name="A", seed=1), Experiment(name="A", lr=0.2), Experiment(name="B")):
        saved(tmp_path, other, code="c", status="complete")
    assert Folder(tmp_path).state(WANTED).kind == "new"


def test_keys_that_change_no_number_do_not_count(tmp_path: Path) -> None:
    other = Experiment(name="A", description="x", data_dir="/d", checkpoint_every=1.0)
    saved(tmp_path, other, code="c", status="complete")
    assert Folder(tmp_path).state(WANTED).kind == "done"


@pytest.mark.parametrize(("kept", "asked", "kind"), [
    ("none", "final", "new"), ("final", "tasks", "new"), ("final", "final", "done"),
    ("tasks", "final", "done"), ("final", "none", "done"),
])  # fmt: skip
def test_a_result_without_the_weights_that_are_asked_for_is_not_what_is_wanted(
    tmp_path: Path, kept: str, asked: str, kind: str
) -> None:
    saved(tmp_path, Experiment(name="A", keep_weights=kept), code="c", status="complete")
    wanted = WANTED._replace(weights=asked)
    assert Folder(tmp_path).state(wanted).kind == kind
    why = [text for text in Folder(tmp_path).others(wanted)[0] if f"keep_weights = {asked}" in text]
    assert len(why) == (kind == "new")


def test_a_result_whose_weights_are_gone_is_not_what_is_wanted(tmp_path: Path) -> None:
    exp = Experiment(name="A", keep_weights="final")
    path = saved(tmp_path, exp, code="c", status="complete", weights=["A.safetensors"])
    wanted = WANTED._replace(weights="final")
    assert Folder(tmp_path).state(wanted).kind == "new"
    assert "A.safetensors: these weights cannot be" in Folder(tmp_path).others(wanted)[0][0]
    assert Folder(tmp_path).state(WANTED).kind == "done"  # who asks for none is served
    kept = path.parent / "A.safetensors"
    kept.touch()  # of a full disk, say
    assert Folder(tmp_path).state(wanted).kind == "new"
    task = KeptTask("t", 0, 0, None, None)
    about = About(1, {}, [1, 1, 1], [2], [0.0], [1.0], [task], [], 1, [[0.5]], [None], {}, {})
    save_weights(kept, about, {})
    assert Folder(tmp_path).state(wanted).kind == "done"


@pytest.mark.parametrize("keeps", ["final", "tasks"])
def test_of_the_weights_of_all_tasks_the_last_are_the_final_ones(
    tmp_path: Path, keeps: str
) -> None:
    exp, names = (
        Experiment(name="A", keep_weights="tasks"),
        ["A.task1.safetensors", "A.task2.safetensors"],
    )
    saved(tmp_path, exp, code="c", status="complete", weights=names[1:], lost_weights=names[:1])
    wanted = WANTED._replace(weights=keeps)
    why = Folder(tmp_path).others(wanted)[0][0]
    assert (names[1] if keeps == "final" else names[0]) in why


def test_every_kind_of_value_has_the_same_text_in_a_result(tmp_path: Path) -> None:
    exp, _ = config.load("DEFAULT", overrides=["mnist_mode=split", "num_batch=5", "lr=1e-5"])
    saved(tmp_path, exp, code="c", status="complete")
    key = fingerprint(configuration(exp))
    (known,) = Folder(tmp_path).done[key]
    assert (known.mean, known.seconds) == (0.6, 3.0)


def test_unfinished_runs(tmp_path: Path) -> None:
    begun(tmp_path, "d", 0.1)
    assert Folder(tmp_path).state(WANTED).kind == "new"
    begun(tmp_path, "c", 0.25)
    begun(tmp_path, "c", 0.9, data="e")
    state = Folder(tmp_path).state(WANTED)
    assert (state.kind, state.far.share, state.detail) == ("unfinished", 0.25, "task 1")
    assert state.run is not None
    assert set(progress(tmp_path)) == {(KEY, "d"), (KEY, "e")}
    _, left = Folder(tmp_path).others(WANTED)
    assert sorted(text.partition(" ")[2] for text in left) == [
        "(another version of the program)",
        "(other data)",
    ]
    assert Folder(tmp_path).state(WANTED, without=[state.run.name]).kind == "new"
    anew = Folder(tmp_path).state(WANTED._replace(data=""), without=[state.run.name])
    assert anew.far.share == 0.9  # where the data are not known yet, the run itself compares them
    with state.run.held():
        assert Folder(tmp_path).state(WANTED).kind == "in use"
    assert Folder(tmp_path).state(WANTED, again=True).kind == "unfinished"


def test_files_of_others(tmp_path: Path) -> None:
    """A damaged one is named; one of 2019, or with anything in it, is of no run."""
    (tmp_path / "damaged.pkl").write_bytes(b"x")
    old = {"name": "A", "lr": "0.1", "odd": [1, {2: None}]}
    save_results(tmp_path, old, {"accs": 1}, run="old")
    folder = Folder(tmp_path)
    assert [path.name for path in folder.unreadable] == ["damaged.pkl"]
    begun(tmp_path, "c", 0.1)
    (run,) = unfinished(tmp_path)
    for path in run.checkpoints():
        path.write_bytes(b"x")
    assert Folder(tmp_path).unreadable[1:] == [run.folder]
    ((known,),) = folder.done.values()
    assert math.isnan(known.mean)
    assert folder.state(WANTED).kind == "new"
