"""The lazy matrix moves as torch.optim.SGD would move a dense one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.utils.engines.conftest import momentum_of
from utils.engines.winners.lazy import Basis, LazyMatrix

ROWS, COLUMNS, STEPS = 6, 5, 200

RATES = st.floats(1e-4, 1.0)
MOMENTA = st.just(0.0) | st.floats(1e-3, 0.999)
DECAYS = st.just(0.0) | st.floats(1e-6, 1.0)


def add(matrix: LazyMatrix, entries: Tensor, gradient: Tensor) -> None:
    """Gradients [n] of entries int64 [n], row · columns + column; repeats add up."""
    for part, gain in zip(matrix.parts, matrix.gains(), strict=True):
        part.view(-1).index_add_(0, entries, gradient, alpha=gain)


class Twins:
    """A lazy matrix and a dense one under torch's SGD, which get the same gradients."""

    def __init__(
        self, lr: float, momentum: float, weight_decay: float, nesterov: bool, seed: int = 0
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        weight = self.normal(ROWS, COLUMNS)
        basis = Basis.of(lr, momentum, weight_decay, nesterov)
        assert basis is not None
        self.lazy = LazyMatrix(weight, torch.zeros_like(weight), basis)
        self.dense = nn.Parameter(weight.clone())
        self.sgd = torch.optim.SGD(
            [self.dense], lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
        )

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def step(self) -> None:
        """A gradient in up to three entries, which may be one entry several times, or in none."""
        touched = int(torch.randint(4, (), generator=self.generator))
        where = torch.randint(ROWS * COLUMNS, (touched,), generator=self.generator)
        gradient = self.normal(touched)
        self.lazy.step()
        add(self.lazy, where, gradient)
        self.dense.grad = torch.zeros_like(self.dense)
        self.dense.grad.view(-1).index_add_(0, where, gradient)
        self.sgd.step()

    def compare(self, tolerance: float) -> None:
        size = max(1.0, self.dense.abs().max().item())
        distance = (self.lazy.weight() - self.dense).abs().max().item()
        assert distance <= tolerance * size


# The double root of M's characteristic polynomial, where no basis of eigenvectors exists, is near
# the examples: momentum 0.9, learning rate 0.1 and weight decay 0.02633404 without Nesterov.
@settings(max_examples=40)
@example(0.1, 0.9, 1e-4, True, 0)
@example(0.1, 0.9, 0.0, False, 0)
@example(0.1, 0.0, 1e-4, False, 0)
@example(0.1, 0.0, 0.0, False, 0)
@example(0.1, 0.9, 0.025, False, 0)
@example(1.0, 1e-12, 1e-4, False, 0)
@example(0.1, 1e-70, 1e-4, True, 0)
@example(1e-45, 0.9, 1.0, True, 0)
@example(5e-324, 0.9, 0.0, False, 0)
@example(5e-324, 5e-324, 10.0, True, 0)
@example(1.0, 0.9, 1.0, True, 0)
@given(RATES, MOMENTA, DECAYS, st.booleans(), st.integers(0, 2**16))
def test_it_follows_torch_sgd(
    lr: float, momentum: float, weight_decay: float, nesterov: bool, seed: int
) -> None:
    nesterov = nesterov and momentum > 0
    basis = Basis.of(lr, momentum, weight_decay, nesterov)
    assume(basis is not None)
    assert basis is not None
    twins = Twins(lr, momentum, weight_decay, nesterov, seed)
    # Rounding grows with the inverse of the distance of the eigenvalues.
    tolerance = 1e-11 / (basis.decay[0] - basis.decay[1])
    for step in range(STEPS):
        twins.step()
        if step % 20 == 0:
            twins.compare(tolerance)
    twins.compare(tolerance)
    if momentum > 1e-3:
        kept = twins.sgd.state[twins.dense]["momentum_buffer"]
        distance = (momentum_of(twins.lazy) - kept).abs().max()
        assert distance <= 100 * tolerance * max(1.0, kept.abs().max().item()) / lr


@given(RATES, st.floats(0.01, 0.999), DECAYS, st.booleans())
def test_a_basis_diagonalises_the_step(
    lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    basis = Basis.of(lr, momentum, weight_decay, nesterov)
    assume(basis is not None)
    assert basis is not None
    assert basis.decay[0] > basis.decay[1] > 0
    for decay, slope in zip(basis.decay, basis.slope, strict=True):
        # One step from w = 1, b = slope without a gradient multiplies both by the eigenvalue.
        b = momentum * slope + weight_decay
        w = 1 - lr * (weight_decay + momentum * b if nesterov else b)
        assert w == pytest.approx(decay, rel=1e-6)
        assert b == pytest.approx(decay * slope, rel=1e-6, abs=1e-7)
    assert sum(basis.gain) == pytest.approx(-lr * (1 + momentum if nesterov else 1))


def test_without_momentum_there_is_one_factor() -> None:
    basis = Basis.of(0.1, 0.0, 0.5, False)
    assert basis is not None
    assert basis.decay == (pytest.approx(0.95), 0)
    matrix = LazyMatrix(torch.ones(1, 1), torch.zeros(1, 1), basis)
    matrix.step()
    add(matrix, torch.tensor([0]), torch.ones(1))
    assert matrix.weight().item() == pytest.approx(0.85)
    assert momentum_of(matrix).item() == 0
    assert len(matrix.scale) == len(matrix.parts) == 1


@pytest.mark.parametrize("lr", [5e-324, 1e-45, 1e-12, 0.1, 100.0])
@pytest.mark.parametrize("momentum", [5e-324, 1e-70, 1e-30, 1e-12, 1e-3, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 5e-324, 1e-30, 1e-4, 10.0])
@pytest.mark.parametrize("nesterov", [False, True])
def test_settings_at_their_ends(
    lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    """In float32, and long enough for every scale to become small."""
    basis = Basis.of(lr, momentum, weight_decay, nesterov)
    if basis is None:
        return
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(ROWS, COLUMNS, generator=generator)
    lazy, dense = LazyMatrix(weight, None, basis), nn.Parameter(weight.clone())
    sgd = torch.optim.SGD(
        [dense], lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
    )
    for gradient in torch.randn(40, ROWS, COLUMNS, generator=generator):
        lazy.step()
        add(lazy, torch.arange(ROWS * COLUMNS), gradient.flatten())
        dense.grad = gradient.clone()
        sgd.step()
    torch.testing.assert_close(lazy.weight(), dense.detach(), rtol=1e-3, atol=1e-3 * (1 + lr))
    assert momentum_of(lazy).isfinite().all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_weights_are_taken_over_and_momenta_stay(momentum: float, weight_decay: float) -> None:
    """And what is the same already stays so to the bit."""
    twins = Twins(0.1, momentum, weight_decay, nesterov=False)
    for _ in range(10):
        twins.step()
    before = [part.clone() for part in twins.lazy.parts]
    twins.lazy.take_over(twins.lazy.weight())
    assert all(map(torch.equal, before, twins.lazy.parts))
    with torch.no_grad():
        twins.dense[2:4] = twins.normal(2, COLUMNS)
    twins.lazy.take_over(twins.dense.detach())
    for _ in range(10):
        twins.step()
    twins.compare(1e-11)


@pytest.mark.parametrize(
    ("lr", "momentum", "weight_decay", "nesterov"),
    [
        (1.0, 0.9, 0.01, False),  # the weight oscillates: complex eigenvalues
        (1.0, 0.9, 1.0, False),
        (0.1, 0.99, 0.001, False),
        (0.1, 0.25, 2.5, False),  # one eigenvalue twice: (1 - sqrt(m))² = lr · wd
        (100.0, 0.0, 0.01, False),  # every step sets the weight to its gradient alone
        (100.0, 0.0, 1.0, False),  # the sign changes with every step
        (100.0, 0.5, 1.0, True),
    ],
)
def test_settings_without_a_basis(
    lr: float, momentum: float, weight_decay: float, nesterov: bool
) -> None:
    assert Basis.of(lr, momentum, weight_decay, nesterov) is None


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.99])
def test_where_there_is_a_basis_float32_is_good_enough(momentum: float) -> None:
    for closeness in (0.5, 0.9, 0.99, 0.999):
        follows_in_float32(momentum, closeness)


def test_where_eigenvalues_all_but_coincide_there_is_no_basis() -> None:
    for closeness in (0.99999, 0.9999999):
        follows_in_float32(0.99, closeness)


def follows_in_float32(momentum: float, closeness: float) -> None:
    """A weight decay near the double root, where P and Q become large and nearly cancel."""
    lr = 0.1
    weight_decay = closeness * (1 - math.sqrt(momentum)) ** 2 / lr
    basis = Basis.of(lr, momentum, weight_decay, False)
    if basis is None:
        return
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(ROWS, COLUMNS, generator=generator)
    lazy = LazyMatrix(weight, torch.zeros_like(weight), basis)
    dense = nn.Parameter(weight.clone())
    sgd = torch.optim.SGD([dense], lr=lr, momentum=momentum, weight_decay=weight_decay)
    for gradient in torch.randn(STEPS, ROWS, COLUMNS, generator=generator):
        lazy.step()
        add(lazy, torch.arange(ROWS * COLUMNS), gradient.flatten())
        dense.grad = gradient.clone()
        sgd.step()
    distance = (lazy.weight() - dense).abs().max() / dense.abs().max()
    assert distance < 1e-4


def test_a_worked_step() -> None:
    """lr 0.1, momentum 0.5, weight decay 0.2, Nesterov, as in test_sgd."""
    basis = Basis.of(0.1, 0.5, 0.2, True)
    assert basis is not None
    one = torch.ones(1, 2, dtype=torch.float64)
    matrix = LazyMatrix(one, torch.zeros_like(one), basis)
    first_has_a_gradient = torch.tensor([0])
    expected = [([0.82, 0.97], [1.2, 0.2]), ([0.6154, 0.9359], [1.764, 0.294])]
    for weight, momentum in expected:
        matrix.step()
        add(matrix, first_has_a_gradient, torch.ones(1, dtype=torch.float64))
        assert matrix.weight().flatten().tolist() == pytest.approx(weight)
        assert momentum_of(matrix).flatten().tolist() == pytest.approx(momentum)


def test_it_starts_from_any_momentum() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, momentum = torch.randn(2, 3, 4, generator=generator)
    basis = Basis.of(0.1, 0.9, 0.01, True)
    assert basis is not None
    matrix = LazyMatrix(weight, momentum, basis)
    torch.testing.assert_close(matrix.weight(), weight)
    torch.testing.assert_close(momentum_of(matrix), momentum)
    dense = nn.Parameter(weight.clone())
    sgd = torch.optim.SGD([dense], lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    sgd.state[dense]["momentum_buffer"] = momentum.clone()
    for _ in range(5):
        dense.grad = torch.zeros_like(dense)
        sgd.step()
        matrix.step()
    torch.testing.assert_close(matrix.weight(), dense.detach())


def test_entries_that_start_at_zero_and_get_no_gradient_stay_exactly_zero() -> None:
    basis = Basis.of(0.1, 0.9, 0.01, True)
    assert basis is not None
    weight = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    matrix = LazyMatrix(weight, torch.zeros_like(weight), basis)
    for _ in range(300):
        matrix.step()
        add(matrix, torch.tensor([1, 2, 2]), torch.ones(3))
    assert (matrix.weight() == 0).tolist() == [[True, False], [False, True]]


@settings(max_examples=20)
@given(st.sampled_from([(0.9, True), (0.0, False)]), st.integers(0, 2**16))
def test_what_is_read_is_the_weight(setting: tuple[float, bool], seed: int) -> None:
    momentum, nesterov = setting
    twins = Twins(0.1, momentum, 0.01, nesterov, seed)
    for _ in range(120):  # the scale of Q is multiplied into it on the way
        twins.step()
    weight = twins.lazy.weight()
    rows = torch.randint(ROWS, (7, 3), generator=twins.generator)
    factors = twins.normal(7, 3)
    expected = torch.einsum("bn,bnc->bc", factors, weight[rows])
    torch.testing.assert_close(twins.lazy.rows_sum(rows, factors), expected)
    assert twins.lazy.columns == COLUMNS


def test_a_step_without_gradients_touches_no_weight() -> None:
    basis = Basis.of(0.1, 0.9, 1e-4, True)
    assert basis is not None
    matrix = LazyMatrix(torch.ones(2, 2), torch.zeros(2, 2), basis)
    before = [part.clone() for part in matrix.parts]
    versions = [part._version for part in matrix.parts]
    for _ in range(50):
        matrix.step()
    assert [part._version for part in matrix.parts] == versions
    assert all(torch.equal(*pair) for pair in zip(matrix.parts, before, strict=True))
    assert matrix.weight()[0, 0] < 1
