"""Data of one's own, from a file to the end of a run."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FEW = ("hidden_units=30", "percent_on_fc=0.1", "num_batch=2", "train_ep=1", "train_ep_inc=1")
SMALL = [word for text in (*FEW, "mb_size=16", "expected_acc=none") for word in ("--set", text)]


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., str]:
    """The --set that names a folder with a small MNIST, without the classes given."""

    def own(*without: int, side: int = 6) -> str:
        rng = np.random.default_rng(0)
        arrays = {}
        for part, n in (("train", 100), ("test", 40)):
            y = np.sort(np.arange(n, dtype=np.uint8) % 10)  # class by class
            keep = ~np.isin(y, without) if part == "train" else np.ones(n, bool)
            arrays[f"x_{part}"] = rng.integers(0, 256, (n, side, side), np.uint8)[keep]
            arrays[f"y_{part}"] = y[keep]
        np.savez(tmp_path / "mnist.npz", **arrays)
        return f"data_dir={tmp_path}"

    return own


LACKS = "'permutation 1' and 'permutation 2' have no training pictures of class 9;"


@pytest.mark.parametrize(
    "options", [[], ["--dry-run"], ["--seeds", "0"], ["--seeds", "0-1", "--dry-run"]]
)
def test_a_class_that_is_missing_is_named_once(own: Any, call: Any, options: list[str]) -> None:
    status, _, err = call(*SMALL, "--set", own(9), *options)
    assert status == 0
    assert err.count(LACKS) == 1 and err.count("pictures of class") == 1


def test_nothing_is_said_of_sound_data(own: Any, call: Any) -> None:
    for options in ([], ["--set", "validation=0.3"], ["--seeds", "3", "--dry-run"]):
        status, _, err = call(*SMALL, "--set", own(), *options)
        assert status == 0
        assert "pictures of class" not in err


def test_a_dry_run_of_many_tells_of_networks_that_do_not_fit(own: Any, call: Any) -> None:
    words = ["--set", own(side=6), "--set", "cnn=true", "--seeds", "0-1", "--dry-run"]
    status, _, err = call(*SMALL, *words)
    assert (status, err.count("the CNN needs 9 × 9 at least")) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "never"),
    [
        ("dynamic=set initial_density_fc=0.9", "no weight of a unit of 4 inputs, so none can move"),
        ("weight_sparsity_fc=0.9", "leaves out no weight of a unit of 4 inputs"),
    ],
)
def test_what_never_happens_with_small_pictures_is_told(
    own: Any, call: Any, changes: str, never: str
) -> None:
    words = [word for text in (own(side=2), *changes.split()) for word in ("--set", text)]
    status, _, err = call(*SMALL, *words, "--dry-run")
    assert status == 0
    assert never in err


@pytest.mark.parametrize(
    ("side", "changes", "reason"),
    [
        (6, ["cnn=true"], "the CNN needs 9 × 9 at least"),
        (2, ["weight_sparsity_fc=0.01"], "no weight for a unit of 4 inputs"),
    ],
)
@pytest.mark.parametrize("many", [[], ["--seeds", "0"]])
def test_a_network_that_does_not_fit_begins_no_run(
    own: Any, call: Any, tmp_path: Path, side: int, changes: list[str], reason: str, many: list[str]
) -> None:
    words = [word for text in (own(side=side), *changes) for word in ("--set", text)]
    status, out, err = call(*SMALL, *words, *many)
    assert status == 1
    assert reason in (out if many else err) and "an error in the program" not in out + err
    assert not list((tmp_path / "r").glob("*.pkl")) + list((tmp_path / "r").glob(".runs/*"))


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--seeds", "0", "--dry-run"]])
def test_a_data_dir_that_is_not_there_is_an_error(call: Any, options: list[str]) -> None:
    status, _, err = call(*SMALL, "--set", "data_dir=/no/such/dir", *options)
    assert status == 2
    assert "data_dir = /no/such/dir: there is no such folder\n  why: looked for " in err


def test_a_data_dir_beside_the_sample_is_said_to_do_nothing(call: Any, tmp_path: Path) -> None:
    status, _, err = call("--name", "Smoke", "--set", f"data_dir={tmp_path}", "--dry-run")
    assert status == 0
    assert "data_dir=" in err and "does nothing here; it counts only with data = full" in err


FILE = ("benchmark=arrays", "tasks=split", "num_batch=2", "hidden_units=64", "percent_on_fc=0.05")
FILE += ("mb_size=4", "train_ep=2", "train_ep_inc=2", "expected_acc=none", "device=cpu")


def with_file(path: Path, *more: str) -> list[str]:
    return [w for text in (*FILE, f"data_file={path}", *more) for w in ("--set", text)]


def save(path: Path, shape: tuple[int, ...], seed: int = 0) -> None:
    """Twenty of each of six classes, with names."""
    names = np.array(["ant", "bee", "cat", "dog", "emu", "fox"])
    np.savez(path, x=np.random.default_rng(seed).normal(size=(120, *shape)), y=names.repeat(20))


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("shape", "more"),
    [
        ((33,), ["tasks=permute", "engine=sparse"]),
        ((6, 7), ["tasks=rotate", "engine=sparse"]),
        ((6, 7, 2), ["tasks=rotate", "cumul=true", "engine=dense"]),
        ((33,), ["classes_per_task=4,2", "scenario=class", "validation=0.3", "engine=sparse"]),
    ],
)
def test_a_run_on_a_file_goes_on_to_the_bit_and_with_these_data_only(
    call: Any, tmp_path: Path, monkeypatch: Any, shape: tuple[int, ...], more: list[str]
) -> None:
    from utils.engines.fused import FusedEngine
    from utils.engines.winners.engine import SparseEngine

    def result() -> bytes:
        [path] = (tmp_path / "r").glob("*.pkl")
        config, stats = pickle.loads(path.read_bytes())
        path.unlink()
        del config["data_file"]
        free = ("meta", "elapsed", "train_seconds")
        return pickle.dumps((config, {k: v for k, v in stats.items() if k not in free}))

    mine = tmp_path / "mine.npz"
    save(mine, shape)
    assert call(*with_file(mine, *more))[0] == 0
    expected = result()

    engine, count = FusedEngine if "engine=dense" in more else SparseEngine, iter(range(10**6))
    step = engine.step

    def signalled(self: Any, *arguments: Any) -> Any:
        if next(count) == 30:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "step", signalled)
        assert call(*with_file(mine, *more))[0] == 130
    result()
    save(mine, shape, seed=1)  # of the same size
    status, _, err = call(*with_file(mine, *more), "--resume")
    assert status == 2 and "the data (SHA-256)" in err
    mine.unlink()
    moved = tmp_path / "moved.npz"
    save(moved, shape)
    assert call(*with_file(moved, *more), "--resume")[0] == 0
    assert result() == expected


def test_checks_and_explanations_of_files(call: Any, tmp_path: Path) -> None:
    (tmp_path / "my.cfg").write_text(
        "[Good]\nbenchmark = arrays\ndata_file = my file #1.npz\nnum_batch = 2\n"
        "[Bad]\nlike = Good\ndata_file = none.npz\n[Uneven]\nlike = Good\nclasses_per_task = 3 4\n"
    )
    os.chdir(tmp_path)
    save(tmp_path / "my file #1.npz", (5, 5))
    check = call("--config", "my.cfg", "--check")
    assert check[0] == 2
    lines = check[2].splitlines()
    assert (
        len(lines) == 2 and "line 7 [Bad]: data_file = 'none.npz': none.npz cannot be" in lines[0]
    )
    assert "line 10 [Uneven]" in lines[1] and "asks for 7 classes, and arrays has 6" in lines[1]
    assert call("--config", "my.cfg", "--check", "--name", "Good")[0] == 0
    for key in ("data_file", "tasks", "classes_per_task", "data_mean"):
        status, out, _ = call("--explain", key)
        assert status == 0 and out.startswith(key)
    status, out, _ = call("--config", "my.cfg", "--name", "Good", "--dry-run")
    assert status == 0 and "1. ant, bee, cat: 48 training, 12 test pictures, head 1" in out
    status, out, err = call("--config", "my.cfg", "--name", "Good", "--seeds", "0-1", "--dry-run")
    assert status == 0 and err == ""
