"""docs/extending.md: every file of it as it stands there, and every command with it."""

from __future__ import annotations

import os
import pickle
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import run_exps

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python title=(\S+)\n(.*?)```", DOC, re.DOTALL))
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)
    for line in block.splitlines()
    if ".py --" in line and "./" in line
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with all files of the page, and a little Oracle-MNIST as it is published."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    raw, draw = tmp_path / "data" / "oracle", np.random.default_rng(0)
    raw.mkdir(parents=True)
    for part, n in (("train", 40), ("t10k", 20)):
        labels = np.arange(n, dtype=np.uint8) % 10
        for kind, array in (
            ("images-idx3", draw.integers(0, 256, (n, 28, 28), dtype=np.uint8)),
            ("labels-idx1", labels),
        ):
            header = np.array([8 * 256 + array.ndim, *array.shape], dtype=">i4")
            (raw / f"{part}-{kind}-ubyte").write_bytes(header.tobytes() + array.tobytes())
    return tmp_path


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command of a user who works in this folder; a process of its own is much slower."""

    def run(place: Path, *words: str) -> Done:
        monkeypatch.chdir(place)
        capfd.readouterr()
        return Done(run_exps.main(["--results-dir", "results", *words]), *capfd.readouterr())

    return run


def result(place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The only one there."""
    [path] = (place / "results").glob("*.pkl")
    config, stats = pickle.loads(path.read_bytes())
    return config, stats


def test_every_file_has_a_command() -> None:
    assert len(FILES) >= 8
    for name in FILES:
        assert any(f"./{name}" in line for line in COMMANDS), name


@pytest.mark.parametrize("line", COMMANDS)
def test_it_runs_as_it_stands_there(place: Path, line: str) -> None:
    words = shlex.split(line)[2:]
    command = [sys.executable, str(ROOT / "run_exps.py"), "--results-dir", "results", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config, stats = result(place)
    assert not np.isnan(stats["accs"]).any() and np.isfinite(stats["loss"]).all()
    for pair in (word for word in words if "=" in word):  # what is asked for is in the result
        key, value = pair.split("=")
        assert value.removeprefix("./") in str(config[key])
    for own, array in {"drift": (5,)}.items() if "drift" in line else ():
        assert stats[own].shape == array and stats[own][0] == pytest.approx(0, abs=1e-6)


def test_what_rest_says_of_itself(run: Run, place: Path) -> None:
    """Its keys are checked, explained and found like all others."""
    both = ("--set", "methods=rest.py, contexts", "--set", "context_units=100")
    shown = run(place, "--dry-run", "--name", "Smoke", *both)
    assert "rest_strength = 0.1" in shown.stdout and "methods = rest.py" in shown.stdout
    assert "context = prototype" in shown.stdout
    wrong = run(place, "--check", "--set", "methods=rest.py", "--set", "rest_strength=-1")
    assert wrong.returncode == 2 and "choose a number from 0, at most 1e+06" in wrong.stderr
    wrong = run(place, "--dry-run", "--set", "methods=rest.py", "--set", "rest_strenght=1")
    assert "there is no key 'rest_strenght'; did you mean 'rest_strength'?" in wrong.stderr
    wrong = run(place, "--dry-run", "--set", "methods=rest.py", "--set", "engine=sparse")
    assert (
        wrong.returncode == 1
        and "pull of every parameter towards an anchor, which rest needs" in wrong.stderr
    )
    wrong = run(place, "--dry-run", "--set", "methods=pruning.py")
    assert wrong.returncode == 2 and "pruning needs masks: set it below 1" in wrong.stderr


KEYED = (
    "from exps.keys import Key\nfrom exps.kinds import Switch\nfrom utils.methods import base\n"
    "KEYS = {{{}}}\nclass Method(base.Method): pass\n"
)
HOOK = "from utils.methods import base\n\nclass Method(base.Method):\n    def {}\n"
NETWORK = """
from torch import nn
from models.network import Network

class Own(Network):
    def __init__(self, pixels, heads):
        super().__init__()
        self.layer = nn.Linear(pixels, 30)
        self.add_heads(30, heads)

    def features(self, x):
        return {}

def make_model(exp, shape, heads):
    return Own(shape[0] * shape[1] * shape[2], heads)
"""
PARTS = (
    "import torch\nfrom utils.methods import told\n"
    "def part_of(exp, units):\n    return {}\n"
    "class Method(told.OwnUnits):\n    def units_of(self, task):\n        return {}\n"
)
ROUTED = (
    "import torch\nfrom utils.methods import base\n"
    "def part_of(exp, units):\n    return units // 2\n"
    "class Method(base.Method):\n    told = False\n"
    "    def begin_task(self, engine, task):\n        engine.enter(task)\n"
    "    def units_of(self, task):\n        return [torch.arange(100)]\n"
    "    def route(self, x, ask):\n        return {}\n"
)
WIRED = f"{NETWORK.format('self.layer(x.flatten(1)).relu()')}\ndef groups(exp):\n    return {{}}\n"
NO_FEATURES = (
    ("(self.layer(x.flatten(1)),)", "has to return a float32 Tensor [pictures, 30], not a tuple"),
    ("self.layer(x.flatten(1))[:, :5]", "[pictures, 30], not float32 [2, 5] of two pictures"),
    ("self.layer(x.flatten(1)).double()", "[pictures, 30], not float64 [2, 30] of two pictures"),
    ("self.layer(x)", "mine.py, line 12: RuntimeError: mat1 and mat2"),
)
SMALL = (
    *("--name", "Smoke", "--device", "cpu", "--quiet", "--set", "checkpoint_every=0.001"),
    *("--set", "num_batch=2", "--set", "train_ep=1", "--set", "train_ep_inc=1"),
)


def test_another_file_is_another_run(run: Run, place: Path) -> None:
    """A comment changes nothing, a line of code does; and a run goes on with the same file only."""
    words = (*SMALL, "--set", "methods=rest.py", "--seeds", "0")
    assert run(place, *words).returncode == 0
    assert "(skipped)" in run(place, *words).stdout or len(list(place.glob("results/*.pkl"))) == 1
    (place / "rest.py").write_text(FILES["rest.py"].replace("2 * self", "4 * self"))
    assert run(place, *words).returncode == 0
    assert len(list(place.glob("results/*.pkl"))) == 2
    (place / "rest.py").write_text(FILES["rest.py"].replace("2 * self", "4 * self") + "# twice\n")
    assert run(place, *words).returncode == 0
    assert len(list(place.glob("results/*.pkl"))) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_this_name\n", "mine.py, line 1: ModuleNotFoundError"),
        ("x = 1\n  y = 2\n", "mine.py, line 2: IndentationError"),
        ("x = 1\n", "mine.py: it has no class Method, which methods needs"),
        ("raise SystemExit(3)\n", "mine.py, line 1: SystemExit: 3"),
        ("KEYS = 3\nclass Method: pass\n", "KEYS must be a dict"),
        (KEYED.format("'lr': Key(True, Switch(), '')"), "mine.py: there is a key 'lr' already"),
        (
            "def contradictions(exp):\n    return exp.nope\nclass Method: pass\n",
            "line 2: Attribute",
        ),
        (
            "from utils.methods import base\n\nclass Method(base.Method):\n"
            "    def begin_task(self, engine, task):\n        1 / 0\n",
            "mine.py, line 5: ZeroDivisionError",
        ),
        (
            KEYED.format("'in_effect': Key(True, Switch(), '')"),
            "there is a key 'in_effect' already",
        ),
        (
            KEYED.format("'ewc_decay': Key(True, Switch(), '')"),
            "there is a key 'ewc_decay' already",
        ),
        (KEYED.format("'my': Key(7, Switch(), '')"), "my = 7: choose true or false"),
        (KEYED.format("'my': Key(True, Switch, '')"), "my needs a kind such as Number(0, 1)"),
        (KEYED.format("'My Key': Key(True, Switch(), '')"), "a key is a name such as my_rate"),
        ("class Method:\n    def __init__(self, *_): pass\n", "Method has to return one of utils"),
        (HOOK.format("state(self):\n        return {1: 2}"), "its state cannot be kept in a check"),
        (
            HOOK.format("state(self):\n        return {'a': (1, 2)}"),
            "its state['a'] cannot be kept",
        ),
        (
            HOOK.format("loss(self, *_):\n        return 'x'"),
            "its loss is no scalar tensor, but 'x'",
        ),
        (
            HOOK.format("before_step(self, *_):\n        pass"),
            "before_step has to return the Batch",
        ),
        (HOOK.format("result(self):\n        return {'a': 'b'}"), "'a' is no array of numbers"),
        (PARTS.format("units / 2", "[]"), "part_of has to return whole numbers of units, not a fl"),
        (PARTS.format("2 * units", "[]"), "400 units of a task are more than the 200"),
        (PARTS.format("0", "[]"), "a task has none of 200 units"),
        (PARTS.format("10", "[]"), "20 units win, but only the 10 of a task may"),
        *(
            (PARTS.format("units // 2", units), f"mine: units_of(0) gives {told}; it has to give")
            for units, told in (
                ("None", "no list of tensors, but a NoneType"),
                ("[list(range(100))]", "no list of tensors, but a list"),
                ("[torch.arange(9)]", "int64 [9] of group 0"),
                ("[torch.arange(150, 250)]", "units of group 0 that there are not"),
                ("[torch.zeros(100).long()]", "a unit of group 0 twice"),
                ("[torch.arange(100), torch.arange(3)]", "2 groups"),
                ("[torch.randperm(200)[:100]]", "other units than it gave before"),
            )
        ),
        (ROUTED.format("torch.zeros(3).long()"), "route has to return int64 [100], a task for"),
        (ROUTED.format("torch.ones(len(x)).long()"), "route found task 1, which has not begun"),
        (
            "from utils.methods import base\n\nclass Method(base.Method):\n"
            "    def result(self):\n        return {'loss': 1}\n",
            "'loss' is there already; give it another name",
        ),
        (
            "from utils.methods import base\n\nclass Method(base.Method):\n"
            "    def end_task(self, engine, task):\n        raise SystemExit(0)\n",
            "mine.py, line 5: SystemExit: 0",
        ),
        (
            "from utils.methods import base\n\nclass Method(base.Method):\n"
            "    def result(self):\n        return {'confusion': 1}\n",
            "'confusion' is there already; give it another name",
        ),
    ],
)
def test_a_fault_is_told_by_file_and_line(run: Run, place: Path, text: str, told: str) -> None:
    (place / "mine.py").write_text(text)
    done = run(place, *SMALL, "--set", "methods=mine.py")
    assert done.returncode in (1, 2)
    assert told in done.stderr and "Traceback" not in done.stderr
    missing = run(place, *SMALL, "--set", "methods=elsewhere.py")
    assert (
        missing.returncode == 2 and "elsewhere.py: cannot be read: No such file" in missing.stderr
    )


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        (
            "benchmark",
            "def facts(exp):\n    return 5\ndef make_stream(exp): pass\n",
            "exps.facts.Facts",
        ),
        (
            "benchmark",
            "from exps.facts import Facts\ndef facts(exp):\n    return Facts((1, 8, 8), 2, 9)\n"
            "def make_stream(exp): pass\n",
            "make_stream has to return a TaskStream, not a NoneType",
        ),
        (
            "model",
            "def make_model(*_): pass\n",
            "make_model has to return a models.network.Network",
        ),
        *(("model", NETWORK.format(found), told) for found, told in NO_FEATURES),
        (
            "model",
            WIRED.format("[2.5]") + "WIDTHS = {'hidden_units': 'percent_on_fc'}\n",
            "groups has to return whole numbers of units, not a fl",
        ),
        ("model", WIRED.format("[30]") + "WIDTHS = ['lr']\n", "WIDTHS must be a dict of keys"),
        ("model", WIRED.format("[30]") + "LACKS = ('lr')\n", "LACKS must be a tuple of keys"),
        (
            "model",
            WIRED.format("[exp.hidden_units]") + "WIDTHS = {'hidden_units': 'percent_on_fc'}\n"
            "Own.wires = property(lambda self: self.nothing)\n",
            "line 20: AttributeError: 'Own' object has no attribute 'nothing'",
        ),
        (
            "model",
            WIRED.format("[200]") + "WIDTHS = {'hidden_units': 'percent_on_fc'}\n",
            "of groups of 200 units a part has 200; each needs some, and fewer than there are",
        ),
        (
            "model",
            WIRED.format("[30]") + "WIDTHS = {'hidden': 'percent_on_fc'}\n",
            "WIDTHS names 'hidden', and there is no such key whose value is a whole",
        ),
        ("optimizer", "def make(*_, fused): pass\n", "make has to return an optimiser of torch's"),
        (
            "optimizer",
            "import torch\ndef make(exp, parameters, *, fused):\n"
            "    made = torch.optim.SGD(parameters, lr=0.1)\n"
            "    plan = torch.optim.lr_scheduler.CosineAnnealingLR(made, 9)\n"
            "    made.register_step_post_hook(lambda *_: plan.step())\n    return made\n",
            "the optimiser SGD changes its settings",
        ),
    ],
)
def test_what_is_no_file_of_its_kind(run: Run, place: Path, key: str, text: str, told: str) -> None:
    (place / "mine.py").write_text(text)
    own = ("--set", "data=full") if key == "benchmark" else ()
    own += ("--set", "context=given", "--set", "context_units=90") if "groups" in text else ()
    done = run(place, *SMALL, *own, "--set", f"{key}=mine.py")
    assert done.returncode in (1, 2)
    assert told in done.stderr and "Traceback" not in done.stderr


def test_a_path_is_never_a_name_of_the_project(run: Run, place: Path) -> None:
    for path in ("./er", "./sub", "./mlp"):
        done = run(place, *SMALL, "--set", f"methods={path}")
        assert done.returncode == 2 and "cannot be read: No such file" in done.stderr
    (place / "er.py").write_text(FILES["small_logits.py"])
    done = run(place, *SMALL, "--set", "methods=er, ./er.py")
    assert done.returncode == 2 and "two files are called er" in done.stderr


def test_a_key_of_ones_own_that_was_swept_is_reported(run: Run, place: Path) -> None:
    words = (*SMALL, "--set", "methods=rest.py", "--grid", "rest_strength=0.1,1", "--report")
    done = run(place, *words)
    assert done.returncode == 0, done.stderr
    page = (place / "results" / "report" / "report.html").read_text(encoding="utf-8")
    assert "rest_strength" in page
    told = run(place, "--set", "methods=rest.py", "--explain", "rest_strength").stdout
    assert "how strongly earlier values are held" in told and "counts only" not in told


def test_a_result_is_not_trusted_to_name_a_file_that_is_run(run: Run, place: Path) -> None:
    (place / "mine.py").write_text(FILES["rest.py"])
    assert run(place, *SMALL, "--set", "methods=mine.py").returncode == 0
    (place / "mine.py").write_text("raise SystemExit('it was run')\n")
    command = [sys.executable, "-m", "utils.report", str(place / "results")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "it was run" not in done.stdout + done.stderr
    assert (place / "results" / "report" / "report.html").exists()


def test_nor_is_a_checkpoint(run: Run, place: Path) -> None:
    """The file is run when it is named again, as the line that says how to go on does."""
    (place / "mine.py").write_text(
        HOOK.format(
            "after_step(self, *_):\n        import os, signal\n"
            "        os.path.exists('go') or os.kill(os.getpid(), signal.SIGTERM)"
        )
    )
    done = run(place, *SMALL, "--set", "methods=mine.py")
    assert done.returncode == 143, done.stderr
    hint = shlex.split(done.stderr.split("to go on: ")[1].splitlines()[0])[2:]
    assert "--set=methods=mine.py" in hint
    refused = run(place, *(word for word in hint if "methods" not in word))
    assert refused.returncode == 2 and "--set=methods=mine.py" in refused.stderr
    (place / "go").touch()
    assert run(place, *hint).returncode == 0


def test_beside_others(run: Run, place: Path) -> None:
    """Keys of a file that some runs of a command are without do nothing in these."""
    words = ("--grid", "methods=none,./rest.py", "--grid", "rest_strength=0.1,1", "--dry-run")
    done = run(place, *SMALL, *words)
    assert done.returncode == 0, done.stderr
    assert sum(line.lstrip().startswith("new") for line in done.stdout.splitlines()) == 3
    config = place / "mine.cfg"
    config.write_text("[A]\nmethods = ./rest.py\nrest_strength = 0.5\n[B]\nrms_decay = 0.9\n")
    mine = ("--config", "mine.cfg", "--dry-run", "--set", "num_batch=2")
    done = run(place, *mine, "--name", "A", "--set", "methods=none")
    assert done.returncode == 0 and "rest_strength" in done.stderr and "does nothing" in done.stderr
    done = run(place, *mine, "--name", "B", "--set", "optimizer=./rmsprop.py")
    assert done.returncode == 0 and "rms_decay = 0.9" in done.stdout, done.stderr
    assert "there is no key 'rms_decay'" in run(place, *mine, "--name", "B").stderr


def test_pictures_that_depend_on_keys_are_other_data(run: Run, place: Path) -> None:
    """What is done is done, although data_dir and benchmark are the same."""
    text = FILES["oracle.py"].replace("DATASET", "SIGNS")
    text = text.replace("KEYS = {", "KEYS = {'shift': Key(0, Whole(0, 9), 'of grey'), ")
    text = text.replace("    return make", "    arrays.x_train[:] += exp.shift\n    return make")
    text = text.replace("DATASET = ", "SIGNS = ").replace(
        "from pathlib", "from exps.keys import Key\nfrom exps.kinds import Whole\nfrom pathlib"
    )
    (place / "grey.py").write_text(text)
    words = ("--set", "benchmark=grey.py", "--set", "data=full", "--grid", "shift=0,5")
    for _ in range(2):
        done = run(place, *SMALL, *words)
        assert done.returncode == 0, done.stderr
        assert len(list(place.glob("results/*.pkl"))) == 2
