"""One pass over the memory computes what several operations of torch do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from utils.engines import passes

SIZES = [(7,), (passes.MANY,), (3, passes.MANY // 2 + 1), (64, 32, 8, 8)]


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def numbers(shape: tuple[int, ...], *, last: bool) -> list[Tensor]:
    """p with a gradient, and two more; last: as a convolution's weights with channels last."""
    torch.manual_seed(0)
    made = [torch.randn(shape) for _ in range(4)]
    if last and len(shape) == 4:
        made = [x.to(memory_format=torch.channels_last) for x in made]
    p, g, *others = made
    p.requires_grad_().grad = g
    return [p, *others]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_a_pull(shape: tuple[int, ...], last: bool, threads: int) -> None:
    p, strength, anchor = numbers(shape, last=last)
    right = p.grad.double() + strength.double() * (p.double() - anchor.double())
    passes.pull(p, strength, anchor)
    torch.testing.assert_close(p.grad, right.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_a_path(shape: tuple[int, ...], last: bool, threads: int) -> None:
    p, before, total = numbers(shape, last=last)
    right = total.double() + p.grad.double() * (before.double() - p.double())
    passes.follow(p, before, total)
    torch.testing.assert_close(total, right.float(), rtol=1e-6, atol=1e-6)
    assert torch.equal(before, p)
    kept, p.grad = total.clone(), None
    with torch.no_grad():
        p.add_(1)
    passes.follow(p, before, total)  # of a head that was not used
    assert torch.equal(total, kept) and torch.equal(before, p)


def test_loops_are_for_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    seen = list[str]()
    monkeypatch.setattr(passes, "_loop", lambda name, *tensors: seen.append(name))
    for shape in SIZES:
        passes.pull(*numbers(shape, last=False))
        passes.follow(*numbers(shape, last=False))
    assert seen == ["pull", "follow"] * 3


def test_what_has_no_place_one_after_the_other_is_computed_all_the_same() -> None:
    p, strength, anchor = numbers((512, 256), last=False)
    p.grad = p.grad.view(256, 512).t()
    right = p.grad + strength * (p - anchor)
    passes.pull(p, strength, anchor)
    torch.testing.assert_close(p.grad, right)
