"""Files of weights: what is written is read, and whatever else there is gets one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from exps.config import Experiment, as_dict, as_text
from utils.results import weights
from utils.results.about import ENTRY, About, KeptTask, WeightsError, beside

TENSORS = {"network.a": torch.randn(3, 2), "stream.targets": torch.zeros(1, 3, dtype=torch.int64)}


def about(**changes: Any) -> About:
    exp = Experiment(name="A", num_batch=1)
    config = {name: as_text(value) for name, value in as_dict(exp).items()}
    return replace(
        About(
            format=1,
            config=config,
            input_shape=[1, 2, 2],
            head_sizes=[3],
            mean=[0.0],
            std=[1.0],
            tasks=[KeptTask("one", 0, 0, None, None)],
            classes=[],
            trained=1,
            accs=[[0.5]],
            untrained=[None],
            memory={},
            made={"run": "A"},
        ),
        **changes,
    )


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(tree=st.dictionaries(st.text(min_size=1), TREES, max_size=3))
@settings(max_examples=50)
def test_what_methods_remember_comes_back(tree: dict[str, Any]) -> None:
    """Every tree of plain values, with tensors in any place: here all whole numbers."""

    def changed(value: Any, change: Callable[[int], Any]) -> Any:
        if isinstance(value, dict):
            return {key: changed(its, change) for key, its in value.items()}
        if isinstance(value, list):
            return [changed(its, change) for its in value]
        return change(value) if type(value) is int else value

    tensors: dict[str, Tensor] = {}
    told = weights.flat(changed(tree, torch.tensor), "methods.m", tensors)
    told = json.loads(json.dumps(told))
    found = weights.Kept(Path("x"), about(memory={"m": told}), tensors).memory["m"]

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(its) for key, its in value.items()}
        if isinstance(value, list):
            return [plain(its) for its in value]
        return value.item() if isinstance(value, Tensor) else value

    assert plain(found) == tree


def test_it_comes_back(tmp_path: Path) -> None:
    """In every type that there is; nothing else is left in the folder."""
    kinds = (torch.float32, torch.bfloat16, torch.float64, torch.int16, torch.uint8, torch.bool)
    tensors = {f"network.{kind}": torch.ones(3, 4).t().to(kind) for kind in kinds}
    path = weights.save(tmp_path / "a.safetensors", about(), tensors)
    found = weights.read(path)
    assert found.about == about() and found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype and torch.equal(
            found.tensors[name], tensor
        )
    assert [its.name for its in tmp_path.iterdir()] == ["a.safetensors"]
    again = weights.save(tmp_path / "b.safetensors", about(), tensors)
    assert again.read_bytes() == path.read_bytes()


def test_which_file_a_result_has(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="keep_weights=final"):
        beside(tmp_path / "R.pkl")
    for name in ("R.task9", "R.task10", "R.task010x", "Other.task11"):
        (tmp_path / f"{name}.safetensors").touch()
    assert beside(tmp_path / "R.pkl").name == "R.task10.safetensors"
    (tmp_path / "R.safetensors").touch()
    assert beside(tmp_path / "R.pkl").name == "R.safetensors"
    assert beside(tmp_path / "R.task9.safetensors").name == "R.task9.safetensors"


def write(path: Path, changes: dict[str, Any] | str | None) -> None:
    """A file with other metadata than there have to be; None: without any."""
    text = changes if isinstance(changes, str) else json.dumps(asdict(about()) | (changes or {}))
    save_file(TENSORS, path, None if changes is None else {ENTRY: text})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (None, "another program has made it"),
        ("", "no JSON"),
        ("[" * 100_000, "cannot be used"),
        ("3", "its metadata is 3, no About"),
        ({"format": 2}, "its format is 2, not 1"),
        ({"more": 1}, "lack or add ['more']"),
        ({"config": {"lr": 3}}, "metadata.config.lr is 3, no str"),
        ({"config": []}, "metadata.config is [], no dict"),
        ({"input_shape": [1, 2]}, "pictures of the shape"),
        ({"input_shape": [1, 2, 10**9]}, "pictures of the shape"),
        ({"input_shape": [1, True, 2]}, "is True, no int"),
        ({"head_sizes": []}, "heads of"),
        ({"head_sizes": [10**9]}, "heads of"),
        ({"head_sizes": [-1]}, "heads of"),
        ({"mean": [0.0, 0.0]}, "mean and std"),
        ({"mean": [float("nan")]}, "mean and std"),
        ({"std": [0.0]}, "not above zero"),
        ({"tasks": []}, "0 tasks trained"),
        ({"trained": 2}, "2 of 1 tasks trained"),
        ({"tasks": [asdict(KeptTask("x", 0, 1, None, None))]}, "task 'x' has a head"),
        ({"tasks": [asdict(KeptTask("x", 0, -1, None, None))]}, "task 'x' has a head"),
        ({"tasks": [asdict(KeptTask("x", 1, 0, None, None))]}, "task 'x' has a view"),
        ({"tasks": [asdict(KeptTask("x", 0, 0, [3], None))]}, "task 'x' has a head"),
        ({"tasks": [asdict(KeptTask("x", 0, 0, None, 4))]}, "task 'x' has a head"),
        ({"tasks": [{"name": "x"}]}, "lack or add"),
    ],
)
def test_metadata_that_are_none(tmp_path: Path, changes: Any, told: str) -> None:
    write(tmp_path / "x.safetensors", changes)
    with pytest.raises(WeightsError) as error:
        weights.read(tmp_path / "x.safetensors")
    assert told in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut off anywhere, or with any byte of its header changed: one line, or it is as it was."""
    folder = tmp_path_factory.mktemp("damaged")
    whole = weights.save(folder / "whole.safetensors", about(), TENSORS).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    path = folder / "x.safetensors"
    if data.draw(st.booleans()):
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        at = data.draw(st.integers(0, 8 + length - 1))
        path.write_bytes(whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
    try:
        weights.read(path)
    except WeightsError as error:
        assert "\n" not in str(error) and "x.safetensors: these weights cannot be" in str(error)


def test_what_is_no_file(tmp_path: Path) -> None:
    large = tmp_path / "large.safetensors"
    with large.open("wb") as file:
        file.write((2**28).to_bytes(8, "little"))
        file.truncate(2**29)
    (tmp_path / "folder.safetensors").mkdir()
    for name, why in (
        ("large", "header is larger than 16 MiB"),
        ("folder", "it is a folder"),
        ("missing", "there is no such file"),
    ):
        with pytest.raises(WeightsError, match=why):
            weights.read(tmp_path / f"{name}.safetensors")
