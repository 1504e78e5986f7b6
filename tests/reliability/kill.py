"""Kills a run with SIGKILL at random moments, resumes it each time, and compares its result.

    python tests/reliability/kill.py                              50 kills of Smoke
    python tests/reliability/kill.py --kills 20 --set engine=dense
    python tests/reliability/kill.py --name MLP_2LayersSparse --set num_batch=2 --kills 60

The result must be that of a run that nobody killed, to the last bit. The run is slowed down by as
many epochs as it takes to be killed so often, and writes a checkpoint every few hundredths of a
second. Exit status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(ROOT / "run_exps.py")]
SAME = ("accs", "untrained", "perc_on_avg", "perc_on_std", "on_idxs", "loss", "train_acc", "entropy")
SAME += ("max_entropy", "weight_density", "costs")


def main() -> int:
    """Run, kill, resume, compare."""
    args = _parser().parse_args()
    rng = random.Random(args.seed)
    settings = [part for s in args.set for part in ("--set", s)]
    command = ["--name", args.name, "--quiet", *settings]
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        began = time.monotonic()
        finish([*command, "--results-dir", str(whole)])
        lasted = time.monotonic() - began
        print(f"uninterrupted: {lasted:.1f} s", flush=True)
        kills = kill_often([*command, "--results-dir", str(killed)], args.kills, rng)
        differing = differences(only_result(whole), only_result(killed))
        left = sorted(p.name for p in killed.iterdir() if p.suffix not in (".pkl", ".log"))
    print(f"{kills} kills; differing: {differing or 'nothing'}; left over: {left or 'nothing'}")
    return 1 if differing or left or kills < args.kills else 0


def kill_often(command: list[str], kills: int, rng: random.Random) -> int:
    """Kill the run so many times, then let it finish; the number of kills that met it alive.

    A moment is drawn from the start of the process, before it has loaded anything, to a little
    after its first new checkpoint, so that start, training and writing are all met.
    """
    done = 0
    results = Path(command[-1])
    while done < kills:
        before = newest(results)
        arguments = command if before is None else [*command, "--resume"]
        process = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, 2))
        else:
            while process.poll() is None and newest(results) == before:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.15))
        process.kill()
        _, err = process.communicate()
        if process.returncode == 0:
            print("it finished between two kills: give it more epochs")
            return done
        if process.returncode != -9:
            raise SystemExit(f"status {process.returncode}: {err}")
        done += 1
    finish(command if newest(results) is None else [*command, "--resume"])
    return done


def newest(results: Path) -> tuple[str, ...] | None:
    """The names of the checkpoints there are."""
    found = tuple(sorted(p.name for p in results.glob(".runs/*/*.ckpt")))
    return found or None


def finish(command: list[str]) -> None:
    """Run to the end; raises SystemExit when that fails."""
    done = subprocess.run([*PROGRAM, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"status {done.returncode}: {done.stderr}")


def only_result(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration and statistics of the one result there is."""
    (path,) = folder.glob("*.pkl")
    with path.open("rb") as file:
        config, stats = pickle.load(file)  # made by this script
    return config, stats


def differences(one: tuple[Any, Any], other: tuple[Any, Any]) -> list[str]:
    """The names of what is not the same to the last bit."""
    found = [f"config.{key}" for key in one[0] if one[0][key] != other[0].get(key)]
    parts = {key: (one[1][key], other[1][key]) for key in SAME}
    return found + [key for key, (a, b) in parts.items() if pickle.dumps(a) != pickle.dumps(b)]


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--name", default="Smoke", help="the section to run")
    p.add_argument("--set", action="append", metavar="KEY=VALUE")
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--seed", type=int, default=0, help="of the moments")
    p.set_defaults(set=["checkpoint_every=0.02", "train_ep=40", "train_ep_inc=40"])
    return p


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
