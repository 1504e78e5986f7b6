"""Files of runs on their way between machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.datasets import SHA256
from exps.config import Experiment
from utils.many.order import DONE, INTERRUPTED, Outcome
from utils.many.parcel import BESIDES, bring_back, copy_program, pack, unpack
from utils.results.files import load_results, save_results
from utils.runs.folder import Run, reserve
from utils.runs.identity import code_digest, uses

CONFIG = {"name": "A", "seed": 0}


def there(folder: Path, *, lr: float, finished: bool) -> dict[str, bytes]:
    """What a run leaves in a folder of a node."""
    run = reserve(folder, "A_s0")
    run.log.write_text(f"lr {lr}")
    run.write({"lr": lr}, {})
    stats = {"meta": {"run": "A_s0"}}
    save_results(folder, CONFIG | {"lr": lr}, stats, run="A_s0")
    if finished:
        run.remove()
    return pack(folder)


def test_only_files_of_runs_travel(tmp_path: Path) -> None:
    files = there(tmp_path, lr=1, finished=False)
    (tmp_path / ".runs/A_s0/lock").touch()
    (tmp_path / "many.txt").touch()
    assert set(files) == {"A_s0.pkl", "A_s0.log", ".runs/A_s0/00000000.ckpt"} == set(pack(tmp_path))
    assert pack(tmp_path, "B") == {}
    unpack(files, tmp_path / "copy")
    assert pack(tmp_path / "copy") == files


@pytest.mark.parametrize("name", ["../A.pkl", "/A.pkl", "A/B.pkl", ".runs/../x/00000000.ckpt", "x"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        unpack({name: b""}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_of_the_same_second_keep_apart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for i in range(2):
        files = there(tmp_path / str(i), lr=float(i), finished=True)
        outcome = bring_back(Outcome(i, DONE, Path("/there/A_s0.pkl"), files=files), home)
        name = "A_s0" if i == 0 else "A_s0_2"
        assert (outcome.path, outcome.log) == (home / f"{name}.pkl", home / f"{name}.log")
        config, stats = load_results(home / f"{name}.pkl")
        assert (config["lr"], stats["meta"]["run"]) == (i, name)
        assert (home / f"{name}.log").read_text() == f"lr {float(i)}"
    assert not (home / ".runs").exists()


def test_weights_travel_with_their_run(tmp_path: Path) -> None:
    """And have its name where it ends."""
    home, node = tmp_path / "home", tmp_path / "node"
    reserve(home, "A_s0").log.touch()
    run, names = reserve(node, "A_s0"), ["A_s0.safetensors", "A_s0.task1.safetensors"]
    for name in names:
        (node / name).write_text(name)
    save_results(node, CONFIG, {"meta": {"run": "A_s0", "weights": names}}, run="A_s0")
    run.remove()
    bring_back(Outcome(0, DONE, Path("/there/A_s0.pkl"), files=pack(node)), home)
    here = ["A_s0_2.safetensors", "A_s0_2.task1.safetensors"]
    assert load_results(home / "A_s0_2.pkl")[1]["meta"]["weights"] == here
    assert [(home / name).read_text() for name in here] == names


def test_a_run_that_was_sent_out_comes_back_to_its_place(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = reserve(home, "A_s0")
    run.write({"lr": 0}, {})
    files = there(tmp_path / "0", lr=1.0, finished=False)
    outcome = bring_back(Outcome(0, INTERRUPTED, files=files), home, "A_s0")
    assert outcome.path == home / "A_s0.pkl"
    assert Run(home, "A_s0").facts()[1] == {"lr": 1.0}
    files = there(tmp_path / "1", lr=2.0, finished=True)
    bring_back(Outcome(0, DONE, files=files), home, "A_s0")
    assert load_results(home / "A_s0.pkl")[0]["lr"] == 2.0
    assert sorted(p.name for p in home.iterdir()) == ["A_s0.log", "A_s0.pkl"]


def test_what_is_sent_of_the_program_is_a_program(tmp_path: Path) -> None:
    copy_program(tmp_path)
    assert set(BESIDES[1:]) == {f"benchmarks/data/{name}" for name in SHA256}
    names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert all(name.endswith(".py") or name in BESIDES for name in names)
    assert sum((tmp_path / name).stat().st_size for name in names) < 20 * 2**20
    code = (
        "from exps.config import Experiment; from utils.runs.identity import code_digest, uses; "
        "print(code_digest(uses(Experiment(name='A', dynamic='grow', optimizer='adam'))))"
    )
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    exp = Experiment(name="A", dynamic="grow", optimizer="adam")
    assert there.stdout.strip() == code_digest(uses(exp))
