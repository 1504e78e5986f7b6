"""What a terminal that goes away does to a run."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from utils.system.signals import Signals

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")


@pytest.fixture(params=[signal.SIG_DFL, signal.SIG_IGN])
def before(request: pytest.FixtureRequest) -> Iterator[signal.Handlers]:
    """What SIGHUP does when the program begins."""
    kept = signal.signal(signal.SIGHUP, request.param)
    yield request.param
    signal.signal(signal.SIGHUP, kept)


def test_it_counts_as_sigterm_but_for_nohup(before: signal.Handlers) -> None:
    with Signals() as signals:
        signals.patient = True
        signal.raise_signal(signal.SIGHUP)
        ignored = before == signal.SIG_IGN
        assert signals.received == (None if ignored else signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) == before
