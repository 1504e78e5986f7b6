"""Small data sets and experiments for the tests of benchmarks/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from benchmarks.formats import Arrays
from exps.experiment import Experiment


def _arrays(
    *, channels: int = 1, classes: int = 10, train: int = 20, test: int = 10
) -> dict[str, Any]:
    rng = np.random.default_rng(train)
    side = (4, 4) if channels == 1 else (32, 32, 3)

    def part(n: int) -> tuple[Any, Any]:
        pictures = rng.integers(0, 256, (n, *side), dtype=np.uint8)
        return pictures, (np.arange(n) % classes).astype(np.uint8)

    (x_train, y_train), (x_test, y_test) = part(train), part(test)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder: there is nothing in its `data`."""
    monkeypatch.chdir(tmp_path_factory.mktemp("work"))


@pytest.fixture
def make_arrays() -> Callable[..., dict[str, Any]]:
    """The four arrays of a small data set: 4 x 4 grey or 32 x 32 colour pictures."""
    return _arrays


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """The four arrays of a data set that passes for MNIST: 20 and 10 pictures of 4 x 4."""
    return _arrays()


@pytest.fixture
def make_exp() -> Callable[..., Any]:
    """An experiment without data of its own; the arguments replace the defaults."""

    def make(**changes: Any) -> Experiment:
        return Experiment(**{"name": "Test", "num_batch": 3} | changes)

    return make


@pytest.fixture(scope="session")
def same() -> Callable[[Arrays, dict[str, Any]], bool]:
    """Whether loaded arrays are those of the dict, in type too."""

    def compare(arrays: Arrays, expected: dict[str, Any]) -> bool:
        return all(
            getattr(arrays, key).dtype == np.uint8 and np.array_equal(getattr(arrays, key), value)
            for key, value in expected.items()
        )

    return compare


@pytest.fixture
def server(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Path]]:
    """A web server on this machine: its address, and the folder that it serves."""
    folder = tmp_path_factory.mktemp("served")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
