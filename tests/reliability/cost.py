"""What checkpoints cost: a run's own account of them, as a share of its time.

    python tests/reliability/cost.py MLP_1LayerSparse MLP_2LayersSparse --set num_batch=3

Stood still: the training waited, while the state was copied. Beside it: another thread wrote the
copy; on a machine whose cores are all busy that costs up to as much again, at most its own time.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run each section, and print a row of the table for it."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("sections", nargs="+", metavar="NAME")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = p.parse_args()
    print("| section | run, s | checkpoints | stood still | and beside it |")
    print("| --- | --- | --- | --- | --- |")
    for section in args.sections:
        stats = run(section, args.set)
        cost, elapsed = stats["meta"]["checkpoints"], stats["elapsed"]
        still, beside = cost["seconds"] / elapsed, cost["seconds_beside"] / elapsed
        print(
            f"| {section} | {elapsed:.0f} | {cost['written']:.0f} | {100 * still:.2f} % |"
            f" {100 * (still + beside):.2f} % |",
            flush=True,
        )
    return 0


def run(section: str, settings: list[str]) -> dict[str, Any]:
    """The statistics of a run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "run_exps.py"), "--name", section, "--quiet"]
        command += ["--results-dir", folder, *(part for s in settings for part in ("--set", s))]
        subprocess.run(command, check=True, capture_output=True)
        (path,) = Path(folder).glob("*.pkl")
        with path.open("rb") as file:
            stats: dict[str, Any] = pickle.load(file)[1]  # made by this script
    return stats


if __name__ == "__main__":
    sys.exit(main())
