"""What is fuzzed: each target takes any bytes, and raises only when something is wrong with us."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from benchmarks.datasets import DATASETS
from benchmarks.formats import DataError
from benchmarks.npz import read_npz
from benchmarks.torchvision_copy import read_copy
from exps import config
from exps.config import ConfigError
from exps.manual import all_keys
from utils.results.files import ResultsError, load_results
from utils.runs import checkpoint_file
from utils.runs.checkpoint_file import CheckpointError

_SCRATCH = tempfile.TemporaryDirectory(prefix="fuzz-")  # gone with the process
_FOLDER = Path(_SCRATCH.name)
_FILE = _FOLDER / "input"
IDX = DATASETS["mnist"].train + DATASETS["mnist"].test
SMALL_MNIST = {"x_train": (3, 2, 2), "y_train": (3,), "x_test": (2, 2, 2), "y_test": (2,)}


def configuration(data: bytes) -> None:
    """Any configuration file: every section of it, and the checks of all."""
    path = _file(data)
    try:
        names = list(config.sections(path))
    except ConfigError as error:
        return _one_line(error)
    for problem in config.check(path)[0]:
        _one_line(problem)
    for name in names[:20]:
        try:
            exp, _ = config.load(name, path)
            texts = {k: config.as_text(v) for k, v in config.as_dict(exp).items() if k != "name"}
            assert config.from_texts(name, texts) == exp
        except ConfigError as error:
            _one_line(error)
    return None


def override(data: bytes) -> None:
    """Any --set arguments."""
    given = data.decode("utf-8", "surrogateescape").split("\n")[:20]
    try:
        config.load("DEFAULT", overrides=given)
    except ConfigError as error:
        _one_line(error)


def result(data: bytes) -> None:
    """Any result file."""
    try:
        load_results(_file(data))
    except ResultsError as error:
        _one_line(error)


def checkpoint(data: bytes) -> None:
    """Any checkpoint, as it is and with sums that are right."""
    for contents in (data, sealed(data)):
        try:
            checkpoint_file.read(_file(contents), len(contents))
        except CheckpointError as error:
            _one_line(error)


def npz(data: bytes) -> None:
    """Any npz file."""
    try:
        read_npz(_file(data), DATASETS["mnist"], "fuzz")
    except DataError as error:
        for line in str(error).split("\n"):
            _one_line(line)


def copy(data: bytes) -> None:
    """Any file among MNIST's, and any archive of CIFAR-10; packed as well."""
    for contents in (data, gzip.compress(data)):
        for name, dataset in ((IDX[0], DATASETS["mnist"]), ("cifar.tar", DATASETS["cifar10"])):
            folder = _FOLDER / "copy"
            folder.mkdir(exist_ok=True)
            for file in IDX:
                (folder / file).write_bytes(_idx((3, 2, 2) if "images" in file else (3,)))
            (folder / name).write_bytes(contents)
            try:
                read_copy(folder if name in IDX else folder / name, dataset, "fuzz")
            except DataError as error:
                for line in str(error).split("\n"):
                    _one_line(line)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "configuration": configuration,
    "override": override,
    "result": result,
    "checkpoint": checkpoint,
    "npz": npz,
    "copy": copy,
}


def seeds(name: str) -> list[bytes]:
    """Sound inputs to begin with."""
    return {
        "configuration": [
            config.DEFAULT_FILE.read_bytes()[:6000],
            b"[DEFAULT]\nlr = 0.1\n[A]\nlike = B\n[B]\nlike = C\nseed = 2\n[C]\n",
        ],
        "override": [
            f"{k}={config.as_text(key.default)}".encode() for k, key in all_keys().items()
        ],
        "result": _results(),
        "checkpoint": [json.dumps(h).encode() for h in _headers()] + [_checkpoint()],
        "npz": [_npz(0), _npz(ZIP_DEFLATED)],
        "copy": [_idx((3, 2, 2)), _tar()],
    }[name]


def sealed(header: bytes) -> bytes:
    """A checkpoint with this header whose sums are right."""
    digest = hashlib.sha256(header).digest()
    start = checkpoint_file.MAGIC + len(header).to_bytes(8, "little") + digest + header
    whole = start + bytes(-len(start) % 64 + 256)
    return whole + hashlib.sha256(whole).digest()


def _file(data: bytes) -> Path:
    _FILE.write_bytes(data)
    return _FILE


def _one_line(error: object) -> None:
    text = str(error)
    assert text, "an error without words"
    assert "\n" not in text, "an error of several lines"
    assert len(text) < 5000, "an endless error"


def _headers() -> list[dict[str, Any]]:
    array = {"dtype": "f4", "shape": [2, 3], "at": 0}
    tree = {"dict": {"a": {"array": 0}, "b": [1, 0.5, None, "x", True]}}
    return [{"facts": {"serial": 1}, "tree": tree, "arrays": [array]}]


def _checkpoint() -> bytes:
    path = _FOLDER / "seed.ckpt"
    checkpoint_file.write(path, {"a": 1}, {"x": np.arange(4), "y": [1.5, None]})
    return path.read_bytes()


def _results() -> list[bytes]:
    stats = {
        "accs": np.eye(2),
        "loss": [np.float64(1), 2.0],
        "on": np.arange(3),
        "meta": {"a": b"x"},
    }
    return [
        pickle.dumps([{"lr": 0.1, "order": (1, 0)}, stats], protocol) for protocol in (2, 3, 4, 5)
    ]


def _idx(shape: tuple[int, ...]) -> bytes:
    header = np.array([0x800 + len(shape), *shape], ">i4").tobytes()
    return header + bytes(int(np.prod(shape)))


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in DATASETS["cifar10"].train:
            info = tarfile.TarInfo(f"x/{name}")
            info.size = 100
            archive.addfile(info, io.BytesIO(bytes(100)))
    return out.getvalue()


def _npz(compression: int) -> bytes:
    out = io.BytesIO()
    with ZipFile(out, "w", compression) as archive:
        for key, shape in SMALL_MNIST.items():
            part = io.BytesIO()
            np.save(part, np.ones(shape, np.uint8))
            archive.writestr(f"{key}.npy", part.getvalue())
    return out.getvalue()
