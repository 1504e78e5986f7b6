"""What an epoch looked like, against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.engines.meter import EpochRecord, Meter

CPU = torch.device("cpu")
UP = torch.tensor([[0.0, 1.0]])  # predicts class 1


def add(meter: Meter, loss: float, labels: list[int]) -> None:
    meter.add(torch.tensor(loss), UP.expand(len(labels), 2), torch.tensor(labels))


def read_after(*losses: float) -> EpochRecord:
    meter = Meter(len(losses), 1, CPU)
    for loss in losses:
        add(meter, loss, [0])
    return meter.read(np.zeros(0))


def test_a_worked_epoch() -> None:
    meter = Meter(2, 4, CPU)
    meter.add_activity(torch.tensor([[1.0, 0.0, -2.0, 0.0], [3.0, 0.0, 0.0, 0.0]]))
    add(meter, 1.0, [1, 0])
    meter.add_activity(torch.tensor([[0.5, 0.5, 0.0, 0.0]]))  # a short last batch
    add(meter, 4.0, [1])
    epoch = meter.read(np.zeros(0))
    assert epoch.loss == 2.0  # (2 · 1 + 1 · 4) / 3: by count
    assert epoch.accuracy == pytest.approx(2 / 3)
    assert epoch.active == pytest.approx(43.75)  # the mean of 3/8 and 2/4, in percent
    assert epoch.active_std == pytest.approx(6.25)
    assert epoch.unit_on.tolist() == [3, 1, 1, 0]
    assert epoch.unit_on.dtype == "int64"
    assert epoch.bad_step is None


def test_winners_count_as_the_activity_they_stand_for() -> None:
    meter = Meter(1, 4, CPU)
    index = torch.tensor([[2, 0], [3, 2]])
    meter.add_winners(index, torch.tensor([[-1.0, 0.0], [0.5, 2.0]]))  # unit 0 was dropped
    add(meter, 1.0, [0, 0])
    epoch = meter.read(np.zeros(0))
    assert epoch.unit_on.tolist() == [0, 0, 2, 1]
    assert epoch.active == pytest.approx(100 * 3 / 8)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 5), st.integers(0, 2**16)
)
def test_winners_and_activity_agree(batches: list[int], k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    by_index, by_value = Meter(len(batches), 8, CPU), Meter(len(batches), 8, CPU)
    for batch in batches:
        index = torch.rand(batch, 8, generator=generator).topk(k, 1).indices
        value = torch.randint(-1, 2, (batch, k), generator=generator).float()
        by_index.add_winners(index, value)
        by_value.add_activity(torch.zeros(batch, 8).scatter_(1, index, value))
        for meter in (by_index, by_value):
            add(meter, 1.0, [0] * batch)
    one, two = by_index.read(np.zeros(0)), by_value.read(np.zeros(0))
    assert one.unit_on.tolist() == two.unit_on.tolist()
    assert (one.active, one.active_std) == (two.active, two.active_std)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_the_first_step_that_is_not_finite(bad: float) -> None:
    assert read_after(1.0, bad, 2.0, math.nan).bad_step == 1
    assert read_after(bad).bad_step == 0


def test_steps_that_were_announced_and_not_made_do_not_count() -> None:
    meter = Meter(5, 2, CPU)
    meter.add_activity(torch.tensor([[1.0, 0.0]]))
    add(meter, 3.0, [1])
    epoch = meter.read(np.zeros(0))
    assert (epoch.loss, epoch.accuracy) == (3.0, 1.0)
    assert (epoch.active, epoch.active_std) == (50.0, 0.0)


def test_a_meter_can_begin_anew() -> None:
    meter = Meter(2, 2, CPU)
    for _ in range(2):
        meter.add_activity(torch.ones(1, 2))
        add(meter, math.nan, [1])
    meter.reset()
    meter.add_activity(torch.tensor([[0.0, 1.0]]))
    add(meter, 3.0, [0])
    epoch = meter.read(np.zeros(0))
    assert (epoch.loss, epoch.accuracy, epoch.bad_step) == (3.0, 0.0, None)
    assert (epoch.active, epoch.unit_on.tolist()) == (50.0, [0, 1])


def test_counting_waits_for_no_device() -> None:
    meter = Meter(1, 3, torch.device("meta"))  # tensors without values: reading one raises
    meter.add_activity(torch.ones(2, 3, device="meta"))
    meter.add_winners(
        torch.ones(2, 1, dtype=torch.int64, device="meta"), torch.ones(2, 1, device="meta")
    )
    labels = torch.zeros(2, dtype=torch.int64, device="meta")
    meter.add(torch.ones((), device="meta"), torch.ones(2, 2, device="meta"), labels)
    with pytest.raises(RuntimeError):
        meter.read(np.zeros(0))


def test_no_gradient_is_kept() -> None:
    meter = Meter(1, 2, CPU)
    features = torch.ones(1, 2, requires_grad=True)
    meter.add_activity(features)
    meter.add(features.sum(), features, torch.tensor([0]))
    assert not meter.losses.requires_grad
    assert not meter.active.requires_grad
