"""Many runs on a real Ray cluster of two nodes, of which one dies in the middle."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs Ray (requirements-ray.txt)"
    ),
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]
MANY = ["--name", "Sparse", "--seeds", "0-2"]
Words = Callable[..., list[str]]
LONG = ["--set", "train_ep=100", "--set", "train_ep_inc=10"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and another node, with a CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def under_way(found: list[int], folder: Path, count: int) -> list[int]:
    """The workers, once so many of them have trained for a while."""
    begun = [p for p in folder.glob(".runs/*/*.ckpt") if int(p.stem) >= 2]
    return found if len({p.parent for p in begun}) >= count and len(found) >= count else []


def test_workers_and_a_node_die_and_nothing_is_lost(
    cluster: Any,
    tmp_path: Path,
    command: Words,
    start: Any,
    finish: Any,
    bits: Any,
    workers: Any,
    wait_until: Any,
) -> None:
    folder = tmp_path / "r"
    process = start(command(*MANY, *LONG, "--executor", "ray", "--address", cluster.address))

    first, second = wait_until(lambda: under_way(workers(folder), folder, 2), process)
    os.kill(first, signal.SIGKILL)  # a run
    os.kill(parent(second), signal.SIGKILL)  # a worker process of Ray, which has a run
    wait_until(lambda: len(set(workers(folder)) - {first, second}) == 2, process)
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    out, _ = process.communicate()

    assert process.returncode == 0, out
    assert "3 runs: 3 done\n" in out
    assert not workers(folder)
    assert sorted(p.suffix for p in folder.iterdir()) == [".log"] * 4 + [".pkl"] * 3

    status, out = finish(command(*MANY, *LONG, "--jobs", "2", results="plain"))
    assert status == 0, out
    assert bits(folder) == bits(tmp_path / "plain")


def test_what_is_begun_in_folders_of_nodes_comes_back(
    cluster: Any,
    tmp_path: Path,
    command: Words,
    finish: Any,
    bits: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """As on machines that do not share the results folder: interrupted, and gone on with."""
    import run_exps
    from utils.many import on_ray

    @contextlib.contextmanager
    def unmarked(results_dir: Path) -> Iterator[Path]:
        yield results_dir / ".runs" / "nowhere"

    monkeypatch.setattr(on_ray, "_marked", unmarked)
    # Long enough that the word to end reaches the node before the run does.
    one = ["--name", "Sparse", "--seeds", "7", "--set", "train_ep=600"]
    words = command(*one, "--executor", "ray", "--address", cluster.address)[2:]

    with interrupted_when_under_way():
        assert run_exps.main(words) == 130
    assert "to go on: the same command again" in capfd.readouterr().err
    assert list(tmp_path.glob("r/.runs/Sparse_*/*.ckpt"))

    assert run_exps.main(words) == 0
    assert "1 run: 1 done\n" in capfd.readouterr().out
    assert not (tmp_path / "r/.runs").exists()
    assert finish(command(*one, results="plain"))[0] == 0
    assert bits(tmp_path / "r") == bits(tmp_path / "plain")


@contextlib.contextmanager
def interrupted_when_under_way() -> Iterator[None]:
    """Ctrl-C once a run trains, in whichever folder."""

    def watch() -> None:
        folder = Path(tempfile.gettempdir())
        while not list(folder.glob("sparse-syn-*/.runs/Sparse_*/0000000[2-9].ckpt")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()
    yield


def test_a_cluster_that_there_is_not(finish: Any, command: Words) -> None:
    words = command("--name", "Sparse", "--executor", "ray", "--address", "127.0.0.1:1")
    status, out = finish(words)
    assert status == 1
    assert "error: --executor ray: no Ray cluster at 127.0.0.1:1\n  why: " in out
    assert "Traceback" not in out


def test_a_cluster_that_wants_a_token(
    cluster: Any, finish: Any, command: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    words = command("--name", "Sparse", "--executor", "ray", "--address", cluster.address)
    status, out = finish(words)
    assert status == 1
    assert f"error: --executor ray: cannot connect to the Ray cluster at {cluster.address}\n" in out
    assert "no authentication token was found" in out
    assert "set RAY_AUTH_MODE=token" in out


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], str]:
    """What is said of a cluster at an address, which this process cannot use."""
    from utils.many.on_ray import OnRay
    from utils.runs.folder import RunError

    def refused(address: str | None) -> str:
        with pytest.raises(RunError) as error:
            OnRay(address, None, 1)
        return str(error.value)

    return refused


def test_every_failure_names_its_own_cause(
    cluster: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray._private.runtime_env import packaging

    from utils.many import on_ray

    here = cluster.address
    with monkeypatch.context() as patch:
        patch.setattr(ray, "__version__", "2.0.0")
        said = refused(here)
    assert said.startswith(f"--executor ray: cannot connect to the Ray cluster at {here}\n")
    assert "Version mismatch" in said
    assert said.endswith(
        "what to do: have the same versions of Ray and Python here and on all nodes"
    )

    with monkeypatch.context() as patch:
        patch.setattr(packaging, "GCS_STORAGE_MAX_SIZE", 1000)
        # What a cluster has already is not sent again.
        patch.setattr(on_ray, "copy_program", lambda to: (to / "x").write_bytes(os.urandom(5000)))
        said = refused(here)
    assert said.startswith("--executor ray: the program cannot be sent to the Ray cluster at ")
    assert "exceeds the maximum size of" in said
    assert "ray start" not in said

    for wrong in ("nonsense", "127.0.0.1:1"):
        assert refused(wrong).startswith(f"--executor ray: no Ray cluster at {wrong}\n")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert refused(None).startswith("--executor ray: no Ray cluster at 127.0.0.1:1\n")


def test_the_program_alone_is_sent(cluster: Any, tmp_path: Path, finish: Any) -> None:
    """From a project in whose folder large files of the user's lie."""
    from utils.many.parcel import copy_program

    project = tmp_path / "project"
    copy_program(project)
    for name in ("datasets", "benchmarks/data/mine", "venv"):
        (project / name).mkdir()
        with (project / name / "pictures.bin").open("wb") as file:
            file.truncate(700 * 2**20)
    words = ["--name", "Smoke", "--set", "train_ep=1", "--set", "train_ep_inc=1", "--seeds", "0"]
    words += ["--results-dir", str(tmp_path / "r"), "--executor", "ray"]
    words += ["--address", cluster.address]
    status, out = finish([sys.executable, str(project / "run_exps.py"), *words])
    assert status == 0, out
    assert "1 run: 1 done\n" in out
