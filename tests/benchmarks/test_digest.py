"""The digest of the data: the same for the same pictures, kept beside them, never a stale one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import datasets, digest, make_stream
from exps import ahead
from exps.config import Experiment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(40, dtype=np.uint8) % 10
    x = rng.integers(0, 256, (40, 4, 4), np.uint8)
    return {"x_train": x, "y_train": y, "x_test": x[:20], "y_test": y[:20]}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Experiment]:
    """An experiment on arrays written below tmp_path; files count as settled at once."""
    monkeypatch.setattr(digest, "_SETTLED", -(10**9))

    def make(arrays: dict[str, np.ndarray], folder: str = "a", **keys: Any) -> Experiment:
        (tmp_path / folder).mkdir(exist_ok=True)
        np.savez(tmp_path / folder / "mnist.npz", **arrays)
        return Experiment(name="A", data_dir=str(tmp_path / folder), num_batch=2, **keys)

    return make


@pytest.mark.parametrize("name", datasets.BUNDLED_DATA)
def test_the_bundled_files(name: str) -> None:
    cifar = name != "mnist.npz"
    keys: dict[str, Any] = {"benchmark": "cifar", "data": "sample"} if cifar else {}
    arrays = datasets.load_arrays("cifar10" if cifar else "mnist", Path("data"), sample=cifar)
    assert digest.of_arrays(arrays) == datasets.BUNDLED_DATA[name]
    exp = Experiment(name="A", num_batch=2, data_dir="/nowhere" if cifar else "data", **keys)
    assert make_stream(exp).data == datasets.BUNDLED_DATA[name]
    assert digest.of_meta({"data_source": arrays.source}) == datasets.BUNDLED_DATA[name]


def test_what_a_run_sees_is_what_is_compared(own: Any, arrays: dict[str, np.ndarray]) -> None:
    expected = digest.of_experiment(own(arrays))
    for keys in ({}, {"cumul": True}, {"validation": 0.5}, {"mnist_mode": "split"}):
        assert make_stream(own(arrays, **keys)).data == expected
    assert digest.of_experiment(own(arrays, "elsewhere")) == expected
    for key in arrays:
        other = {k: v.copy() for k, v in arrays.items()}
        other[key].flat[0] ^= 1
        changed = own(other, "other")
        assert digest.of_experiment(changed) == make_stream(changed).data != expected
    turned = arrays | {k: v.reshape(len(v), 2, 8) for k, v in arrays.items() if k[0] == "x"}
    assert digest.of_experiment(own(turned, "turned")) != expected


def test_it_is_kept_beside_the_data_and_never_stale(
    own: Any, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = own(arrays)
    folder, read = Path(exp.data_dir), []
    original = datasets.load_arrays
    monkeypatch.setattr(digest, "load_arrays", lambda *a, **k: read.append(1) or original(*a, **k))
    first = digest.of_experiment(exp)
    assert (digest.of_experiment(exp), len(read)) == (first, 1)

    path = folder / "mnist.npz"
    times = path.stat()
    data = bytearray(path.read_bytes())
    other = arrays | {"y_test": arrays["y_test"][::-1].copy()}
    np.savez(path, **other)
    assert len(path.read_bytes()) == len(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as copying with -p does
    second = digest.of_experiment(exp)
    assert (second == first, len(read)) == (False, 2)

    for spoiled in ("", "[]", "{", '{"mnist": 1}', '{"mnist": [[], "x", 1]}', "[" * 10_000):
        (folder / digest.CACHE).write_text(spoiled)
        assert digest.of_experiment(exp) == second
    assert list(json.loads((folder / digest.CACHE).read_text())) == ["mnist"]


def test_runs_take_it_anew_only_when_the_data_have_changed(
    own: Any, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    original = digest.of_arrays
    monkeypatch.setattr(digest, "of_arrays", lambda found: taken.append(1) or original(found))
    exp, other = own(arrays), {key: array ^ 1 for key, array in arrays.items()}
    first = make_stream(exp).data
    assert (digest.of_experiment(exp), make_stream(exp).data, len(taken)) == (first, first, 1)
    own(other)
    with ahead.working():
        digest.begin_to_load(exp)
        stream = make_stream(exp)
    assert (stream.data != first, len(taken)) == (True, 2)
    assert np.array_equal(stream.train.x[:, 0].numpy(), other["x_train"])
    assert stream.data == digest.of_stream(stream) == digest.of_experiment(exp)

    files = iter([first, "another"])  # one that changes while it is read
    monkeypatch.setattr(digest, "_looks", lambda *_: [["a", 1, 1, [1, next(files) == first]]])
    assert make_stream(own(arrays)).data == first
    assert len(taken) == 3


def test_what_has_just_changed_is_not_kept(
    own: Any, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = own(arrays)
    monkeypatch.setattr(digest, "_SETTLED", 10**12)
    assert digest.of_experiment(exp)
    assert not (Path(exp.data_dir) / digest.CACHE).exists()


def test_data_that_are_not_here(tmp_path: Path, own: Any, arrays: dict[str, np.ndarray]) -> None:
    """Nothing is downloaded to compare it, and what is damaged has no digest."""
    absent = Experiment(name="A", benchmark="cifar", num_batch=2, data_dir=str(tmp_path / "no"))
    assert digest.of_experiment(absent) == ""
    assert not (tmp_path / "no").exists()
    damaged = own(arrays)
    (Path(damaged.data_dir) / "mnist.npz").write_bytes(b"x")
    assert digest.of_experiment(damaged) == ""
    assert digest.of_meta({"data_source": "mnist.npz (torchvision's copy)"}) == ""


def test_it_needs_no_torch(own: Any, arrays: dict[str, np.ndarray]) -> None:
    exp = own(arrays)
    program = (
        "import sys; from exps.config import Experiment; from benchmarks import digest\n"
        "assert digest.of_experiment(Experiment(name='A', data_dir=sys.argv[1], num_batch=2))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, exp.data_dir], cwd=ROOT, check=True)
