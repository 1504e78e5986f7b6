"""Whether results are as expected: what counts, what is said, and the table of a folder."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.results.expected import (
    ABOVE,
    MET,
    NOT_COMPARED,
    NOT_MET,
    UNREADABLE,
    check,
    judge,
    sentence,
)
from utils.results.files import load_results

NAN = float("nan")


def config(expected: Any = 86.6, tolerance: Any = 3.0, source: str = "") -> dict[str, Any]:
    stated = {"expected_acc": expected, "expected_tol": tolerance, "expected_source": source}
    return {"name": "A", **stated}


def seeded(seed: int, *stated: Any) -> dict[str, Any]:
    return config(*stated) | {"seed": seed, "lr": 0.1}


def stats(*last: float, status: str = "complete", changed: tuple[str, ...] = ()) -> dict[str, Any]:
    accs = np.array([[0.1] * len(last), last])
    return {"accs": accs, "meta": {"status": status, "changed": list(changed)}}


def test_a_worked_example() -> None:
    met = judge(config(), stats(0.9, 0.79))
    assert (met.outcome, met.why, met.expected) == (MET, "2.10 points below", "86.6 ± 3 %")
    assert met.accuracy == pytest.approx(84.5)
    assert judge(config(), stats(0.9, 0.9)).why == "3.40 points above"
    assert judge(config(), stats(0.9, 0.9)).outcome == ABOVE
    assert judge(config(), stats(0.9, 0.7)).outcome == NOT_MET


def test_the_sentence_at_the_end_of_a_run() -> None:
    assert sentence(config(source="2019 result"), stats(0.9, 0.79)) == (
        "expected 86.6 ± 3 % (2019 result): met, 84.50 % is 2.10 points below"
    )
    assert sentence(config(90, 1), stats(0.9, 0.79)) == (
        "expected 90 ± 1 %: not met, 84.50 % is 5.50 points below"
    )
    assert sentence(config(), stats(0.9, 0.79, changed=("lr", "mb_size"))) == (
        "expected 86.6 ± 3 %: not compared, for this run has other values of lr and mb_size"
    )
    assert sentence(config(), stats(0.9, NAN, status="interrupted")) == ""
    assert sentence(config(None, None), stats(0.9, 0.79)) == ""


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 1000))
def test_it_is_met_up_to_the_tolerance_itself(right: int, expected: int, tolerance: int) -> None:
    """In hundredths of a point, of 10,000 pictures: rounding decides nothing."""
    verdict = judge(config(expected / 100, tolerance / 100), stats(right / 10_000))
    beyond = ABOVE if right > expected else NOT_MET
    assert verdict.outcome == (MET if abs(right - expected) <= tolerance else beyond)


@pytest.mark.parametrize(
    ("cfg", "found", "why"),
    [
        (config(None, None), stats(0.9), "no expectation"),
        ({"name": "A"}, {"accs": np.array([[0.5]])}, "no expectation"),  # of 2019
        ({"expected_acc": "90"}, {"accs": [0.5]}, "no expectation"),
        (config(), stats(0.9, status="diverged"), "cut short (diverged)"),
        (config(), stats(0.9, changed=("lr",)), "other values (lr)"),
    ],
)
def test_what_cannot_be_compared(cfg: dict[str, Any], found: dict[str, Any], why: str) -> None:
    verdict = judge(cfg, found)
    assert (verdict.outcome, verdict.why) == (NOT_COMPARED, why)


def test_tasks_that_were_not_tested_do_not_count() -> None:
    assert judge(config(80, 0), stats(0.9, 0.7, NAN)).outcome == MET
    assert judge(config(), stats(NAN, NAN)).outcome == UNREADABLE
    assert judge(config(), stats(0.9, 1.5)).outcome == UNREADABLE  # no share of pictures
    assert judge(config(), {"accs": "none", "meta": {}}).outcome == UNREADABLE


def save(path: Path, *result: Any) -> None:
    path.write_bytes(pickle.dumps(list(result)))


def test_the_table_of_a_folder(tmp_path: Path) -> None:
    save(tmp_path / "a.pkl", config(), stats(0.866))
    save(tmp_path / "b.pkl", config(None, None), stats(0.5))
    save(tmp_path / "c.pkl", config(), stats(0.9, status="interrupted"))
    save(tmp_path / "d.pkl", config(), stats(0.9, changed=("lr",)))
    (tmp_path / "not a result.txt").touch()
    table, good = check(tmp_path)
    assert good
    assert [" ".join(line.split()) for line in table.splitlines()] == [
        "result section accuracy expected verdict",
        "a.pkl A 86.60 % 86.6 ± 3 % met: 0.00 points above",
        "b.pkl A 50.00 % - not compared: no expectation",
        "c.pkl A - 86.6 ± 3 % not compared: cut short (interrupted)",
        "d.pkl A 90.00 % 86.6 ± 3 % not compared: other values (lr)",
        "1 met, 0 not met, 3 not compared",
    ]
    assert check(tmp_path / "a.pkl")[1]
    assert not check(tmp_path / "b.pkl")[1], "nothing was shown to be as expected"
    save(tmp_path / "e.pkl", config() | {"name": "E"}, stats(0.9))
    table, good = check(tmp_path)
    assert good
    assert table.endswith(
        "86.6 ± 3 %  3.40 points above\n1 met, 1 above, 0 not met, 3 not compared"
    )
    save(tmp_path / "e.pkl", config() | {"name": "E"}, stats(0.5))
    table, good = check(tmp_path)
    assert not good
    assert table.endswith("1 met, 1 not met, 3 not compared")
    (tmp_path / "e.pkl").write_bytes(b"not a pickle")
    table, good = check(tmp_path)
    assert not good
    assert "e.pkl" in table
    assert table.endswith("1 met, 0 not met, 3 not compared, 1 unreadable")


def test_seeds_count_by_their_mean(tmp_path: Path) -> None:
    """One of three is below by 6 points: that is chance, which a mean of many expects."""
    for seed, accuracy in enumerate((0.80, 0.88, 0.90)):
        save(tmp_path / f"a{seed}.pkl", seeded(seed), stats(accuracy))
    table, good = check(tmp_path)
    assert good
    assert [" ".join(line.split()) for line in table.splitlines()[1:]] == [
        "a0.pkl A 80.00 % 86.6 ± 3 % 6.60 points below",
        "a1.pkl A 88.00 % 86.6 ± 3 % 1.40 points above",
        "a2.pkl A 90.00 % 86.6 ± 3 % 3.40 points above",
        "mean of 3 seeds A 86.00 % 86.6 ± 3 % met: 0.60 points below",
        "1 met, 0 not met, 0 not compared",
    ]
    # A seed counts once, by its latest result, whatever that is called.
    late = stats(0.5)
    late["meta"]["started"] = "2026-01-02"
    save(tmp_path / "0.pkl", seeded(0), late)
    table, good = check(tmp_path)
    assert not good and table.endswith("0 met, 1 not met, 0 not compared")
    assert "does not count: there is a later one of seed 0" in table
    save(tmp_path / "c.pkl", seeded(3, 60, 5), stats(0.6))  # expected otherwise: by itself
    save(tmp_path / "d.pkl", seeded(4) | {"lr": 0.2}, stats(0.86))  # and so is another experiment
    table, good = check(tmp_path)
    assert not good and table.endswith("2 met, 1 not met, 0 not compared")


def told(accuracy: float, **meta: str) -> dict[str, Any]:
    found = stats(accuracy)
    found["meta"] |= meta
    return found


def test_results_of_other_data_do_not_share_a_mean(tmp_path: Path) -> None:
    save(tmp_path / "0.pkl", seeded(0), told(0.866, data="a"))
    save(tmp_path / "1.pkl", seeded(1), told(0.5, data="b"))
    table, good = check(tmp_path)
    assert (
        not good and "mean of" not in table and table.endswith("1 met, 1 not met, 0 not compared")
    )


def test_the_mean_of_several_versions_says_so(tmp_path: Path) -> None:
    for seed, code in enumerate("abb"):
        save(tmp_path / f"{seed}.pkl", seeded(seed), told(0.866, code=code))
    assert "(2 versions of the program)\n1 met" in check(tmp_path)[0]


def test_the_latest_run_is_so_by_the_clock_and_not_by_its_text(tmp_path: Path) -> None:
    save(tmp_path / "a.pkl", seeded(0), told(0.5, started="2026-01-02T10:00:00+09:00"))
    save(tmp_path / "b.pkl", seeded(0), told(0.866, started="2026-01-02T04:00:00+00:00"))
    table, good = check(tmp_path)
    assert good and table.endswith("1 met, 0 not met, 0 not compared")


Call = Callable[..., tuple[int, str, str]]


OWN = (
    "[Mine]\nbenchmark = cifar\ndata = sample\nnum_batch = 2\nhidden_units = 20\n"
    "percent_on_fc = 0.1\ntrain_ep = 1\ntrain_ep_inc = 1\n"
    "expected_acc = 50\nexpected_tol = {}\nexpected_source = a guess\n"
)


def test_from_a_section_to_the_exit_status(call: Call, tmp_path: Path) -> None:
    own = tmp_path / "own.cfg"
    own.write_text(OWN.format(50))
    mine = ["--config", str(own), "--name", "Mine"]
    assert call("--check-results")[0] == 2
    status, out, _ = call(*mine, "--seed", "3", "--set", "precision=bf16")
    assert status == 0
    assert "\nexpected 50 ± 50 % (a guess): met, " in out
    status, out, _ = call(*mine, "--set", "lr=0.01")
    assert "not compared, for this run has other values of lr\n" in out
    own.unlink()  # the results need no configuration file
    status, out, err = call("--check-results")
    assert (status, err) == (0, "")
    assert out.endswith("1 met, 0 not met, 1 not compared\n")
    own.write_text(OWN.replace("expected_acc = 50", "expected_acc = 99").format(0.0001))
    assert "): not met, " in call(*mine)[1]
    status, out, err = call("--check-results", str(tmp_path / "r"))
    assert (status, err) == (1, "")
    assert out.endswith("1 met, 1 not met, 1 not compared\n")


def test_nothing_to_check_is_wrong_input(call: Call, tmp_path: Path) -> None:
    for folder, why in ((tmp_path, "no file *.pkl"), (tmp_path / "nowhere", "no such folder")):
        status, out, err = call("--check-results", str(folder))
        assert (status, out) == (2, "")
        what, reason, remedy = err.splitlines()
        assert what == f"error: {folder}: no results to check"
        assert why in reason
        assert "--check-results DIR" in remedy


def test_an_expectation_may_change_while_a_run_is_interrupted(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes no number. What the command line changed at first is known afterwards."""
    own = tmp_path / "own.cfg"
    own.write_text(OWN.format(10))
    mine = ["--config", str(own), "--name", "Mine", "--set", "lr=0.05"]
    from utils.runs.keeper import Keeper
    from utils.system.signals import Stopped

    original = Keeper.__call__

    def stopping(self: Any, done: bool) -> None:
        original(self, done)
        if done:
            self.flush()
            raise Stopped(2)

    monkeypatch.setattr(Keeper, "__call__", stopping)
    assert call(*mine)[0] == 130
    monkeypatch.undo()
    own.write_text(OWN.format(50).replace("a guess", "another guess"))
    status, _, err = call(*mine, "--resume")
    assert (status, err) == (0, "")
    (path,) = (tmp_path / "r").glob("*.pkl")
    found, measured = load_results(path)
    assert (found["expected_tol"], found["expected_source"]) == (50, "another guess")
    assert measured["meta"]["changed"] == ["lr"]
    assert judge(found, measured).why == "other values (lr)"
