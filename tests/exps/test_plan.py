"""Which runs a command asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exps import cli
from exps.messages import ConfigError
from exps.plan import parse_axis, parse_seeds, plan

TWO = "[DEFAULT]\n[Sparse]\npercent_on_fc = 0.1\n[Dense]\nsparsify = false\n"
Make = Callable[..., tuple[list[str], list[str]]]


@pytest.fixture
def planned(written: Callable[[str | bytes], Path]) -> Make:
    """The names of the runs that these options ask for, and the notes."""

    def make(*arguments: str) -> tuple[list[str], list[str]]:
        args = cli.parser(Path("r")).parse_args([*arguments, "--config", str(written(TWO))])
        assert cli.wants_many(args)
        runs, notes = plan(args)
        return [run.label for run in runs], notes

    return make


def test_a_pattern_is_all_sections_that_match() -> None:
    words = ["--name", "Contexts*", "--name", "SET", "--name", "Conte?ts"]
    found = cli.names(cli.parser(Path("results")).parse_args(words))
    assert found == [
        *("Contexts", "ContextsDense", "ContextsStatic", "Contexts25", "ContextsDense25"),
        *("Contexts50", "Contexts100", "ContextsGrowth"),
        *("SET", "Contexts"),
    ]
    assert cli.names(cli.parser(Path("results")).parse_args([])) is None


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [3]),
        ("0-4,7", [0, 1, 2, 3, 4, 7]),
        (" 5 , 1 - 2", [5, 1, 2]),
        ("1,0-2,1", [1, 0, 2]),
        ("4294967295", [2**32 - 1]),
    ],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is neither a seed nor a range"),
        ("1,,2", "'' is neither"),
        ("a-b", "'a-b' is neither"),
        ("-1", "'-1' is neither"),
        ("3-1", "the range 3-1 is empty"),
        ("4294967296", "4294967296: choose a whole number"),
        ("0-4294967295", "more than 10000 seeds"),
    ],
)
def test_wrong_seeds(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_seeds(text)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=20))
def test_a_list_of_seeds_is_that_list_without_repetitions(seeds: list[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds))) == list(dict.fromkeys(seeds))


def test_values_of_a_key() -> None:
    key, entries = parse_axis("lr = 0.05, 0.1")
    assert (key, [e.text for e in entries]) == ("lr", ["0.05", "0.1"])
    key, entries = parse_axis("class_order=0,1;1,0")
    assert [e.text for e in entries] == ["0,1", "1,0"]
    for wrong in ("lr", "lr=", "=1", "lr=1,,2", "checkpoint_every=1,2"):
        with pytest.raises(ConfigError, match="--grid"):
            parse_axis(wrong)


def test_all_combinations(planned: Make) -> None:
    labels, notes = planned(
        "--name", "Sparse", "--seeds", "0,3", "--grid", "lr=0.05,0.1", "--grid", "mb_size=8,16"
    )
    assert labels[:3] == [
        "Sparse lr=0.05 mb_size=8 seed 0",
        "Sparse lr=0.05 mb_size=8 seed 3",
        "Sparse lr=0.05 mb_size=16 seed 0",
    ]
    assert (len(labels), len(set(labels)), notes) == (8, 8, [])


def test_a_key_that_does_nothing_in_a_section_multiplies_nothing(planned: Make) -> None:
    labels, notes = planned(
        "--name", "Sparse", "--name", "Dense", "--grid", "percent_on_fc=0.01,0.1"
    )
    assert labels == [
        "Sparse percent_on_fc=0.01 seed 0",
        "Sparse percent_on_fc=0.1 seed 0",
        "Dense seed 0",
    ]
    assert "--grid percent_on_fc: does nothing in [Dense]" in notes[0]


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [
        (["--name", "Sparse", "--grid", "sparsify=true,false"], []),
        (
            [
                "--name",
                "Sparse",
                *["--grid", "sparsify=true,false", "--grid", "percent_on_fc=0.1,0.2"],
            ],
            [],
        ),
        (["--name", "Sparse", "--name", "Dense", "--set", "percent_on_fc=0.2"], []),
        (["--name", "Dense", "--seeds", "0,1", "--set", "percent_on_fc=0.2"], ["--set percent"]),
        (["--name", "Sparse", "--seeds", "0", "--set", "sparsify=false"], ["line 3 [Sparse]: per"]),
    ],
)
def test_what_counts_in_one_of_the_runs_is_no_mistake(
    planned: Make, arguments: list[str], warned: list[str]
) -> None:
    notes = [note for note in planned(*arguments)[1] if not note.startswith("of ")]
    assert len(notes) == len(warned)
    for note, words in zip(notes, warned, strict=True):
        assert words in note
        assert "does nothing here" in note


def test_what_contexts_and_the_entropy_are_made_from_counts_without_boosting(planned: Make) -> None:
    labels, notes = planned(
        *["--name", "Sparse", "--set", "boost_strength=0", "--set", "context=prototype"],
        *["--grid", "duty_cycle_period=10,1000"],
    )
    assert (len(labels), notes) == (2, [])


def test_repetitions_count_once(planned: Make) -> None:
    labels, notes = planned(
        "--name", "Dense", "--name", "Dense", "--seeds", "1,1", "--grid", "lr=0.1,0.10"
    )
    assert labels == ["Dense lr=0.1 seed 1"]
    assert notes == ["of 4 combinations 1 differ: each of these is run once"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--grid", "lrr=1,2"], r"2 faults.*\n  --grid lrr=1: there is no key 'lrr'; did you mean"),
        (["--grid", "lr=1,fast"], "^--grid lr=fast: choose a number"),
        (["--grid", "momentum=0.5,0"], "--grid momentum=0: nesterov needs momentum"),
        (["--grid", "lr=1", "--grid", "lr=2"], "lr is given by --grid and by --grid"),
        (["--grid", "lr=1", "--set", "lr=2"], "lr is given by --set and by --grid"),
        (["--seeds", "1", "--seed", "2"], "seed is given by --seed and by --seeds"),
        (["--seeds", "1", "--grid", "seed=2"], "seed is given by --grid and by --seeds"),
        (["--seeds", "1", "--name", "Dense", "--name", "Dens"], "no section .Dens.; did you mean"),
        (["--address", "auto"], "add --executor ray"),
        (["--seeds", "1", "--resume"], "--resume is for a single run"),
        (["--seeds", "0-999", "--grid", "lr=" + ",".join(["1"] * 11)], "11000 runs"),
    ],
)
def test_wrong_plans(planned: Make, arguments: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        planned(*arguments)


@pytest.mark.parametrize(
    ("arguments", "many"),
    [
        ([], False),
        (["--name", "A", "--seed", "1", "--set", "lr=1", "--quiet"], False),
        (["--name", "A", "--name", "B"], True),
        (["--seeds", "1"], True),
        (["--seeds", ""], True),
        (["--jobs", "1"], True),
        (["--again"], True),
    ],
)
def test_when_a_command_is_of_many_runs(arguments: list[str], many: bool) -> None:
    assert cli.wants_many(cli.parser(Path("r")).parse_args(arguments)) is many


def test_options_that_each_run_gets() -> None:
    args = cli.parser(Path("r")).parse_args(["--log-level=debug", "--csv=rows/"])
    assert cli.handed_on(args) == ["--log-level=debug", "--csv=rows/"]
    assert set(cli.PER_RUN) <= set(vars(args))
