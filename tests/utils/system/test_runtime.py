"""Devices, seeds, and the facts that go into a result."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import exps
from utils.results.plain_data import plain
from utils.system import commit, runtime
from utils.system.runtime import (
    DeviceError,
    data_device,
    facts,
    pick_device,
    seed_everything,
)
from utils.system.surroundings import SPINS, prepare

ROOT = Path(runtime.__file__).parents[2]

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many CUDA devices there seem to be."""

    def there_are(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return there_are


def test_auto_takes_a_gpu_where_there_is_one(gpus: Any) -> None:
    gpus(0)
    assert pick_device("auto") == CPU
    gpus(1)
    assert pick_device("auto") == torch.device("cuda:0")


def test_what_is_asked_for_is_taken(gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where there are several it is the current one, on which Triton's kernels run."""
    gpus(2)
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert pick_device("cpu") == CPU
    # torch holds `cuda` and `cuda:0` for two devices, so that tensors would seem to be elsewhere.
    assert pick_device("cuda") == torch.device("cuda:0")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert current == [torch.device("cuda:0"), torch.device("cuda:1")]


@pytest.mark.parametrize(
    ("there", "wanted"), [(0, "cuda"), (0, "cuda:0"), (1, "cuda:1"), (2, "cuda:7")]
)
def test_a_gpu_that_is_not_there(gpus: Any, there: int, wanted: str) -> None:
    gpus(there)
    with pytest.raises(DeviceError, match=f"(?s)device = {wanted} .* {there} CUDA .*choose device"):
        pick_device(wanted)


def test_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"(?s)device = mps is not there.*no MPS device"):
        pick_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps").type == "mps"


def test_pictures_go_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 8000))
    assert data_device(gpu, 499) == gpu
    assert data_device(gpu, 501) == CPU
    assert data_device(CPU, 10**18) == CPU


def test_the_seed_decides_everything_that_torch_draws() -> None:
    def drawn(seed: int) -> list[float]:
        order = seed_everything(seed)
        return [*torch.rand(3).tolist(), *torch.rand(3, generator=order).tolist()]

    assert drawn(5) == drawn(5)
    assert not set(drawn(5)) & set(drawn(6))


def test_the_order_of_the_data_does_not_move_what_else_is_drawn() -> None:
    order = seed_everything(1)
    first = torch.rand(3)
    order = seed_everything(1)
    torch.randperm(100, generator=order)
    assert torch.equal(torch.rand(3), first)


def test_the_largest_seed_is_taken() -> None:
    seed_everything(2**32 - 1)


def test_the_facts() -> None:
    started = datetime(2026, 11, 22, 11, 15, 4, tzinfo=timezone(timedelta(hours=9)))
    found = facts(CPU, 7, "mnist.npz (bundled)", started)
    assert found["version"] == exps.VERSION
    assert found["torch"] == str(torch.__version__)
    assert found["numpy"] == np.__version__
    assert found["python"] == platform.python_version()
    assert found["device"] == "cpu"
    assert found["threads"] == torch.get_num_threads()
    assert found["host"] == platform.node()
    assert (found["seed"], found["data_source"]) == (7, "mnist.npz (bundled)")
    assert found["started"] == "2026-11-22T11:15:04.000+09:00"
    assert found["device_name"]
    assert plain(found) == found  # nothing in it needs this project to be loaded


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program as if it lay in a new git repository with one commit."""
    (tmp_path / "utils").mkdir()
    code = tmp_path / "utils" / "commit.py"
    code.write_text("1")
    monkeypatch.setattr(commit, "__file__", str(code))
    who = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
    for args in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *args], cwd=tmp_path, check=True)
    return tmp_path


def test_the_commit(repository: Path) -> None:
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert len(head) == 40
    assert facts(CPU, 0, "", datetime.now())["commit"] == head
    (repository / "new.txt").write_text("not part of the program")
    assert facts(CPU, 0, "", datetime.now())["commit"] == head
    (repository / "utils" / "commit.py").write_text("2")
    assert facts(CPU, 0, "", datetime.now())["commit"] == f"{head}+changes"


def test_no_commit_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "__file__", str(tmp_path / "commit.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert facts(CPU, 0, "", datetime.now())["commit"] == ""


def test_no_commit_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts(CPU, 0, "", datetime.now())["commit"] == ""


def test_float32_is_float32_on_a_gpu_and_steps_repeat() -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.deterministic = False
    runtime.same_numbers_on_gpus()
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("given", "spins"),
    [
        ({}, SPINS),
        ({"OMP_WAIT_POLICY": "active"}, None),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"KMP_BLOCKTIME": "0"}, None),
    ],
)
def test_threads_do_not_spin_for_long_unless_the_user_says_so(
    given: dict[str, str], spins: str | None
) -> None:
    prepare(given)
    assert given.get("GOMP_SPINCOUNT") == spins
    assert given["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_torch_is_loaded_after_the_surroundings_are_prepared() -> None:
    """Else the libraries below torch have read the environment already."""
    code = "import sys, run_exps; assert 'torch' not in sys.modules, 'torch is loaded too early'"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
