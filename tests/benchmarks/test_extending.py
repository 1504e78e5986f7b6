"""docs/extending.md: its example of a benchmark, as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import arrays, datasets

DOC = Path(__file__).parents[2] / "docs" / "extending.md"


def idx(array: np.ndarray) -> bytes:
    """The form of MNIST's files."""
    header = np.array([8 * 256 + array.ndim, *array.shape], dtype=">i4")
    return bytes(header.tobytes() + array.tobytes())


def test_the_example_reads_torchvision_s_copy(
    small: dict[str, Any],
    make_exp: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    module, entry = (next(b for b in blocks if b.lstrip().startswith(start)) for start in (
        '"""Split Fashion', '"fashion": Dataset'))  # fmt: skip
    found = eval(f"{{{entry}}}", {"Dataset": arrays.Dataset})
    monkeypatch.setitem(datasets.DATASETS, "fashion", found["fashion"])
    raw = tmp_path / found["fashion"].folder
    raw.mkdir(parents=True)
    for part, name in (("train", "train"), ("test", "t10k")):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(small[f"x_{part}"]))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(small[f"y_{part}"]))
    names: dict[str, Any] = {}
    exec(module, names)
    exp = make_exp(benchmark="fashion", num_batch=5, scenario="task", data_dir=str(tmp_path))
    stream = names["make_stream"](exp)
    assert [len(task.train.rows) for task in stream.tasks] == [4] * 5
    assert stream.head_sizes == (2,) * 5 or list(stream.head_sizes) == [2] * 5
