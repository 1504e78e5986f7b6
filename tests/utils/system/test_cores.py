"""Cores that a process may really use: affinity, control groups of both versions, Slurm."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from utils.system import cores as module
from utils.system.cores import chosen_threads, cores, limit_threads

ROOT = Path(__file__).parents[3]
V1 = "24 18 0:22 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
OTHERS = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
OTHERS += "25 18 0:23 / /sys/fs/cgroup/cpuset rw - cgroup c rw,cpuset\n"
# Cores, threads of each of two runs at a time, threads of torch.
ASK = "from utils.many.local import Local; from utils.system.cores import cores; import torch"
ASK += "; print(cores(), Local(2, None, [], cores()).threads, torch.get_num_threads())"


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with 64 cores."""
    monkeypatch.setattr(module, "_there", lambda: 64)


def machine(root: Path, groups: str, mounts: str, files: dict[str, str]) -> int:
    """The cores on a machine with these files below /sys/fs/cgroup."""
    texts = {"proc/self/cgroup": groups, "proc/self/mountinfo": OTHERS + mounts}
    texts |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return cores({}, root)


@pytest.mark.parametrize(
    ("group", "top", "files", "expected"),
    [
        ("/", "/", {"cpu.max": "max 100000\n"}, 64),
        ("/", "/", {}, 64),  # the uppermost group has no such file
        ("/", "/", {"cpu.max": "250000 100000\n"}, 3),  # a container with a namespace of its own
        ("/", "/", {"cpu.max": "1000 100000\n"}, 1),
        ("/a/b", "/", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, 4),
        ("/a/b", "/", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 25000"}, 2),
        ("/a/b", "/", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "800000 100000"}, 1),
        ("/a", "/", {"a/cpu.max": "6500000 100000"}, 64),  # more than there is
        ("/docker/1/x", "/docker/1", {"cpu.max": "300000 100000"}, 3),
        ("/../..", "/", {"cpu.max": "300000 100000"}, 3),
        ("/elsewhere", "/docker/1", {"cpu.max": "300000 100000"}, 3),
        ("/gone (deleted)", "/", {"cpu.max": "300000 100000"}, 3),
        ("/a", "/", {"a/cpu.max": "what?"}, 64),
    ],
)
def test_quotas_of_version_2(
    tmp_path: Path, group: str, top: str, files: dict[str, str], expected: int
) -> None:
    assert machine(tmp_path, f"0::{group}\n", V2.format(top=top), files) == expected


@pytest.mark.parametrize(
    ("group", "top", "quotas", "expected"),
    [
        ("/", "/", {"": (-1, 100000)}, 64),
        ("/a/b", "/", {"a/": (250000, 100000), "a/b/": (-1, 100000)}, 3),
        ("/a/b", "/", {"": (-1, 100000), "a/": (-1, 100000), "a/b/": (5000, 50000)}, 1),
        ("/docker/1", "/docker/1", {"": (800000, 100000)}, 8),  # without a namespace of its own
    ],
)
def test_quotas_of_version_1(
    tmp_path: Path, group: str, top: str, quotas: dict[str, tuple[int, int]], expected: int
) -> None:
    files = {}
    for name, (quota, period) in quotas.items():
        files[f"cpu,cpuacct/{name}cpu.cfs_quota_us"] = f"{quota}\n"
        files[f"cpu,cpuacct/{name}cpu.cfs_period_us"] = f"{period}\n"
    groups = f"4:cpu,cpuacct:{group}\n3:cpuset:/x\n1:name=systemd:/y\n0::/z\n"
    assert machine(tmp_path, groups, V1.format(top=top), files) == expected


def test_a_mount_with_a_space_in_its_name(tmp_path: Path) -> None:
    mount = r"30 23 0:26 / /sys/fs/cgroup/my\040groups rw - cgroup2 none rw" + "\n"
    assert machine(tmp_path, "0::/\n", mount, {"my groups/cpu.max": "200000 100000"}) == 2


def test_what_is_not_linux_has_no_quotas(tmp_path: Path) -> None:
    assert cores({}, tmp_path) == 64


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "16"}, 4),
        ({"SLURM_CPUS_ON_NODE": "16"}, 16),
        ({"SLURM_CPUS_ON_NODE": "500"}, 64),
        ({"SLURM_CPUS_PER_TASK": "0"}, 64),
        ({"SLURM_CPUS_PER_TASK": "4(x2)"}, 64),
    ],
)
def test_the_cores_that_slurm_gave(tmp_path: Path, environ: dict[str, str], expected: int) -> None:
    assert cores(environ, tmp_path) == expected


def test_a_number_of_threads_that_was_chosen_stays() -> None:
    environ = {"OMP_NUM_THREADS": "7", "SLURM_CPUS_PER_TASK": "1"}
    limit_threads(environ)
    assert (environ["OMP_NUM_THREADS"], chosen_threads(environ)) == ("7", "7")
    environ = {"SLURM_CPUS_PER_TASK": "1"}
    for _ in range(2):  # in this process, and in one that it begins
        limit_threads(environ)
        assert (environ["OMP_NUM_THREADS"], chosen_threads(environ)) == ("1", None)


def test_where_nothing_is_limited_torch_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda _: 64)
    environ: dict[str, str] = {}
    limit_threads(environ)
    assert environ == {}


@pytest.fixture(params=["v1", "v2"])
def group(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A control group whose processes have one CPU in all."""
    tops = {"v1": ("cpu", "cpu,cpuacct"), "v2": (".", "unified")}[request.param]
    for top in tops:
        folder = Path("/sys/fs/cgroup", top, f"sparse-syn-test-{os.getpid()}")
        if not (folder.parent / "cgroup.procs").exists():
            continue
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if request.param == "v1":
                (folder / "cpu.cfs_period_us").write_text("100000")
                (folder / "cpu.cfs_quota_us").write_text("100000")
            else:
                (folder / "cpu.max").write_text("100000 100000")
            yield folder
            return
        except OSError:
            continue
        finally:
            folder.rmdir()
    pytest.skip(f"needs a cgroup {request.param} with CPU quotas that can be written")


def answer(prepare: object = None, **environ: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "SPARSE_SYN_"))}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        env=clean | environ,
        preexec_fn=prepare,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="needs control groups")
def test_a_real_quota_of_one_cpu(group: Path) -> None:
    assert answer(lambda: (group / "cgroup.procs").write_text(str(os.getpid()))) == "1 1 1\n"


@pytest.mark.skipif(sys.platform != "linux", reason="needs affinities")
def test_a_real_affinity_and_slurms_word() -> None:
    one = {min(os.sched_getaffinity(0))}
    assert answer(lambda: os.sched_setaffinity(0, one)) == "1 1 1\n"
    assert answer(SLURM_CPUS_PER_TASK="1") == "1 1 1\n"
