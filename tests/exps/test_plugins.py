"""Files that are found by a name or a path, of the project and of users."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exps import plugins
from exps.experiment import Experiment
from exps.plugins import BENCHMARK, KINDS, METHOD, MODEL, OPTIMIZER, One, PluginError, Some

MINE = """
from exps.keys import Key, When
from exps.kinds import Number
from utils.methods import base

KEYS = {
    "mine_rate": Key(0.5, Number(0, 1), "of mine"),
    "mine_twice": Key(1.0, Number(0, 9), "how often", When("mine_rate", lambda e: e.mine_rate > 0)),
}

class Method(base.Method):
    pass
"""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Files are read once a command; here every test is one."""
    plugins.source.cache_clear()
    yield
    plugins.source.cache_clear()


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """A method of a user's."""
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return str(path)


def test_what_the_project_has() -> None:
    names = {kind: set(kind.names) for kind in KINDS}
    own = {
        *("arrays", "cifar", "cifar100", "digits", "emnist", "fashion", "kmnist", "mnist"),
        *("svhn", "tinyimagenet"),
    }
    assert names[BENCHMARK] == own
    assert names[MODEL] == {"mlp", "cnn", "linear", "patches", "resnet18"}
    assert names[METHOD] >= {"contexts", "grow", "rewire", "old_synapses", "census", "ewc", "er"}
    assert names[OPTIMIZER] == {"sgd", "sgd_lazy", "adam", "adamw"}
    for kind in KINDS:
        for name in kind.names:  # each is what it is said to be, with keys that nothing else has
            entry = kind.entry.split()[1].rstrip("(")
            assert hasattr(plugins.load(kind, name), entry)
    keys = [key for _, key, _, _ in plugins.declared()]
    assert len(keys) == len(set(keys))


def test_what_declares_a_key_is_known_without_running_it() -> None:
    """So runs of a key's two values are two, whatever has it; and idle ones are one."""
    for kind in KINDS:
        for name in kind.names:
            for key in plugins.keys(kind, name):
                texts = {kind.key: name, "context": "prototype", "old_synapse_lr": "0.5"}
                assert plugins.chosen_by(key, texts | {"dynamic": "grow"}), key
    assert not plugins.chosen_by("momentum", {"optimizer": "adam"})
    assert not plugins.chosen_by("context_units", {"context": "none"})
    assert not plugins.chosen_by("ewc_decay", {"methods": "er"})
    assert plugins.chosen_by("of_a_users_file", {}) and plugins.chosen_by("lr", {})


@pytest.mark.parametrize("text", ["./a.py", "a.py", "b/c", "/d/e.py", "a b.py", "ä.py"])
def test_a_path_is_read_as_it_is_written(text: str) -> None:
    value = One(METHOD).parse(text)
    assert plugins.is_path(value) and One(METHOD).parse(value) == value
    assert Path(value).absolute() == Path(text).absolute()
    assert Some(METHOD).parse(f"ewc, {text},er") == ("er", "ewc", value)
    for twice in ("er, ewc, er", f"{text}, {text}"):
        with pytest.raises(ValueError, match="is named twice"):
            Some(METHOD).parse(twice)


@pytest.mark.parametrize("text", ["nope", "mnist ", "", "ewc,,er", "a\n.py", "ewc, nope"])
def test_what_is_neither(text: str) -> None:
    with pytest.raises(ValueError, match="choose"):
        (One(BENCHMARK) if "ewc" not in text else Some(METHOD)).parse(text)


def test_its_keys_are_keys_like_all_others(mine: str) -> None:
    exp = Experiment(name="a", methods=(mine,), mine_rate=0.25)
    assert (exp.mine_rate, exp.mine_twice) == (0.25, 1.0)
    assert exp.counts("mine_twice") and exp.all_methods == (mine,)
    idle = replace(exp, mine_rate=0.0, mine_twice=4.0)
    assert not idle.counts("mine_twice") and idle.in_effect.mine_twice == 1.0
    assert idle.why_idle("mine_twice") == "mine_rate"
    assert list(exp.keys).index("mine_rate") == list(exp.keys).index("methods") + 1
    again = pickle.loads(pickle.dumps(exp))
    assert again == exp and again.mine_rate == 0.25 and hash(again) == hash(exp)
    without = replace(exp, methods=())
    with pytest.raises(AttributeError, match="declares a key mine_rate"):
        _ = without.mine_rate
    with pytest.raises(TypeError, match="there is no key 'mine_rate'"):
        Experiment(name="a", mine_rate=0.25)


def test_what_is_not_chosen_is_dropped() -> None:
    exp = Experiment(name="a", optimizer="adam", momentum=0.5)
    assert "momentum" not in exp.keys and exp.adam_beta1 == 0.9
    assert exp.why_idle("momentum") == "optimizer = sgd or sgd_lazy"
    assert Experiment(name="a").why_idle("adam_eps") == "optimizer = adam or adamw"
    assert Experiment(name="a").why_idle("context_units") == "a context and sparsify"


def test_old_and_new_spellings_are_one() -> None:
    old = Experiment(name="a", context="prototype", cnn=False)
    assert Experiment(name="a", methods=("contexts",)) == old
    assert Experiment(name="a", model="cnn") == Experiment(name="a", cnn=True)
    assert Experiment(name="a", methods=("grow", "ewc")).all_methods == ("census", "grow", "ewc")


def test_a_worker_has_the_file_as_it_was_sent(
    mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that changing it, or that it is on another machine, changes no run."""
    exp = Experiment(name="a", methods=(mine,))
    files = {value: plugins.source(value) for value in plugins.own_files(exp)}
    folder = tmp_path / "sent"
    folder.mkdir()
    for name, value in plugins.send(files, folder).items():
        monkeypatch.setenv(name, value)
    Path(mine).unlink()
    plugins.source.cache_clear()
    assert Experiment(name="a", methods=(mine,), mine_rate=1.0).mine_rate == 1.0
    monkeypatch.undo()
    plugins.source.cache_clear()
    with pytest.raises(PluginError, match=r"mine\.py: cannot be read: No such file"):
        Experiment(name="a", methods=(mine,))
    assert plugins.send({}, folder) == {}


def test_two_files_of_one_name_cannot_be_told_apart(mine: str, tmp_path: Path) -> None:
    other = tmp_path / "other" / "mine.py"
    other.parent.mkdir()
    other.write_text(MINE.replace("mine_", "other_"))
    exp = Experiment(name="a", methods=(mine, str(other)))
    with pytest.raises(PluginError, match="give these files different names"):
        plugins.own_files(exp)


def test_two_files_with_one_key(mine: str, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(MINE.replace("0.5", "0.6"))
    with pytest.raises(PluginError, match="there is a key 'mine_rate' already; rename it"):
        Experiment(name="a", methods=(mine, str(other)))
