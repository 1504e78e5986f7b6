"""Data of one's own, from a file to the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("threads")

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
