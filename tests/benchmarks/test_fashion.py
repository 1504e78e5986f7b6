"""Fashion-MNIST and Kuzushiji-MNIST, from files as they are published."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import fashion, kmnist, make_stream
from benchmarks.datasets import DATASETS
from exps.rules import doubts

NAMES = ["fashion", "kmnist"]


@pytest.fixture
def folder(tmp_path: Path, make_arrays: Callable) -> Path:
    """A data_dir with a few pictures of both: those of the second are one brighter."""
    for add, name in enumerate(NAMES):
        dataset = DATASETS[name]
        raw = tmp_path / dataset.folder
        raw.mkdir(parents=True)
        arrays = make_arrays(train=40, test=20)
        arrays["x_train"] = arrays["x_train"] // 2 + np.uint8(add)
        for part, files in (("train", dataset.train), ("test", dataset.test)):
            for key, file in zip("xy", files, strict=True):
                array = arrays[f"{key}_{part}"]
                header = np.array([8 * 256 + array.ndim, *array.shape], dtype=">i4")
                packed = gzip.compress(header.tobytes() + array.tobytes())
                (raw / f"{file}.gz").write_bytes(packed)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_shared_out_and_named(make_exp: Callable, folder: Path, name: str) -> None:
    exp = make_exp(benchmark=name, num_batch=5, scenario="class", data_dir=str(folder))
    stream = make_stream(exp)
    labels = {"fashion": fashion, "kmnist": kmnist}[name].LABELS
    assert [t.name for t in stream.tasks] == [", ".join(labels[i : i + 2]) for i in range(0, 10, 2)]
    assert [t.train.rows.tolist() for t in stream.tasks] == [
        [row for row in range(40) if row % 10 in (i, i + 1)] for i in range(0, 10, 2)
    ]
    assert stream.class_names == labels and len(set(labels)) == 10


@pytest.mark.parametrize("tasks", ["permute", "rotate"])
@pytest.mark.parametrize("name", NAMES)
def test_or_all_classes_are_seen_another_way(
    make_exp: Callable, folder: Path, name: str, tasks: str
) -> None:
    stream = make_stream(make_exp(benchmark=name, tasks=tasks, data_dir=str(folder)))
    assert [len(t.train) for t in stream.tasks] == [40] * 3 and stream.head_sizes == (10,)
    views: list[Any] = [stream.inputs(stream.train, task.train) for task in stream.tasks]
    assert not torch.equal(views[0], views[1])
    if tasks == "permute":  # the same numbers, elsewhere; in units of the first task
        assert torch.equal(*(view.flatten(1).sort(1).values for view in views[:2]))
        assert abs(float(views[0].mean())) < 1e-5 and abs(float(views[0].std()) - 1) < 1e-2


def test_they_are_told_apart(make_exp: Callable, folder: Path) -> None:
    keys = {"num_batch": 1, "data_dir": str(folder)}
    clothes, signs = (make_stream(make_exp(benchmark=name, **keys)) for name in NAMES)
    assert torch.equal(clothes.train.x + 1, signs.train.x) and clothes.data != signs.data
    assert str(folder / "FashionMNIST") in clothes.source
    assert str(folder / "KMNIST") in signs.source


def test_signs_are_not_mirrored_and_clothes_may_be(make_exp: Callable) -> None:
    made = [make_exp(benchmark=name, num_batch=2, augment="crop_flip") for name in NAMES]
    doubted = ["augment" in {key for keys, _ in doubts(exp) for key in keys} for exp in made]
    assert doubted == [False, True]
