"""The files of a run, and of the program, on their way between machines that share no folder."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from utils.many.order import DONE, Outcome
from utils.results.files import load_results, save_results
from utils.runs import folder as runs
from utils.runs.folder import Run
from utils.runs.identity import ROOT
from utils.system.disk import write_own

# A result, a log, kept weights, or a checkpoint of an unfinished run.
_NAME = re.compile(
    r"(?P<run>[A-Za-z0-9_+-]+)(?P<what>(\.task[0-9]{1,4})?\.safetensors|\.pkl|\.log)"
    r"|\.runs/(?P<begun>[A-Za-z0-9_+-]+)/[0-9]{8}\.ckpt"
)

PROGRAM = ("run_exps.py", "benchmarks", "exps", "models", "sparse_syn", "utils")
# What the program reads besides its source.
BESIDES = (
    "exps/exps_params.cfg",
    "benchmarks/data/mnist.npz",
    "benchmarks/data/cifar10_sample.npz",
    "benchmarks/data/digits.npz",
)


def copy_program(folder: Path) -> None:
    """Copy what a node needs of the program, and nothing else that lies in its folder. Raises
    OSError."""
    files = [ROOT / name for name in BESIDES]
    for part in (ROOT / name for name in PROGRAM):
        files += [part] if part.is_file() else part.rglob("*.py")
    for file in files:
        if file.exists():  # data may be left out
            copy = folder / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def pack(results_dir: Path, run: str | None = None) -> dict[str, bytes]:
    """All files of all runs, or of one, in a results folder: name (with /) -> contents."""
    found = {}
    for path in [*results_dir.glob("*.*"), *results_dir.glob(f"{runs.FOLDER}/*/*.ckpt")]:
        name = path.relative_to(results_dir).as_posix()
        match = _NAME.fullmatch(name)
        if match and run in (None, match["run"], match["begun"]):
            found[name] = path.read_bytes()
    return found


def unpack(files: dict[str, bytes], folder: Path) -> None:
    """Write them into a folder. Names that `pack` does not give are an error (ValueError)."""
    for name, contents in files.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a run's file")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents)


def bring_back(outcome: Outcome, results_dir: Path, sent: str = "") -> Outcome:
    """Put what a run left on another machine into a results folder; the outcome with paths there.

    sent: the unfinished run that was sent out, if one was: its files are replaced. A run that began
    there gets another name when its own is taken here, as by one that began elsewhere in the same
    second. Raises OSError, and ResultsError for a result that cannot be read or written.
    """
    matches = {file: match for file in outcome.files if (match := _NAME.fullmatch(file))}
    there = {str(match["run"] or match["begun"]) for match in matches.values()}
    if not there:
        return replace(outcome, files={}, path=None, log=None)
    name = sent if sent in there else min(there)
    run = Run(results_dir, name) if name == sent else runs.reserve(results_dir, name)
    path = None
    for file, match in matches.items():
        contents = outcome.files[file]
        if match["begun"] == name:
            write_own(run.folder / Path(file).name, contents)
        elif match["run"] == name and match["what"] == ".pkl":
            path = _result_back(contents, run, name)
        elif match["run"] == name:
            write_own(results_dir / f"{run.name}{match['what']}", contents)
    if outcome.kind == DONE or not run.begun():
        run.remove()
    return replace(outcome, files={}, path=path, log=run.log if run.log.exists() else None)


def _result_back(contents: bytes, run: Run, name: str) -> Path:
    """The result, under the name that its run has here, in place of the one that it had."""
    with tempfile.TemporaryDirectory(prefix="sparse-syn-") as folder:
        there = Path(folder) / "there.pkl"
        there.write_bytes(contents)
        config, stats = load_results(there)
    meta = stats["meta"]
    meta["run"] = run.name
    for key in {"weights", "lost_weights"} & meta.keys():
        meta[key] = [f"{run.name}{file.removeprefix(name)}" for file in meta[key]]
    return save_results(run.results_dir, config, stats, run=run.name)
