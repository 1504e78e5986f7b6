"""How long many runs still take, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.many.pace import Far, Pace


def test_nothing_is_said_of_what_is_not_known() -> None:
    pace = Pace({0: "A"}, {0: Far(0.5, 50.0)})
    assert pace.left(10.0) is None
    pace.reached(0, Far(0.5, 50.0))
    assert pace.left(10.0) is None


def test_each_group_at_its_own_pace() -> None:
    """A run of A takes 10 s, one of B 100; two at a time."""
    pace = Pace({0: "A", 1: "A", 2: "B", 3: "B"}, dict.fromkeys(range(4), Far()))
    pace.ended(0, 10.0)
    pace.reached(2, Far(0.1, 10.0))
    # left: A 10, B 90 and 100, at two seconds of runs a second
    assert pace.left(10.0) == pytest.approx((10 + 90 + 100) / 2)


def test_an_unknown_group_is_like_the_others() -> None:
    pace = Pace({0: "A", 1: "B"}, {0: Far(), 1: Far()})
    pace.ended(0, 30.0)
    assert pace.left(30.0) == pytest.approx(30.0)


def test_what_was_done_before_says_how_long_the_rest_takes() -> None:
    pace = Pace({0: "A"}, {0: Far(0.5, 50.0)})
    pace.reached(0, Far(0.6, 60.0))
    assert pace.left(10.0) == pytest.approx(40.0)


def test_a_run_that_failed_teaches_nothing_and_leaves_no_work() -> None:
    pace = Pace({0: "A", 1: "A"}, {0: Far(), 1: Far()})
    pace.reached(0, Far(0.2, 20.0))
    pace.ended(0, None)
    assert pace.left(20.0) is None
    pace.reached(1, Far(0.1, 10.0))
    assert pace.left(30.0) == pytest.approx(90.0)


def test_a_run_never_goes_back() -> None:
    pace = Pace({0: "A"}, {0: Far(0.5, 50.0)})
    pace.reached(0, Far(0.2, 20.0))
    assert pace.far[0] == Far(0.5, 50.0)


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=8), st.floats(1, 1000))
def test_equal_runs_need_what_their_shares_say(shares: list[float], whole: float) -> None:
    pace = Pace(dict.fromkeys(range(len(shares)), "A"), dict.fromkeys(range(len(shares)), Far()))
    for number, share in enumerate(shares):
        pace.reached(number, Far(share, share * whole))
    passed = sum(shares) * whole  # one at a time
    assert pace.left(passed) == pytest.approx(whole * sum(1 - s for s in shares))
