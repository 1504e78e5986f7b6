"""Data of a user's own: what is read, and what is refused in one line that says why."""

from __future__ import annotations

import io
import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import own_file
from benchmarks.formats import DataError
from benchmarks.own_file import Where, digest, look, read

DRAW = np.random.default_rng(0)
X = DRAW.integers(0, 256, (12, 4, 5), dtype=np.uint8)
Y = np.array([7, 7, 7, -2, -2, -2, 30, 30, 30, 7, -2, 30])


def where(path: Path, share: float = 0.25, size: int = 0) -> Where:
    return Where(path, share, size)


def four(**changes: Any) -> dict[str, Any]:
    """Sound arrays, some of them changed, or left out where None."""
    arrays = {"x_train": X, "y_train": Y, "x_test": X[:6], "y_test": Y[:6]} | changes
    return {key: array for key, array in arrays.items() if array is not None}


def saved(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def refusal(path: Path, **changes: Any) -> str:
    """Why data are refused: three lines, of which the first names the file."""
    with pytest.raises(DataError) as caught:
        read(where(path, **changes))
    what, why, remedy = str(caught.value).split("\n")
    assert what == f"{path} cannot be used" and "docs/data.md" in remedy
    return why.removeprefix("  why: ")


def test_pictures_and_whole_numbers(tmp_path: Path) -> None:
    """Labels are numbered in their order, whatever they are."""
    arrays, known = read(where(saved(tmp_path, **four())))
    assert known.labels == ("-2", "7", "30") and not known.alone
    assert known.picture == (1, 4, 5) and known.pictures == 12 and not known.floats
    assert np.array_equal(arrays.x_train, X) and arrays.x_train.dtype == np.uint8
    assert arrays.y_train.tolist() == [1, 1, 1, 0, 0, 0, 2, 2, 2, 1, 0, 2]
    assert arrays.y_test.tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("labels", [Y.astype("U"), Y.astype("S"), Y.astype(np.int8)])
def test_texts_are_labels_too(tmp_path: Path, labels: Any) -> None:
    arrays, known = read(where(saved(tmp_path, **four(y_train=labels, y_test=labels[:6]))))
    assert sorted(known.labels) == ["-2", "30", "7"]
    assert [known.labels[y] for y in arrays.y_train] == [str(y) for y in Y]


@pytest.mark.parametrize(
    ("x", "picture", "features"),
    [
        (X / 17.0, (1, 4, 5), False),
        (X[..., np.newaxis].astype(np.float16), (1, 4, 5), False),
        (np.stack([X, X, X], -1).astype(">f4"), (3, 4, 5), False),
        (X.reshape(12, 20).astype(np.float32), (1, 1, 20), True),
        (X.reshape(12, 20), (1, 1, 20), True),
        (np.asfortranarray(X.reshape(12, 20) / 9.0), (1, 1, 20), True),
    ],
)
def test_floats_and_features_are_float32(
    tmp_path: Path, x: Any, picture: tuple[int, ...], features: bool
) -> None:
    arrays, known = read(where(saved(tmp_path, **four(x_train=x, x_test=x[:6]))))
    assert (known.picture, known.features, known.floats) == (picture, features, True)
    assert arrays.x_train.dtype == np.float32
    assert np.array_equal(arrays.x_train, x.astype(np.float32))


def test_channels_may_be_one_to_four(tmp_path: Path) -> None:
    for channels in (1, 2, 3, 4):
        x = np.stack([X] * channels, -1)
        known = look(where(saved(tmp_path, **four(x_train=x, x_test=x[:6]))))
        assert known.picture == (channels, 4, 5)


@given(
    st.lists(st.integers(2, 30), min_size=2, max_size=6),
    st.floats(0.01, 0.99),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40)
def test_what_is_tested_on_is_a_share_of_every_class(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], share: float, random: Any
) -> None:
    """At least one picture goes each way, every picture once, and always the same ones."""
    y = np.repeat(np.arange(len(counts)) * 3, counts)
    random.shuffle(y)
    x = np.arange(len(y) * 2, dtype=np.float32).reshape(-1, 2)
    path = saved(tmp_path_factory.mktemp("own"), x=x, y=y)
    arrays, known = read(where(path, share))
    assert known.alone and known.pictures == len(arrays.y_train)
    both = np.concatenate([arrays.x_train, arrays.x_test])
    assert np.array_equal(both[both[:, 0].argsort()], x)
    for label, count in enumerate(counts):
        tested = int((arrays.y_test == label).sum())
        assert tested == min(max(round(count * share), 1), count - 1)
    for part_x, part_y in ((arrays.x_train, arrays.y_train), (arrays.x_test, arrays.y_test)):
        assert np.array_equal(part_y * 3, y[(part_x[:, 0] / 2).astype(int)])
    assert digest(where(path, share)) == digest(where(path, share))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"x_test": None}, "no x_test in it (found x_train, y_train, y_test), expected"),
        ({"y_train": Y[:5]}, "x_train has 12 pictures, but y_train has 5 labels"),
        ({"x_train": X.astype(np.int64)}, "x_train is of type int64: pictures are uint8"),
        ({"x_train": X > 3}, "x_train is of type bool"),
        ({"x_train": X.astype(complex)}, "x_train is of type complex128"),
        ({"x_train": X.astype(np.longdouble)}, "x_train is of type"),
        ({"x_train": np.moveaxis(np.stack([X] * 3, -1), -1, 1)}, "are these channels first?"),
        ({"x_train": np.zeros((12, 9, 9, 7), np.uint8)}, "with 7 channels, which come last"),
        ({"x_train": X.ravel()[:12]}, "x_train has shape (12,), not (n, height, width)"),
        ({"x_train": X[None]}, "x_train has shape (1, 12, 4, 5), with 5 channels"),
        ({"x_train": X[..., None, None]}, "x_train has shape (12, 4, 5, 1, 1), not"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "x_train is empty"),
        (
            {"x_test": X[:6, :3]},
            "the pictures of x_train are (4, 5), uint8; those of x_test (3, 5)",
        ),
        ({"x_test": X[:6] / 2}, "those of x_test (4, 5), float64"),
        ({"y_train": Y / 1.0}, "y_train is of type float64: labels are whole numbers or texts"),
        ({"y_train": np.eye(12, dtype=int)}, "y_train has shape (12, 12), not (n)"),
        ({"y_train": Y[:, None]}, "y_train has shape (12, 1), not (n)"),
        ({"y_train": Y.astype("datetime64[s]")}, "y_train is of type datetime64[s]"),
        ({"y_train": Y * 0, "y_test": Y[:6] * 0}, "there is 1 class in it, 0 the first"),
        ({"y_test": Y[:6] + 1}, "pictures to test, and none to train on, of -1, 8"),
        ({"y_test": Y[:6].astype("U")}, "the labels of one part are numbers, those of the other"),
        ({"y_train": np.full(12, b"\xff")}, "'utf-8' codec can't decode"),
        ({"x_train": X[:1].repeat(12, 0)}, "all pictures of x_train are the same"),
        ({"x": X}, "it has x and x_train: leave one of them out"),
    ],
)
def test_arrays_that_are_wrong(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    assert why in refusal(saved(tmp_path, **four(**changes)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_numbers_that_are_none(tmp_path: Path, bad: float) -> None:
    x = X.astype(np.float64)
    x[7, 2, 1] = bad
    why = refusal(saved(tmp_path, **four(x_train=x, x_test=X[:6] / 1.0)))
    assert why == "x_train[7] holds nan, infinity or a number too large for float32"


def test_one_picture_of_a_class(tmp_path: Path) -> None:
    why = refusal(saved(tmp_path, x=X, y=np.array([3] * 11 + [4])))
    assert why.startswith("there is one picture alone of class 4, and it takes two")
    assert refusal(saved(tmp_path, x=X)).startswith("no y in it (found x), expected")


class Hostile:
    """Would make a file where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("gotcha",)


@pytest.mark.parametrize("key", ["x_train", "y_train"])
def test_nothing_is_unpickled(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = np.array([Hostile()] * 12, dtype=object)
    with (tmp_path / "h.npy").open("wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=True)
    path = saved(tmp_path, **four(**{key: None}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tmp_path / "h.npy", f"{key}.npy")
    refusal(path)
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Hostile()))
    assert "it is no npz file" in refusal(tmp_path / "p.npz")
    assert not (tmp_path / "gotcha").exists()


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"shape": shape, "fortran_order": False, "descr": dtype}
    )
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (header((12, 10**9, 10**9)), "x_train has not the size that its header gives"),
        (header((12, -4, 5)) + X.tobytes(), "x_train has a negative size in its shape"),
        (header((12, 4, 5)) + X.tobytes()[:-1], "x_train has not the size"),
        (b"\x93NUMPY\x03\x00", "npy version"),
        (b"nothing", ""),
        (b"", ""),
    ],
)
def test_headers_that_lie(tmp_path: Path, content: bytes, why: str) -> None:
    path = saved(tmp_path, **four(x_train=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", content)
    assert why in refusal(path)


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would take far more room than its file is refused by its header."""
    monkeypatch.setattr(own_file, "MAX_BYTES", 10**6)
    x = np.zeros((4000, 30, 30), np.uint8)
    y = np.arange(4000) % 10
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=x, y=y)
    monkeypatch.setattr("benchmarks.npz.array", lambda *_: pytest.fail("it was read"))
    assert "more than the" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.csv").write_bytes(content)
    assert "it is no npz file" in refusal(tmp_path / "mine.csv")
    assert refusal(tmp_path / "absent.npz") == "the file is missing"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "this is not a file"


def test_a_file_that_has_changed_is_looked_at_anew(tmp_path: Path) -> None:
    path = saved(tmp_path, **four())
    before, first = look(where(path)), digest(where(path))
    assert look(where(path)) is before
    time.sleep(0.01)
    saved(tmp_path, **four(x_train=X[::-1]))
    assert digest(where(path)) != first
    saved(tmp_path, x=X, y=Y)
    assert look(where(path)).alone


@given(st.data())
@settings(max_examples=60)
def test_damage_is_told_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any bytes changed, or cut off, give one refusal, or the arrays as they were."""
    path = saved(tmp_path_factory.mktemp("own"), **four())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        arrays, _ = read(where(path))
    except DataError as error:
        assert len(str(error).split("\n")) == 3
    else:
        assert np.array_equal(arrays.x_train, X) and len(arrays.y_train) == len(Y)
