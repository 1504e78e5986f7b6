"""The checkpoint's file: what is written comes back, and nothing else is taken for it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.runs import checkpoint_file
from utils.runs.checkpoint_file import MAGIC, CheckpointError, read, read_facts, write

FACTS = {"progress": "task 1/5", "share": 0.25}
TREE = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "list": [np.array(True), {"scale": 0.1, "none": None, "nan": float("inf")}, "text"],
    "empty": np.zeros((0, 3)),
    "transposed": np.arange(6).reshape(2, 3).T,
    "array": {"array": 5},
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def loads(data: bytes) -> tuple[dict[str, Any], Any]:
    """What is read of a file with these contents."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return read(Path(file.name), len(data))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("x") / "x.ckpt"
    assert write(path, FACTS, TREE) == path.stat().st_size
    assert os.listdir(path.parent) == [path.name]
    return path.read_bytes()


def test_it_comes_back(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(contents)
    facts, tree = read(path, 10_000)
    assert facts == read_facts(path) == FACTS
    assert same(TREE, tree)


def test_cut_off_at_every_byte(contents: bytes) -> None:
    for end in range(len(contents)):
        with pytest.raises(CheckpointError):
            loads(contents[:end])


def test_a_flipped_bit_in_every_byte(contents: bytes) -> None:
    for place in range(len(contents)):
        for bit in (0, 7):
            damaged = bytearray(contents)
            damaged[place] ^= 1 << bit
            with pytest.raises(CheckpointError):
                loads(bytes(damaged))


def test_bytes_behind_it(contents: bytes) -> None:
    with pytest.raises(CheckpointError, match="SHA-256"):
        loads(contents + b"\0")


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for text in (data, MAGIC + data):
        with pytest.raises(CheckpointError):
            loads(text)


def sealed(header: Any, payload: bytes = bytes(64)) -> bytes:
    """A file with this header whose sums are right: by somebody who means harm."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    start = MAGIC + len(raw).to_bytes(8, "little") + hashlib.sha256(raw).digest() + raw
    whole = start + bytes(-len(start) % 64) + payload
    return whole + hashlib.sha256(whole).digest()


def one_array(**changes: Any) -> dict[str, Any]:
    layout = {"dtype": "f4", "shape": [2], "at": 0} | changes
    return {"facts": {}, "tree": {"array": 0}, "arrays": [layout]}


def test_a_sealed_file_is_read() -> None:
    assert loads(sealed(one_array()))[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    "header",
    [
        one_array(shape=[17]),
        one_array(shape=[2**40, 2**40]),
        one_array(shape=[-1]),
        one_array(shape=[2.0]),
        one_array(shape=[True]),
        one_array(shape="2"),
        one_array(shape=[1] * 40),
        one_array(at=64),
        one_array(at=-64),
        one_array(at=1),
        one_array(at=2**70),
        one_array(dtype="O"),
        one_array(dtype="O8"),
        one_array(dtype="V8"),
        one_array(dtype=["f4"]),
        {"facts": {}, "tree": {"array": 1}, "arrays": []},
        {"facts": {}, "tree": {"array": -1}, "arrays": []},
        {"facts": {}, "tree": {"call": "os.system"}, "arrays": []},
        {"facts": {}, "tree": {}, "arrays": []},
        {"facts": {}, "tree": None, "arrays": 5},
        {"facts": {}, "tree": None, "arrays": [5]},
        {"facts": [], "tree": None, "arrays": []},
        {"facts": {}},
        [],
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"1" * 10_000,
        json.dumps({"facts": {}, "tree": None, "arrays": []})
        .encode()
        .replace(b"null", b"[" * 500 + b"]" * 500),
    ],
    ids=lambda header: str(header)[:50],
)
def test_lies(header: Any) -> None:
    with pytest.raises(CheckpointError):
        loads(sealed(header))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["array", "dict", "facts", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
LAYOUT = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["f4", "i8", "b1", "O8", ""]),
        "shape": st.lists(st.integers(-2, 2**50), max_size=3) | JSON,
        "at": st.sampled_from([0, 64, 128, -64]) | JSON,
    }
)


@given(st.dictionaries(st.text(max_size=2), JSON, max_size=2), JSON, st.lists(LAYOUT, max_size=3))
def test_any_header(facts: Any, tree: Any, arrays: Any) -> None:
    """Sound sums around anything: it is read or refused, and never anything else."""
    try:
        loads(sealed({"facts": facts, "tree": tree, "arrays": arrays}))
    except CheckpointError as error:
        assert str(error)


def test_larger_than_it_can_be(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(contents)
    os.truncate(path, 2**40)  # takes no room on the disk
    with pytest.raises(CheckpointError, match=r"bytes, more than the 10,000"):
        read(path, 10_000)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: None])
def test_no_file(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"not a file|no such file"):
        read(tmp_path / "x.ckpt", 1000)


def test_what_has_no_place_in_it(tmp_path: Path) -> None:
    for tree in ({"x": np.array([object()])}, {"x": {1, 2}}):
        with pytest.raises(TypeError):
            write(tmp_path / "x.ckpt", FACTS, tree)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads otherwise than it was written never gets the name."""
    path = tmp_path / "x.ckpt"
    write(path, FACTS, TREE)
    before = path.read_bytes()

    def forget(handle: int) -> None:
        os.pwrite(handle, b"x", 400)

    monkeypatch.setattr(os, "fsync", forget)
    with pytest.raises(OSError, match="reads otherwise"):
        write(path, FACTS, {"more": np.ones(1000)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_an_error_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.ckpt"
    write(path, FACTS, TREE)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, {}, {})
    assert read(path, 10_000)[0] == FACTS
    assert os.listdir(tmp_path) == [path.name]
