"""What a network says of a user's own data, given as they are, is what its run has measured; and a
run goes on with them. The data need not be where they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import run_exps
from utils.predict import load_network
from utils.predict.__main__ import main
from utils.results import load_results

WORDS = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
SMALL = ["--quiet", "--device", "cpu", "--set", "hidden_units=40", "--set", "percent_on_fc=0.2"]
SMALL += ["--set", "benchmark=arrays", "--set", "train_steps=40", "--set", "train_steps_inc=40"]
SMALL += ["--set", "keep_weights=final"]
Run = Callable[..., tuple[Path, np.ndarray]]


@pytest.fixture
def digits() -> tuple[np.ndarray, np.ndarray]:
    folder = Path(run_exps.__file__).parent / "benchmarks" / "data"
    with np.load(folder / "digits.npz") as file:
        return file["x"], file["y"]


def saved(path: Path, x: np.ndarray, y: np.ndarray) -> Path:
    """With every third to test on."""
    test = np.arange(len(x)) % 3 == 0
    np.savez(path, x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test])
    return path


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[Path, np.ndarray]:
        capfd.readouterr()
        status = run_exps.main([*words, "--results-dir", str(tmp_path / "results")])
        out, err = capfd.readouterr()
        assert status == 0, err
        return Path(out.strip()), load_results(out.strip())[1]["accs"]

    return run


def said(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    capfd.readouterr()
    status = main([str(word) for word in words])
    return status, "".join(capfd.readouterr())


def sets(**keys: object) -> list[str]:
    return [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]


KINDS: dict[str, tuple[Callable[[Any, Any], tuple[Any, Any]], dict[str, object]]] = {
    "features": (
        lambda x, y: (x.reshape(len(x), -1) * np.linspace(0.1, 9, 64) - 5, y),
        {"classes_per_task": "4,3", "scenario": "task"},
    ),
    "features, permuted": (
        lambda x, y: (x.reshape(len(x), -1) / 7, y - 5),
        {"tasks": "permute", "num_batch": 2},
    ),
    "floats": (lambda x, y: (x / 16, WORDS[y]), {"classes_per_task": "4,3", "scenario": "class"}),
    "floats, turned": (
        lambda x, y: (x / 16, y),
        {"tasks": "rotate", "num_batch": 2, "rotation_max": 45},
    ),
    "uint8, turned": (
        lambda x, y: (x, y + 3),
        {"tasks": "rotate", "num_batch": 2, "rotation_max": 45},
    ),
}
MORE: dict[str, dict[str, object]] = {
    "features": {"classes_per_task": "4,3,3"},
    "features, permuted": {"num_batch": 3},
    "floats": {"classes_per_task": "4,3,3"},
    "floats, turned": {"num_batch": 3, "rotation_max": 90},
    "uint8, turned": {"num_batch": 3, "rotation_max": 90},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_the_run(
    run: Run,
    digits: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    change, keys = KINDS[kind]
    data = saved(tmp_path / "mine.npz", *change(*digits))
    result, accs = run(*SMALL, *sets(**keys, data_file=data))
    moved = data.rename(tmp_path / "moved.npz")
    for task, acc in enumerate(accs[-1], 1):
        status, text = said(capfd, result, moved, "--task", task, "--csv", tmp_path / "x.csv")
        assert status == 0 and f"accuracy: {100 * acc:.2f} %" in text, text
    assert len(set(accs[-1])) > 1

    network, normalise = load_network(result)
    with np.load(moved) as file:
        x = torch.from_numpy(file["x_test"])
    x = x if x.dtype == torch.uint8 else x.float()
    x = x if x.dim() == 2 else x.unsqueeze(1)
    assert network(normalise(x, task=1)).shape[0] == len(x)
    with pytest.raises(ValueError, match="this takes"):
        normalise(x[..., :3], task=0)

    going = ["--quiet", "--continue", str(result), *sets(**MORE[kind], data_file=moved)]
    _, more = run(*going)
    assert np.array_equal(more[:2, :2], accs) and not np.isnan(more[1:]).any()


def test_what_it_does_not_take(
    run: Run,
    digits: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    x, y = digits
    data = saved(tmp_path / "mine.npz", x.reshape(len(x), -1) / 16, y)
    result, _ = run(*SMALL, *sets(num_batch=1, data_file=data))
    np.savez(tmp_path / "few.npz", x=np.zeros((2, 63)))
    np.savez(tmp_path / "pictures.npz", x=x)
    np.savez(tmp_path / "nan.npz", x=np.full((2, 64), np.nan))
    Image.fromarray(x[0]).save(tmp_path / "x.png")
    for name, why in (
        ("few.npz", "x is float64 [2, 63]; features are floats [n, 64]"),
        ("pictures.npz", "features are floats [n, 64]"),
        ("nan.npz", "holds nan"),
        ("x.png", "give a .npz"),
    ):
        status, text = said(capfd, result, tmp_path / name, "--task", 1)
        assert status == 1 and why in text and text.count("\n") == 1, text


def test_a_folder_of_classes(
    run: Run,
    digits: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Brought to the size of the run, and labelled by their folders."""
    for i, (picture, label) in enumerate(zip(*(its[:240] for its in digits), strict=True)):
        folder = tmp_path / "data" / ("test" if i % 4 == 0 else "train") / WORDS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i}.png")
    keys = {"picture_size": 12, "num_batch": 2, "scenario": "class", "tasks": "split"}
    result, accs = run(*SMALL, *sets(**keys, data_file=tmp_path / "data"))
    for task in (1, 2):
        status, text = said(capfd, result, tmp_path / "data" / "test", "--task", task)
        assert status == 0 and f"accuracy: {100 * accs[-1][task - 1]:.2f} %" in text, text
