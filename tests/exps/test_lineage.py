"""Sections that start from others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from exps import config
from exps.config import ConfigError
from exps.plugins import PluginError

Write = Callable[[str | bytes], Path]

FILE = """[DEFAULT]
description = of all
seed = 3
lr = 0.5
[A]
like = B  # the nearest
description = its own
mb_size = 8
[B]
like = C
description = of B
expected_acc = 90
expected_tol = 1
mb_size = 16
hidden_units = 1000
[C]
hidden_units = 2000
lr = 0.25
"""


def test_the_nearest_section_that_sets_a_value_counts(written: Write) -> None:
    exp, warnings = config.load("A", written(FILE))
    assert (exp.mb_size, exp.hidden_units, exp.lr, exp.seed) == (8, 1000, 0.25, 3)
    assert warnings == []


def test_what_tells_about_a_section_is_not_inherited(written: Write) -> None:
    path = written(FILE)
    assert (config.load("A", path)[0].description, config.load("C", path)[0].description) == (
        "its own",
        "",
    )
    assert config.load("A", path)[0].expected_acc is None
    assert config.sections(path)["C"] == ""


def test_only_the_values_are_part_of_an_experiment(written: Write) -> None:
    """The same ones written out make the same experiment."""
    exp = config.load("A", written(FILE))[0]
    lines = "description = its own\nmb_size = 8\nhidden_units = 1000\nlr = 0.25\nseed = 3\n"
    assert config.load("A", written(f"[A]\n{lines}"))[0] == exp
    assert "like" not in config.as_dict(exp)


def test_what_default_sets_is_as_before(written: Write) -> None:
    path = written("[DEFAULT]\nseed = 3\n[A]\nlike = DEFAULT\n[B]\n")
    one, other = (config.load(name, path)[0] for name in "AB")
    assert replace(one, name="B") == other


def test_messages_name_the_line_where_a_value_was_written(written: Write) -> None:
    path = written("[A]\nlike = B\nlr = 1\n[B]\nlr = x\n[C]\nmomentum = 0\n[D]\nlike = C\n")
    assert config.check(path)[0] == [
        f"{path}, line 5 [B]: lr = 'x': choose a number above 0, at most 100",
        config.check(path, ["C"])[0][0],
    ]
    assert f"{path}, line 7 [C]: momentum = '0': nesterov needs" in config.check(path, ["D"])[0][0]


def test_what_does_nothing_is_told_of_a_sections_own_lines(written: Write) -> None:
    path = written("[A]\nlike = B\n[B]\npercent_on_conv = 0.5\n")
    assert config.load("A", path)[1] == []
    [warning] = config.check(path)[1]
    assert warning.startswith(f"{path}, line 4 [B]: percent_on_conv = '0.5': does nothing here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[A]\nlike = Othr\n[Other]\n",
            ", line 2 [A]: like = 'Othr': there is no section [Othr]; did you mean 'Other'?"
            " (--list shows them all)",
        ),
        ("[A]\nlike = DEFAULT\n", ", line 2 [A]: like = 'DEFAULT': there is no section [DEFAULT]"),
        ("[A]\nlike =\n", ", line 2 [A]: like = '': there is no section []"),
        ("[A]\nlike = A\n", ", line 2 [A]: like = 'A': goes round in a circle: A like A"),
        (
            "[B]\nlike = C\n[A]\nlike = B\n[C]\nlike = B\n",
            ", line 2 [B]: like = 'C': goes round in a circle: B like C like B",
        ),
        (
            "[A]\n[DEFAULT]\nlike = A\n",
            ", line 3 [DEFAULT]: like = 'A': every section starts from [DEFAULT], and it from none",
        ),
        ("[A]\nLike = B\n[B]\n", ", line 2 [A]: Like = 'B': there is no key 'Like'; did you mean"),
        ("[A]\nlike = B\nlike = B\n[B]\n", ", line 3 [A]: like is set a second time"),
    ],
)
def test_faults(written: Write, text: str, message: str) -> None:
    path = written(text)
    with pytest.raises(ConfigError) as raised:
        config.load("A", path)
    assert str(raised.value).startswith(f"{path}{message}")
    assert config.check(path)[0] == [str(raised.value)]  # once, also for all of a circle


def test_a_fault_elsewhere_stops_no_other_section(written: Write) -> None:
    path = written("[A]\n[B]\nlike = Nowhere\n")
    assert config.load("A", path)[1] == []
    assert list(config.sections(path)) == ["A", "B"]


def test_a_long_circle_is_told_on_one_line(written: Write) -> None:
    many = "".join(f"[{i}]\nlike = {(i + 1) % 5000}\n" for i in range(5000))
    with pytest.raises(ConfigError, match=r"goes round in a circle: 0 like 1 like .*\.\.\.$"):
        config.load("7", written(many))


def test_the_command_line_cannot_set_it(written: Write) -> None:
    path = written("[A]\n[B]\n")
    with pytest.raises(ConfigError, match=r"^--set like=B: only a section of a file is like"):
        config.load("A", path, ["like=B"])


def test_no_file_can_declare_a_key_of_this_name(written: Write, tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "from exps.keys import Key\nfrom exps.kinds import Switch\nfrom utils.methods import base\n"
        "KEYS = {'like': Key(False, Switch(), 'no')}\nclass Method(base.Method): pass\n"
    )
    with pytest.raises(PluginError, match="there is a key 'like' already"):
        config.Experiment("A", methods=(str(file),)).keys  # noqa: B018
