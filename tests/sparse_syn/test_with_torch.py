"""The layers compiled, exported and in two processes give what they give by themselves."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import sparse_syn
from tests.sparse_syn.network import HALVES, batch, network, step

ROOT = Path(__file__).parents[2]
INDUCTOR = pytest.param(
    "inductor",
    marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
)


@pytest.mark.parametrize("backend", ["aot_eager", INDUCTOR])
def test_compiled(backend: str) -> None:
    """Outputs, weights and duty cycles of three steps, and a pass in evaluation."""
    x, y = batch()
    plain, twin = network(), network()
    compiled = torch.compile(twin, backend=backend)
    for _ in range(3):
        torch.testing.assert_close(step(compiled, x, y), step(plain, x, y))
    torch.testing.assert_close(twin.state_dict(), plain.state_dict())
    torch.testing.assert_close(compiled.eval()(x), plain.eval()(x))


def from_folder(name: str) -> ModuleType:
    """The folder of the layers as a module of this name, as in a project that has copied it."""
    folder = Path(sparse_syn.__file__).parent
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_a_copy_under_another_name_leaves_the_first_alone() -> None:
    """What torch registers under a name for the whole process, too."""
    x = torch.randn(4, 6)
    layer = sparse_syn.KWinners(6, 0.5)
    torch.compile(layer, backend="eager")(x)
    other = from_folder("a_copy").KWinners(6, 0.5)
    assert not isinstance(other, sparse_syn.KWinners)
    torch._dynamo.reset()
    for one in (layer, other):
        plain = copy.deepcopy(one)
        assert torch.equal(torch.compile(one, backend="eager")(x), plain(x))
        assert torch.equal(one.duty_cycle, plain.duty_cycle)


@pytest.mark.parametrize("training", [True, False])
def test_exported(training: bool) -> None:
    """For batches of any length, and with what training changes."""
    x, y = batch()
    plain = network()
    step(plain, x, y)
    plain.train(training)
    shapes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(copy.deepcopy(plain), (x,), dynamic_shapes=shapes).module()
    for part in (x, x[:5]):
        assert torch.equal(exported(part), plain(part))
    for name, buffer in plain.named_buffers():
        assert torch.equal(exported.get_buffer(name), buffer), name


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What two processes leave of DistributedDataParallel: '0.step', '1.eval' and the like."""
    folder = tmp_path_factory.mktemp("parallel")
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.sparse_syn.network"]
    two = [
        subprocess.Popen([*words, str(rank), str(folder)], cwd=ROOT, env=environ) for rank in (0, 1)
    ]
    assert [process.wait() for process in two] == [0, 0]
    return {path.stem: torch.load(path) for path in folder.glob("*.pt")}


def parameters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[name] for name, _ in network().named_parameters()}


def test_two_processes_learn_what_one_does(states: dict[str, dict[str, Tensor]]) -> None:
    whole = network()
    step(whole, *batch())
    first = parameters(states["0.step"])
    assert all(map(torch.equal, first.values(), parameters(states["1.step"]).values()))
    torch.testing.assert_close(first, parameters(whole.state_dict()))
    for layer in ("0", "3"):
        assert not first[f"{layer}.module.weight"][states["0.step"][f"{layer}.zero_mask"]].any()


def test_duty_cycles_are_those_of_the_first_process(states: dict[str, dict[str, Tensor]]) -> None:
    """Each counts its own half; before the next pass all take what the first has counted."""
    x, y = batch()
    for rank, half in enumerate(HALVES):
        alone: nn.Module = network()
        step(alone, x[half], y[half])
        for name, buffer in alone.named_buffers():
            assert torch.equal(states[f"{rank}.step"][name], buffer), name
            assert torch.equal(states[f"{rank}.eval"][name], states["0.step"][name]), name
