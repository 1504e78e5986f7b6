"""`python -m utils.predict` on what runs have kept, and on files that are hostile."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import run_exps
from utils.predict.__main__ import main
from utils.results import load_results

TINY = ["--name", "Smoke", "--quiet", "--device", "cpu", "--set", "hidden_units=20"]
TINY += ["--set", "train_ep=1", "--set", "train_ep_inc=1", "--set", "num_batch=2"]
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pictures() -> Path:
    """The bundled sample of CIFAR-10."""
    return Path(run_exps.__file__).parent / "benchmarks" / "data" / "cifar10_sample.npz"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result with its weights."""
    folder = tmp_path_factory.mktemp("kept")
    words = [*TINY, "--set", "keep_weights=final", "--results-dir", str(folder)]
    assert run_exps.main(words) == 0
    (path,) = folder.glob("*.pkl")
    return path


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Ask:
    def ask(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as exit:
            status = int(exit.code or 0)
        return status, *capfd.readouterr()

    return ask


def test_the_numbers_of_the_result(ask: Ask, result: Path, pictures: Path, tmp_path: Path) -> None:
    """By the result and by the weights; the lines of the file come to the same accuracy."""
    accs = load_results(result)[1]["accs"][-1]
    for task, acc in enumerate(accs, 1):
        table = tmp_path / "said.csv"
        for path in (result, result.with_suffix(".safetensors")):
            status, out, err = ask(path, pictures, "--task", task, "--csv", table)
            assert status == 0, err
            assert f"accuracy: {100 * acc:.2f} % of 100 pictures (100 of other classes" in out
        with table.open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 100
        assert np.mean([row["class"] == row["label"] for row in rows]) == pytest.approx(acc)
        assert all(0.2 <= float(row["confidence"]) <= 1 for row in rows)
    assert {row["label"] for row in rows} == {"dog", "frog", "horse", "ship", "truck"}


def test_pictures_as_files(ask: Ask, result: Path, pictures: Path, tmp_path: Path) -> None:
    """What is said of a picture in a file is what is said of it in the array."""
    with np.load(pictures) as file:
        x = file["x_test"][:3]
    np.savez(tmp_path / "three.npz", x=x)
    for i, picture in enumerate(x):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").touch()
    _, whole, _ = ask(result, tmp_path / "three.npz", "--task", 1)
    status, folder, _ = ask(result, tmp_path, "--task", 1)
    _, single, _ = ask(result, tmp_path / "1.png", "--task", 1)
    said = [line.split()[1:] for line in whole.splitlines()]
    assert status == 0 and len(said) == 4 and "accuracy" not in whole
    assert [line.split()[1:] for line in folder.splitlines()] == said
    assert single.splitlines()[1].split()[1:] == said[2]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda f: np.savez(f / "x.npz", z=np.zeros(3)), "neither an array x_test nor x"),
        (
            lambda f: np.savez(f / "x.npz", x=np.zeros((2, 32, 32, 3))),
            "x is float64 [2, 32, 32, 3]",
        ),
        (lambda f: np.savez(f / "x.npz", x=np.zeros((0, 9, 9), np.uint8)), "x is uint8 [0, 9, 9]"),
        (lambda f: np.savez(f / "x.npz", x=np.float32(3)), "x is float32 []"),
        (
            lambda f: np.savez(f / "x.npz", x=np.zeros((2, 9, 9), np.uint8)),
            "of 1 × 9 × 9 (channels, height, width); the network takes 3 × 32 × 32",
        ),
        (
            lambda f: np.savez(
                f / "x.npz", x=np.zeros((2, 32, 32, 3), np.uint8), y=np.zeros(3, np.int64)
            ),
            "y has no label",
        ),
        (
            lambda f: np.savez(f / "x.npz", x=np.zeros((2, 32, 32, 3), np.uint8), y=np.full(2, 77)),
            "no label of the pictures is one of those of task",
        ),
        (
            lambda f: np.savez(f / "x.npz", x=np.array([{}], dtype=object)),
            "no pictures can be read: it holds objects of Python",
        ),
        (lambda f: (f / "x.npz").write_bytes(b"PK\x03\x04 nothing"), "no pictures can be read"),
        (lambda f: (f / "x.npz").mkdir(), "Is a directory"),
        (lambda f: None, "No such file"),
    ],
)
def test_pictures_that_are_none(
    ask: Ask, result: Path, tmp_path: Path, make: Callable[[Path], Any], told: str
) -> None:
    make(tmp_path)
    status, out, err = ask(result, tmp_path / "x.npz", "--task", 1)
    assert (status, out) == (1, "") and told in err and err.count("\n") == 1, err


def test_files_that_are_no_pictures(ask: Ask, result: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.png").write_bytes(b"\x89PNG nothing")
    Image.new("L", (9, 9)).save(tmp_path / "small.png")
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (9, 9)).save(tmp_path / "clear.png")
    np.savez_compressed(tmp_path / "damaged.npz", x=np.arange(99_999, dtype=np.uint8))
    content = bytearray((tmp_path / "damaged.npz").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "damaged.npz").write_bytes(content)
    for name, told in (
        ("empty", "there is no picture"),
        ("x.png", "no picture that can be read"),
        ("small.png", "of 3 × 9 × 9"),
        ("deep.png", "it is of mode I;16; grey or RGB, of 8 bits, can be used"),
        ("clear.png", "it is of mode RGBA; grey or RGB, of 8 bits, can be used"),
        ("damaged.npz", "no pictures can be read"),
        ("x" * 300, f"{'x' * 300}: cannot be read: File name too long"),
        ("missing.png", "there is no such file or folder"),
    ):
        status, out, err = ask(result, tmp_path / name, "--task", 1)
        assert (status, out) == (1, "") and told in err and err.count("\n") == 1


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path.with_suffix(".safetensors"), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["sparse_syn"])


HEAD = "network.heads.0.weight"


def _gone(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    del tensors[HEAD]


def _more(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    tensors["network.zz"] = torch.zeros(1)


def _shape(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    tensors[HEAD] = torch.zeros(5, 21)


def _dtype(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    tensors[HEAD] = tensors[HEAD].double()


def _no_targets(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    del tensors["stream.targets"]


def _far_targets(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    tensors["stream.targets"] += 100


def _few_targets(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    tensors["stream.targets"] = tensors["stream.targets"][:1].clone()


def _no_order(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    tensors["stream.permutations"] = torch.zeros(2, 3072, dtype=torch.int64)


def _wrong_value(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    about["config"]["lr"] = "fast"


def _wrong_key(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    about["config"]["no_key"] = "1"


def _huge(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    about["config"]["hidden_units"] = "600000"


def _own(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    about["config"]["model"] = "./evil.py"


def _method(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    about["config"]["methods"] = "er"


def _heads(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    about["head_sizes"] = [5, 5, 5]


def _no_numbers(tensors: dict[str, Any], about: dict[str, Any]) -> None:
    tensors[HEAD].fill_(float("nan"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_no_numbers, "says nothing but NaN"),
        (_gone, "has other tensors: it lacks heads.0.weight"),
        (_more, "has other tensors: it adds zz"),
        (_shape, "heads.0.weight has the shape (5, 21), its configuration (5, 20)"),
        (_dtype, "heads.0.weight has the dtype torch.float64"),
        (_no_targets, "stream.targets is missing"),
        (_far_targets, "have no outputs"),
        (_few_targets, "stream.targets is of 1 tasks, not 2"),
        (_no_order, "permutations are none of the pixels"),
        (_wrong_value, "its configuration is none: lr = 'fast'"),
        (_wrong_key, "there is no key 'no_key'"),
        (_huge, "larger network"),
        (_own, "not run unasked; ask for it with --set model=./evil.py"),
        (_method, "do not fit their configuration"),
        (_heads, "has other tensors: it lacks heads.2"),
    ],
)
def test_weights_that_are_none(
    ask: Ask,
    result: Path,
    pictures: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any], dict[str, Any]], None],
    told: str,
) -> None:
    """One line, and nothing that they name is run."""
    (tmp_path / "evil.py").write_text("raise SystemExit('it was run')")
    tensors, about = parts(result)
    change(tensors, about)
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, {"sparse_syn": json.dumps(about)})
    status, out, err = ask(path, pictures, "--task", 1)
    assert (status, out) == (1, "") and told in err and err.count("\n") == 1, err
