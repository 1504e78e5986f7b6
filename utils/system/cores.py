"""How many cores this process may use, by all that limits it. Answers without torch."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

THREADS = "OMP_NUM_THREADS"  # what torch has as its number of threads, read when it is loaded
_QUOTA = {"cgroup2": "cpu.max", "cgroup": "cpu.cfs_quota_us"}
_SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")  # the first that is set counts


def cores(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """The fewest of: the cores that this process may run on, the CPU time that its control groups
    leave it (2.5 CPUs are 3 cores), and what Slurm gave it. At least 1.

    root: where /proc and /sys are.
    """
    return int(max(1, min(_there(), _of_slurm(environ), *_quotas(root))))


def limit_threads(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let torch, which asks for the first of these alone, begin no more threads than that.

    It must not be loaded yet. A number that is chosen already stays, and a machine where nothing
    else is limited has as many as ever.
    """
    if THREADS not in environ and (found := cores(environ)) < _there():
        environ[THREADS] = environ[_OURS] = str(found)


def chosen_threads(environ: Mapping[str, str] = os.environ) -> str | None:
    """The number of threads that whoever started the program asks for, if there is one."""
    found = environ.get(THREADS)
    return None if found == environ.get(_OURS) else found


_OURS = "SPARSE_SYN_THREADS"  # tells a number that `limit_threads` has set, in workers as well


def _there() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _of_slurm(environ: Mapping[str, str]) -> float:
    for name in _SLURM:
        if re.fullmatch("[1-9][0-9]{0,5}", environ.get(name, "")):
            return int(environ[name])
    return math.inf


def _quotas(root: Path) -> Iterator[int]:
    """The CPUs that each control group of this process leaves it, where it limits them, rounded up.

    A group may have less than the one that it lies in, or more: all of them count.
    """
    try:
        groups = _text(root / "proc/self/cgroup").splitlines()
        mounts = _text(root / "proc/self/mountinfo").splitlines()
    except OSError:  # not Linux
        return
    paths = [group.split(":", 2) for group in groups if group.count(":") >= 2]
    ours = {"cgroup2": [path for number, _, path in paths if number == "0"]}
    ours["cgroup"] = [path for _, names, path in paths if "cpu" in names.split(",")]
    for mount in mounts:
        fields, _, behind = mount.partition(" - ")
        kind, _, options = [*behind.split(), "", "", ""][:3]
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            top, place = (_unescaped(field) for field in fields.split()[3:5])
            for path in ours[kind]:
                yield from _along(root / place.lstrip("/"), top, path, kind)


def _along(place: Path, top: str, path: str, kind: str) -> Iterator[int]:
    """The limits from the group at `path` up to `top`, the one that is mounted at `place`.

    In a container the group may be named as it is outside: then the mounted one is its own.
    """
    inner = os.path.relpath(path, top)
    folder = place if inner.startswith("..") else place / inner
    for group in (folder, *folder.parents):
        try:
            text = _text(group / _QUOTA[kind])
            if kind == "cgroup":
                text += " " + _text(group / "cpu.cfs_period_us")
            quota, period = map(float, text.split())
        except (OSError, ValueError):  # no file in the uppermost group; max
            quota = period = -1.0
        if quota > 0 and period > 0:
            yield math.ceil(quota / period)
        if group == place:
            return


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _unescaped(field: str) -> str:
    """A path of mountinfo, where a space is written as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
