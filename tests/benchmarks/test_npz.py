from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import formats as arrays_module
from benchmarks import npz
from benchmarks.datasets import DATASETS
from benchmarks.formats import KEYS, DataError
from benchmarks.npz import read_npz

MNIST, CIFAR10 = DATASETS["mnist"], DATASETS["cifar10"]


def refusal(path: Path, dataset: Any = MNIST) -> str:
    """Why a file is refused, in the middle of three lines: which, why, and what to do."""
    with pytest.raises(DataError) as caught:
        read_npz(path, dataset, "test")
    what, why, remedy = str(caught.value).split("\n")
    assert what == f"{path} cannot be used"
    assert "replace it, or remove it" in remedy
    assert why.isprintable() and len(why) < 600
    return why


def raw_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy_bytes(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_saves(tmp_path, small, same, save):
    save(tmp_path / "mnist.npz", note=np.array("extra keys do no harm"), **small)
    assert same(read_npz(tmp_path / "mnist.npz", MNIST, "test"), small)


def test_reads_arrays_in_fortran_order(tmp_path, small, same):
    np.savez(tmp_path / "mnist.npz", **{k: np.asfortranarray(v) for k, v in small.items()})
    arrays = read_npz(tmp_path / "mnist.npz", MNIST, "test")
    assert same(arrays, small)
    assert arrays.x_train.flags.c_contiguous


WRONG = {
    "float": (
        lambda a: a | {"x_train": a["x_train"] / 255},
        "x_train is of type float64, not uint8",
    ),
    "int64 labels": (lambda a: a | {"y_test": a["y_test"].astype(int)}, "y_test is of type int64"),
    "signed": (lambda a: a | {"x_test": a["x_test"].astype(np.int8)}, "x_test is of type int8"),
    "bool": (lambda a: a | {"x_test": a["x_test"] > 9}, "x_test is of type bool"),
    "text": (lambda a: a | {"y_test": a["y_test"].astype(str)}, "y_test is of type <U"),
    "object": (lambda a: a | {"y_train": a["y_train"].astype(object)}, "y_train is of type object"),
    "flat": (
        lambda a: a | {"x_train": a["x_train"].reshape(20, 16)},
        "x_train has shape (20, 16), not (n, height, width)",
    ),
    "column of labels": (
        lambda a: a | {"y_train": a["y_train"][:, None]},
        "y_train has shape (20, 1), not (n)",
    ),
    "scalar": (lambda a: a | {"y_train": np.uint8(3)}, "y_train has shape (), not (n)"),
    "lengths": (
        lambda a: a | {"y_train": a["y_train"][:-1]},
        "20 pictures, but y_train has 19 labels",
    ),
    "sizes": (
        lambda a: a | {"x_test": a["x_test"][:, :3]},
        "x_train are (4, 4), those of x_test (3, 4)",
    ),
    "empty": (
        lambda a: a | {"x_test": a["x_test"][:0], "y_test": a["y_test"][:0]},
        "x_test is empty",
    ),
    "no pixels": (lambda a: a | {"x_test": a["x_test"][:, :0]}, "x_test is empty"),
    "labels": (lambda a: a | {"y_test": a["y_test"] + np.uint8(1)}, "label 10; mnist has 0 to 9"),
    "missing key": (lambda a: {k: a[k] for k in KEYS[:3]}, "no y_test in it (found x_train, "),
    "other keys": (lambda a: {"images": a["x_train"]}, "no x_train, y_train, x_test, y_test in it"),
    "nothing": (lambda a: {}, "found nothing"),
}


@pytest.mark.parametrize(("spoil", "expected"), WRONG.values(), ids=WRONG.keys())
def test_refuses_arrays_that_are_not_the_data_set(tmp_path, small, spoil, expected):
    np.savez(tmp_path / "mnist.npz", **spoil(small))
    assert expected in refusal(tmp_path / "mnist.npz")


@pytest.mark.parametrize("order", [(0, 3, 1, 2), None])
def test_refuses_cifar_without_its_channels_last(tmp_path, make_arrays, order):
    arrays = make_arrays(channels=3)
    for key in ("x_train", "x_test"):
        arrays[key] = arrays[key].transpose(order) if order else arrays[key][..., 0]
    np.savez(tmp_path / "cifar10.npz", **arrays)
    assert "not (n, height, width, 3)" in refusal(tmp_path / "cifar10.npz", CIFAR10)


def test_refuses_what_is_no_zip_file(tmp_path, small):
    path = tmp_path / "mnist.npz"
    for content in (b"", b"PK", b"<html>404</html>", npy_bytes(small["x_train"])):
        path.write_bytes(content)
        assert "not a zip file" in refusal(path)


def test_names_inside_a_file_cannot_garble_the_message(tmp_path):
    raw_zip(tmp_path / "mnist.npz", {f"\x1b[2J{i}\n{'x' * 9999}.npy": b"" for i in range(50)})
    assert "found ?[2J0" in refusal(tmp_path / "mnist.npz")


def test_refuses_names_that_are_no_regular_file(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    assert "not a file" in refusal(tmp_path / "folder.npz")
    os.mkfifo(tmp_path / "pipe.npz")  # opening it would wait for ever
    assert "not a file" in refusal(tmp_path / "pipe.npz")
    (tmp_path / "link.npz").symlink_to(tmp_path / "nowhere")
    assert "missing" in refusal(tmp_path / "link.npz")


class Hostile:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return Path.touch, (self.witness,)


def test_nothing_in_a_pickled_array_runs(tmp_path, small):
    witness = tmp_path / "witness"
    hostile = np.array([Hostile(witness)] * 20, dtype=object)
    np.savez(tmp_path / "mnist.npz", **(small | {"y_train": hostile}))
    assert "object" in refusal(tmp_path / "mnist.npz")
    assert not witness.exists()


@pytest.fixture
def no_reading(monkeypatch):
    """Fail where the contents of an array are read, not only its header."""

    def read(*_: Any) -> Any:
        raise AssertionError("read before it was checked")

    monkeypatch.setattr(npz, "array", read)


def test_headers_that_lie_are_refused_before_reading(tmp_path, small, no_reading):
    members = {f"{key}.npy": npy_bytes(value) for key, value in small.items()}
    honest = members["x_train.npy"]
    for shape in (b"(20, 4, 5)", b"(-1, 4, 4)", b"(20, 4, 9_", b"(20, 4, ((", b"(8**9**9,)"):
        lie = honest.replace(b"(20, 4, 4)", shape)
        assert lie != honest
        refusal(raw_zip(tmp_path / "mnist.npz", members | {"x_train.npy": lie}))


def test_headers_of_later_versions_are_refused(tmp_path, small, no_reading):
    members = {f"{key}.npy": npy_bytes(value, version=(2, 0)) for key, value in small.items()}
    assert "not a plain array" in refusal(raw_zip(tmp_path / "mnist.npz", members))


def test_bombs_are_refused_before_reading(tmp_path, small, no_reading, monkeypatch):
    monkeypatch.setattr(arrays_module, "MAX_BYTES", 10_000)
    zeros = {"x_train": np.zeros((20, 99, 9), np.uint8), "x_test": np.zeros((10, 99, 9), np.uint8)}
    np.savez_compressed(tmp_path / "mnist.npz", **(small | zeros))
    assert (tmp_path / "mnist.npz").stat().st_size < 2_000
    few = replace(MNIST, pictures=1)
    assert "arrays take 26760 bytes, more than the 10000" in refusal(tmp_path / "mnist.npz", few)


def test_files_too_large_are_not_opened(tmp_path):
    with (tmp_path / "mnist.npz").open("wb") as file:
        file.truncate(arrays_module.MAX_BYTES + 1)  # sparse: takes no space
    assert "more than the" in refusal(tmp_path / "mnist.npz")


@pytest.fixture(scope="module", params=[np.savez, np.savez_compressed])
def valid(request, small) -> bytes:
    buffer = io.BytesIO()
    request.param(buffer, **small)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def right_or_refused(content: bytes, folder: Path, expected: dict[str, Any], same: Any) -> None:
    path = folder / "mnist.npz"
    path.write_bytes(content)
    try:
        arrays = read_npz(path, MNIST, "test")
    except DataError as err:
        assert str(path) in str(err)
    else:
        assert same(arrays, expected)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_changed_bytes_are_noticed(valid, folder, small, same, data):
    content = bytearray(valid)
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=3)):
        content[place] ^= data.draw(st.integers(1, 255))
    right_or_refused(bytes(content), folder, small, same)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_truncation_is_noticed(valid, folder, small, same, data):
    end = data.draw(st.integers(0, len(valid) - 1))
    right_or_refused(valid[:end], folder, small, same)
