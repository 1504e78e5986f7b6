"""From files and overrides to experiments, errors and warnings."""

from __future__ import annotations

import re
import string
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exps import config, kinds, plugins
from exps.config import ConfigError, Experiment
from exps.manual import all_keys
from exps.rules import contradictions

Write = Callable[[str | bytes], Path]


def error(path: Path, *overrides: str, name: str = "A") -> str:
    """The message about what is wrong in section A, without the file's path."""
    with pytest.raises(ConfigError) as raised:
        config.load(name, path, overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(str(path))


def test_what_is_set_nowhere_has_its_default(written: Write) -> None:
    exp, warnings = config.load("A", written("[A]\n"))
    assert exp == Experiment(name="A")
    assert warnings == []


def test_values_are_typed_and_the_nearest_counts(written: Write) -> None:
    path = written(
        "[DEFAULT]\ndescription = not inherited\nlr = 0.5\nmb_size = 7\nmomentum = 0.5\n"
        "[A]\nmb_size = 8\nmomentum = 0.25\n"
    )
    exp, warnings = config.load("A", path, ["momentum=0.75", "seed=1", "seed = 2"])
    assert exp == replace(Experiment(name="A"), lr=0.5, mb_size=8, momentum=0.75, seed=2)
    assert type(exp.mb_size) is int
    assert warnings == []
    with pytest.raises(FrozenInstanceError):
        exp.lr = 1.0  # type: ignore[misc]


def test_the_scenario_is_resolved(written: Write) -> None:
    path = written("[A]\nscenario = auto\n[B]\nscenario = class\n")
    assert config.load("A", path)[0].scenario == "domain"
    assert config.load("A", path, ["mnist_mode=split", "num_batch=5"])[0].scenario == "task"
    assert config.load("A", path, ["benchmark=cifar", "num_batch=5"])[0].scenario == "task"
    assert config.load("A", path, ["benchmark=cifar100"])[0].scenario == "task"
    assert config.load("B", path)[0].scenario == "class"


def test_as_dict_is_plain(written: Write) -> None:
    exp, _ = config.load("A", written("[A]\n"), ["lr=0.5"])
    values = config.as_dict(exp)
    assert values["name"] == "A"
    assert values["lr"] == 0.5
    assert set(values) == {"name", *exp.keys}
    assert values["momentum"] == 0.9 and "adam_beta1" not in values


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "mnist_mode = splt",
            ", line 2 [A]: mnist_mode = 'splt': choose perm, split or rotate; did you",
        ),
        ("percent_on = 1", ", line 2 [A]: percent_on = '1': there is no key 'percent_on'; did you"),
        ("LR = 1", ", line 2 [A]: LR = '1': there is no key 'LR'; did you mean 'lr'?"),
        ("xyz = 1", ", line 2 [A]: xyz = '1': there is no key 'xyz' (--explain lists them all)"),
        ("lr = ", ", line 2 [A]: lr = '': choose a number above 0, at most 100"),
        ("lr = '0.1'", ", line 2 [A]: lr = ''0.1'': choose a number above 0, at most 100 (values "),
        ("lr = 1\n  seed = 2", ", line 2 [A]: lr = '1\\nseed = 2': choose a number above 0, at mo"),
        ("description = a\n  seed = 2", ", line 2 [A]: description = 'a\\nseed = 2': choose text "),
        ("hidden_units = 4e9", ", line 2 [A]: hidden_units = '4e9': choose a whole number from 1"),
        (
            "mnist_mode = split\nnum_batch = 6",
            ", line 3 [A]: num_batch = '6': mnist can be split into 1",
        ),
        ("momentum = 0", ", line 2 [A]: momentum = '0': nesterov needs momentum; set momentum"),
    ],
)
def test_errors_name_file_line_section_and_key(written: Write, lines: str, message: str) -> None:
    assert error(written(f"[A]\n{lines}\n")).startswith(message)


def test_errors_of_overrides(written: Write) -> None:
    path = written("[A]\nnum_batch = 5\n")
    assert error(path, "lr=abc") == "--set lr=abc: choose a number above 0, at most 100"
    assert error(path, "lrr=1").startswith("--set lrr=1: there is no key 'lrr'; did you mean 'lr'?")
    assert error(path, "lr").startswith("--set 'lr': write key=value")
    assert error(path, "lr=abc", "lr=1").startswith("--set lr=abc")
    assert error(path, "momentum=0").startswith("--set momentum=0: nesterov needs momentum")
    message = error(written("[A]\nnum_batch = 10\n"), "mnist_mode=split")
    assert message.startswith(
        "--set mnist_mode=split: mnist can be split into 1, 2, 3, 4 or 5 tasks"
    )
    message = error(written("[A]\n"), "mnist_mode=split")
    assert message.startswith(
        "--set mnist_mode=split: mnist can be split into 1, 2, 3, 4 or 5 tasks"
    )


def test_unknown_sections(written: Write) -> None:
    path = written("[SplitMNIST]\n[Other]\n")
    message = error(path, name="splitmnist")
    assert message == (
        ": there is no section [splitmnist]; did you mean 'SplitMNIST'?"
        " choose with --name: SplitMNIST, Other"
    )
    assert "there is no section [DEFAULT]" in error(path, name="DEFAULT")


def test_only_the_section_and_default_need_be_right(written: Write) -> None:
    path = written("[DEFAULT]\nlr = 1\n[A]\n[B]\nlr = x\nnope = 1\n")
    assert config.load("A", path)[0].lr == 1
    path = written("[DEFAULT]\nlr = x\n[A]\nlr = 1\n")
    assert error(path).startswith(", line 2 [DEFAULT]: lr = 'x': choose")


def test_check_finds_every_fault_once(written: Write) -> None:
    path = written(
        "[DEFAULT]\nlr = x\n[A]\nnope = 1\nseed = -1\n[B]\nmomentum = 0\n[C]\ndata = full\n"
    )
    found = [e.removeprefix(str(path)) for e in config.check(path)[0]]
    assert [e.split(":")[0] for e in found] == [
        ", line 2 [DEFAULT]",
        ", line 4 [A]",
        ", line 5 [A]",
    ]
    path = written("[A]\nmomentum = 0\ndata = sample\n[B]\n[C]\ndata = full\n")
    errors, warnings = config.check(path)
    assert [e.removeprefix(str(path)).split(":")[0] for e in errors] == [
        ", line 3 [A]",
        ", line 2 [A]",
    ]
    assert [w.removeprefix(str(path)).split(":")[0] for w in warnings] == [", line 6 [C]"]


def test_check_of_some_sections_with_changes(written: Write) -> None:
    path = written("[A]\nlr = x\n[B]\n[C]\ncnn = true\n")
    assert config.check(path, ["B"]) == ([], [])
    assert config.check(path, ["B", "C"], ["hidden_units=20", "percent_on_fc=0.1"]) == ([], [])
    [error], _ = config.check(path, ["C"], ["context=prototype"])
    assert "400 channels of a task are more than the 64" in error
    [error], _ = config.check(path, ["Bb"])
    assert "there is no section [Bb]" in error
    [error], _ = config.check(path, ["B"], ["nope=1"])
    assert "nope" in error


def test_check_of_files_that_cannot_be_read(written: Write) -> None:
    path = written("[A]\n[A]\n")
    assert config.check(path)[0] == [
        f"{path}, line 2 [A]: a section of this name came before; join the two or rename one"
    ]
    assert config.check(path.with_name("nowhere.cfg"))[0][0].endswith("there is no such file")


def test_sections_and_their_own_descriptions(written: Write) -> None:
    path = written("[B]\n[DEFAULT]\ndescription = first\n[A]\ndescription = one,\n   more\n")
    assert config.sections(path) == {"DEFAULT": "first", "B": "", "A": "one, more"}
    assert list(config.sections(path)) == ["DEFAULT", "B", "A"]


@pytest.mark.parametrize(
    ("lines", "idle"),
    [
        ("percent_on_conv = 0.1", ["percent_on_conv"]),
        ("cnn = true\nhidden_layers = 2", ["hidden_layers"]),
        ("cnn = true\npercent_on_conv = 0.1\nweight_sparsity_conv = 0.9", []),
        ("sparsify = false\npercent_on_fc = 0.1", ["percent_on_fc"]),
        ("sparsify = false\ncnn = true\npercent_on_conv = 0.1", ["percent_on_conv"]),
        (
            "sparsify = no\nweight_sparsity_fc = 1\nweight_sparsity_conv = 1\nsparse_layers = own",
            ["weight_sparsity_fc", "weight_sparsity_conv", "sparse_layers"],
        ),
        (
            "sparsify = no\nk_inference_factor = 1\nboost_strength = 0\nduty_cycle_period = 9",
            ["k_inference_factor", "boost_strength", "duty_cycle_period"],
        ),
        (
            "boost_strength = 0\nboost_strength_factor = 1\nduty_cycle_period = 9",
            ["boost_strength_factor"],
        ),
        (
            "sparsify = no\ncontext = prototype\ncontext_units = 9\ndynamic = grow\ngrow_every = 2",
            ["context", "context_units", "dynamic", "grow_every"],
        ),
        (
            "context = prototype\ncontext_units = 9\ncontext_overlap = 0.5\nnum_batch = 1",
            ["context_overlap"],
        ),
        ("class_order = random\ndata = full", ["class_order", "data"]),
        ("mnist_mode = split\nnum_batch = 5\nclass_order = random\nscenario = domain", []),
        ("benchmark = cifar\nnum_batch = 5\nmnist_mode = perm\ndata = sample", ["mnist_mode"]),
        ("benchmark = cifar100\ndata = full\nclass_order = random", ["data"]),
        ("cumul = on\ntrain_ep_inc = 2\neval_tasks = all", ["train_ep_inc", "eval_tasks"]),
        ("num_batch = 1\ntrain_ep_inc = 2\neval_tasks = seen", ["train_ep_inc"]),
        ("nesterov = false\nmomentum = 0\nweight_decay = 0\ndevice = cpu\nengine = auto", []),
    ],
)
def test_keys_that_do_nothing(written: Write, lines: str, idle: list[str]) -> None:
    """One warning where they are set, in the section or by --set, but none where inherited."""
    path = written(f"[A]\n{lines}\n[DEFAULT]\n")
    warnings = config.load("A", path)[1]
    assert [named(w.split("]: ")[1].split(" =")[0], w) for w in warnings] == [idle] * bool(idle)

    overrides = lines.split("\n")
    warnings = config.load("DEFAULT", path, overrides)[1]
    found = [named(w.removeprefix("--set ").split("=")[0], w) for w in warnings]
    assert found == [idle] * bool(idle)

    assert config.load("A", written(f"[DEFAULT]\n{lines}\n[A]\n"))[1] == []


def test_an_experiment_in_effect_has_only_what_counts() -> None:
    """What counts through another key that does nothing does nothing either."""
    exp = Experiment(
        name="A", sparsify=False, context="prototype", context_units=9, percent_on_conv=0.5, lr=1.0
    )
    assert exp.in_effect == Experiment(name="A", sparsify=False, lr=1.0)
    assert exp.in_effect.in_effect is exp.in_effect
    assert not exp.counts("context_units")
    assert exp.counts("lr")


def named(first: str, warning: str) -> list[str]:
    """The keys that a warning says do nothing: the first one, and those between brackets."""
    match = re.search(r": does nothing here(?: \(nor do(?:es)? (.*?)\))?; ", warning)
    assert match, warning
    assert "count only with " in warning or "counts only with " in warning
    return [first, *(re.split(", | and ", match[1]) if match[1] else [])]


def test_keys_that_do_nothing_are_one_warning_with_all_reasons(written: Write) -> None:
    lines = "k_inference_factor = 1\nboost_strength = 1\nboost_strength_factor = 1\ndata = full\n"
    path = written(f"[A]\n{lines}")
    assert config.load("A", path, ["sparsify=false"])[1] == [
        f"{path}, line 2 [A]: k_inference_factor = '1': does nothing here (nor do boost_strength,"
        " boost_strength_factor and data); they count only with sparsify; boost_strength_factor"
        " only with sparsify and a boost_strength above 0; data only with benchmark = cifar"
    ]


def test_lines_of_the_projects_file_are_not_the_users(
    written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What --set makes idle in them is no mistake of theirs, but what they wrote themselves is."""
    for name, change in (
        ("SET", "dynamic=none"),
        ("DEFAULT", "expected_acc=none"),
        ("MLP_2LayersSparse", "sparsify=false"),
    ):
        assert config.load(name, overrides=[change])[1] == []
    assert config.check(overrides=["sparsify=false"]) == ([], [])
    [warning] = config.load(overrides=["sparsify=false", "percent_on_fc=0.1"])[1]
    assert warning.startswith("--set percent_on_fc=0.1: does nothing here; ")
    [warning] = config.check(names=["SET"], overrides=["train_ep=1", "train_ep_inc=1"])[1]
    assert warning.startswith("--set train_ep=1: synapses move after every epoch of a task but")

    path = written("[A]\npercent_on_conv = 0.1\npercent_on_fc = 0.1\n")
    [warning] = config.load("A", path, ["sparsify=false"])[1]
    assert ", line 2 [A]: percent_on_conv = '0.1': does nothing here (nor does per" in warning
    monkeypatch.setattr(config, "DEFAULT_FILE", path)
    [warning] = config.load("A", path, ["sparsify=false"])[1]
    assert ", line 2 [A]: percent_on_conv = '0.1': does nothing here; it counts only" in warning


def test_what_tells_about_a_section_is_its_own(written: Write) -> None:
    about = "expected_acc = 90\nexpected_tol = 2.5\nexpected_source = a paper\n"
    path = written(f"[DEFAULT]\n{about}[A]\nlr = 1\n[B]\n{about}")
    for name, expected in (("DEFAULT", (90.0, 2.5, "a paper")), ("A", (None, None, ""))):
        exp, warnings = config.load(name, path)
        assert (exp.expected_acc, exp.expected_tol, exp.expected_source) == expected
        assert warnings == []
    assert config.load("B", path)[0].expected_acc == 90
    exp, _ = config.load("B", path, ["expected_acc=None", "expected_tol=none"])
    assert (exp.expected_acc, exp.expected_tol) == (None, None)


def test_an_expected_accuracy_needs_a_tolerance(written: Write) -> None:
    message = error(written("[A]\nexpected_acc = 90\n"))
    assert message.startswith(", line 2 [A]: expected_acc = '90': say with expected_tol by how")
    [warning] = config.load("A", written("[A]\nexpected_tol = 2\n"))[1]
    assert "expected_tol = '2': does nothing here; it counts only with expected_acc" in warning
    assert "or none" in error(written("[A]\nexpected_acc = high\n"))
    assert "or none" in error(written("[A]\nexpected_acc = 101\n"))


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ([], ()),
        (["lr=0.5"], ()),  # as in the section
        (["lr=0.1", "lr=0.5"], ()),
        (["lr=0.5", "lr=0.1"], ("lr",)),
        (["seed=7", "device=cpu", "engine=dense", "precision=bf16", "eval_tasks=seen"], ()),
        (["checkpoint_every=0", "record_stats=false", "data_dir=elsewhere"], ()),
        (["scenario=domain"], ()),  # what auto stands for
        (["scenario=class", "mb_size=64"], ("scenario", "mb_size")),
        (["percent_on_conv=0.5"], ()),  # does nothing
        (["sparsify=false"], ("sparsify",)),
        (["lr=0.1", "expected_acc=80", "expected_tol=1"], ()),  # expected of just this
    ],
)
def test_keys_that_the_command_line_changed(
    written: Write, overrides: list[str], changed: tuple[str, ...]
) -> None:
    path = written("[A]\nlr = 0.5\n[DEFAULT]\nlr = 0.2\n")
    exp = config.load("A", path, overrides)[0]
    assert exp.changed == changed
    assert "changed" not in config.as_dict(exp)


def test_an_experiment_of_texts_changes_only_by_what_is_given() -> None:
    assert config.from_texts("A", {"lr": "0.5"}).changed == ()
    assert config.from_texts("A", {"lr": "0.5"}, ["lr=0.4"]).changed == ("lr",)


def test_a_run_that_measures_nothing_gives_a_warning(written: Write) -> None:
    path = written("[A]\nbenchmark = cifar\nnum_batch = 10\n")
    [warning] = config.load("A", path)[1]
    assert warning.startswith(f"{path}, line 3 [A]: num_batch = '10': with one class a task")
    assert config.load("A", path, ["scenario=class"])[1] == []


def test_neither_torch_nor_numpy_is_imported() -> None:
    """They take seconds, and --help, --list and --explain have to answer at once."""
    root = Path(config.__file__).parents[1]
    code = "import sys, exps.config; print({'torch', 'numpy'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert output.stdout.strip() == "set()", output.stderr


def loads_or_fails_well(path: Path, overrides: list[str]) -> None:
    try:
        exp, warnings = config.load("A", path, overrides)
    except ConfigError as e:
        assert str(e)
        assert "\n" not in str(e)
    else:
        assert isinstance(exp, Experiment)
        assert all("\n" not in w for w in warnings)


ALL = all_keys()
FRAGMENTS = st.sampled_from(
    [
        *("[A]", "[DEFAULT]", "[", "]", "=", ":", "#", ";", "\n", "\r", " ", "\t", "%", "\x85"),
        *("0", "1", "-1", "1e9", "nan", "true", "auto", "split", "random", "1, 0", "like", *ALL),
    ]
)


@given(st.binary() | st.text().map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_load_or_fail_well(written: Write, content: bytes) -> None:
    loads_or_fails_well(written(content), [])


@given(st.lists(FRAGMENTS | st.text(max_size=3), max_size=30).map("".join))
def test_anything_like_a_file_loads_or_fails_well(written: Write, text: str) -> None:
    loads_or_fails_well(written(f"[A]\n{text}".encode("utf-8", "surrogatepass")), [])


@given(
    st.lists(st.text() | st.tuples(st.sampled_from(list(ALL)), FRAGMENTS | st.text()).map("=".join))
)
def test_any_override_loads_or_fails_well(written: Write, overrides: list[str]) -> None:
    loads_or_fails_well(written("[A]\n"), overrides)


def values(kind: kinds.Kind) -> st.SearchStrategy[Any]:
    """Every value that a kind can hold (of text, without spaces around it)."""
    match kind:
        case kinds.Switch():
            return st.booleans()
        case kinds.Whole():
            return st.integers(kind.low, kind.high)
        case kinds.Number():
            return st.floats(kind.low, kind.high, exclude_min=kind.above, exclude_max=kind.below)
        case kinds.Several():
            return st.lists(values(kind.kind), max_size=4).map(tuple)
        case kinds.OrNone():
            return st.none() | values(kind.kind)
        case kinds.Choice() | plugins.One():
            return st.sampled_from(kind.names)
        case plugins.Some() | kinds.Choices():
            some = st.sets(st.sampled_from(kind.names))
            return some.map(lambda found: tuple(name for name in kind.names if name in found))
        case kinds.Device():
            return st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"])
        case kinds.ClassOrder():
            orders = st.permutations(range(10)).map(tuple)
            return orders | st.sampled_from(["sorted", "random"])
        case kinds.Shares():
            some = st.sets(st.floats(0, 1, exclude_min=True, exclude_max=True), min_size=1)
            return some.map(lambda found: tuple(sorted(found)))
        case kinds.File():
            return st.sampled_from(["none", "/a b/c.pkl", "/a #2.safetensors"])
        case kinds.Folder():
            return st.sampled_from(["data", "/a b/c", "../data", "C:\\data", "/a #2", "/a ;b"])
        case _:
            letters = string.ascii_letters + string.digits + "/=%:[]äß#; "
            return st.text(letters, min_size=1).map(str.strip).filter(bool)


@given(st.fixed_dictionaries({}, optional={name: values(k.kind) for name, k in ALL.items()}))
def test_what_is_written_is_what_is_read(written: Write, chosen: dict[str, Any]) -> None:
    lines = [f"{key} = {config.as_text(value)}" for key, value in chosen.items()]
    path = written("\n".join(["[A]", *lines]))
    exp = Experiment(name="A", **chosen)
    left_out = {*chosen.get("methods", ())} - {*exp.all_methods}
    uneven = chosen.get("num_batch", exp.num_batch) != exp.num_batch
    if left_out or uneven or next(contradictions(exp), None):
        error(path)
    else:
        assert config.load("A", path)[0] == exp
        assert config.load("A", written("[A]"), lines)[0] == exp
