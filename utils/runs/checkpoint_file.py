"""The file of a checkpoint: facts and arrays in a format that holds nothing that could be run.

    magic, length of the header (8 bytes, little-endian), SHA-256 of the header (32 bytes)
    the header: JSON with `facts`, the `tree` of plain values in which {"array": n} stands for
        array n, and dtype, shape and place of all `arrays`
    the arrays, each at a multiple of 64 bytes
    SHA-256 of everything before it (32 bytes)

Every length is compared with what is there before anything is allocated.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from utils.results.plain_data import NUMBERS
from utils.system.disk import sync_folder

MAGIC = b"sparse-syn checkpoint 1\n"
PREAMBLE = len(MAGIC) + 8 + 32
DIGEST = 32
ALIGN = 64
MAX_HEADER = 16 * 2**20
MAX_DEPTH = 32  # containers in containers
CHUNK = 2**20


class CheckpointError(Exception):
    """A checkpoint that cannot be read; the text says why, for after the name of the file."""


def write(path: Path, facts: dict[str, Any], tree: Any) -> int:
    """Write a checkpoint under this name, atomically; returns its size in bytes.

    facts: plain values for JSON; tree: dicts with text as keys, lists, plain values and arrays of
    numbers. It is written aside, synchronised, read back and compared, and only then given its
    name. Raises OSError, with nothing left behind, when that fails.
    """
    arrays: list[np.ndarray] = []
    skeleton = _pack(tree, arrays)
    layouts, offset = [], 0
    for array in arrays:
        code = f"{array.dtype.kind}{array.dtype.itemsize}"
        if code not in NUMBERS:
            raise TypeError(f"an array of {array.dtype} in a checkpoint")
        layouts.append({"dtype": code, "shape": list(array.shape), "at": offset})
        offset += _aligned(array.nbytes)
    header = json.dumps({"facts": facts, "tree": skeleton, "arrays": layouts}).encode()
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb+", buffering=0) as file:  # a buffer costs more than the rest
            digest = hashlib.sha256()
            for piece in _pieces(_contents(header, arrays)):
                digest.update(piece)
                _write_all(file, piece)
            _write_all(file, memoryview(digest.digest()))
            os.fsync(file.fileno())
            size = file.tell()
            _compare(file, _pieces((*_contents(header, arrays), digest.digest())))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return size


def read_facts(path: Path) -> dict[str, Any]:
    """The facts alone, without reading the arrays. Raises CheckpointError."""
    with _opened(path) as file:
        facts: dict[str, Any] = _header(file)["facts"]
        return facts


def read(path: Path, limit: int) -> tuple[dict[str, Any], Any]:
    """The facts and the tree. Raises CheckpointError for a file that is not sound.

    limit: bytes that an honest file can have; a larger one is not read.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise CheckpointError(
                f"{size:,} bytes, more than the {limit:,} that this run's can have"
            )
        if size < PREAMBLE + DIGEST:
            raise CheckpointError("cut off")
        data = np.empty(size, np.uint8)
        if file.readinto(data.data) != size:  # type: ignore[attr-defined]
            raise CheckpointError("cut off while it was read")
        digest = hashlib.sha256(data.data[:-DIGEST]).digest()
        if data[-DIGEST:].tobytes() != digest:
            raise CheckpointError("damaged: its SHA-256 sum is wrong")
        start = io.BytesIO(data.data[: PREAMBLE + MAX_HEADER])
        header = _header(start)
        arrays = [_array(data, entry, _aligned(start.tell())) for entry in header["arrays"]]
        return header["facts"], _unpack(header["tree"], arrays, MAX_DEPTH)


def _header(file: BinaryIO) -> dict[str, Any]:
    preamble = file.read(PREAMBLE)
    if preamble[: len(MAGIC)] != MAGIC:
        raise CheckpointError("not a checkpoint of this program")
    length = int.from_bytes(preamble[len(MAGIC) : len(MAGIC) + 8], "little")
    if length > MAX_HEADER:
        raise CheckpointError("damaged: its header has an impossible length")
    raw = file.read(length)
    if hashlib.sha256(raw).digest() != preamble[-32:]:
        raise CheckpointError("damaged: the SHA-256 sum of its header is wrong")
    header = json.loads(raw)
    if type(header) is not dict or set(header) != {"facts", "tree", "arrays"}:
        raise CheckpointError("damaged: its header has other parts than a checkpoint's")
    if type(header["facts"]) is not dict:
        raise CheckpointError("damaged: it has no facts")
    return header


def _array(data: np.ndarray, entry: dict[str, Any], first: int) -> np.ndarray:
    """The array that an entry of the header describes: a view of the data, nothing is copied."""
    code, shape, at = entry["dtype"], entry["shape"], entry["at"]
    if code not in NUMBERS or type(shape) is not list or len(shape) > MAX_DEPTH:
        raise CheckpointError("damaged: an array of something other than numbers")
    if not all(type(n) is int and 0 <= n < 2**48 for n in [*shape, at]):
        raise CheckpointError("damaged: an array with an impossible shape")
    dtype = np.dtype("<" + code)
    start, count = first + at, math.prod(shape)
    if start % ALIGN or start + count * dtype.itemsize > len(data) - DIGEST:
        raise CheckpointError("damaged: an array that lies outside of it")
    return np.frombuffer(data, dtype, count, start).reshape(shape)


def _pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """The value with {"array": n} in place of its arrays, which are added to the list."""
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value).reshape(value.shape))
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {"dict": {key: _pack(item, arrays) for key, item in value.items()}}
    if isinstance(value, list):
        return [_pack(item, arrays) for item in value]
    return value


def _unpack(value: Any, arrays: list[np.ndarray], levels: int) -> Any:
    if levels == 0:
        raise CheckpointError(f"damaged: nested more than {MAX_DEPTH} levels deep")
    if type(value) is list:
        return [_unpack(item, arrays, levels - 1) for item in value]
    if type(value) is not dict:
        return value
    ((kind, content),) = value.items()
    if kind == "array" and type(content) is int and content >= 0:
        return arrays[content]
    if kind == "dict" and type(content) is dict:
        return {key: _unpack(item, arrays, levels - 1) for key, item in content.items()}
    raise CheckpointError("damaged: something other than plain values and arrays")


def _contents(header: bytes, arrays: list[np.ndarray]) -> Iterator[bytes | memoryview]:
    yield MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest()
    yield header
    yield bytes(_aligned(PREAMBLE + len(header)) - PREAMBLE - len(header))
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        if little.size:
            yield little.reshape(-1).view(np.uint8).data
        yield bytes(_aligned(little.nbytes) - little.nbytes)


def _pieces(parts: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """The same bytes, at most CHUNK at a time."""
    for part in parts:
        whole = memoryview(part)
        for start in range(0, len(whole), CHUNK):
            yield whole[start : start + CHUNK]


def _write_all(file: io.FileIO, piece: memoryview) -> None:
    while piece:
        piece = piece[file.write(piece) :]


def _compare(file: io.FileIO, pieces: Iterable[memoryview]) -> None:
    """Read the file again; raises OSError unless it holds these."""
    file.seek(0)
    room = np.empty(CHUNK, np.uint8)
    for piece in pieces:
        found, filled = room[: len(piece)], 0
        while count := file.readinto(found[filled:].data):  # 0: all of it is there, or no more
            filled += count
        if filled < len(piece) or not np.array_equal(found, np.frombuffer(piece, np.uint8)):
            raise OSError(errno.EIO, "what was written reads otherwise")


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file for reading, and every way in which that fails as a CheckpointError; a pipe or a
    device is refused without waiting for it."""
    try:
        if not path.is_file():
            raise CheckpointError("it is not a file" if path.exists() else "there is no such file")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise CheckpointError(f"it cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"damaged ({type(error).__name__}: {error})"[:200]) from error
    except MemoryError as error:
        raise CheckpointError("it needs more memory than there is") from error
