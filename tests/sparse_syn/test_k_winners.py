"""KWinners and KWinners2d of sparse_syn: recorded sequences, state, evaluation, errors."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import sparse_syn
from sparse_syn import KWinners, KWinners2d, update_boost_strength

MAKERS: dict[str, Callable[[], sparse_syn.KWinnersBase]] = {
    "KWinners": lambda: KWinners(12, 0.25, duty_cycle_period=20),
    "local": lambda: KWinners2d(12, 0.25, duty_cycle_period=20, local=True),
    "global": lambda: KWinners2d(12, 0.25, duty_cycle_period=20),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[], sparse_syn.KWinnersBase]:
    return MAKERS[request.param]


def pictures(layer: sparse_syn.KWinnersBase, batch: int = 8, seed: int = 0) -> Tensor:
    shape = (batch, 12) if isinstance(layer, KWinners) else (batch, 12, 3, 2)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.kinds("KWinners", "KWinners2d")
def test_recorded(recorded: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
    case, arrays = recorded
    layer = getattr(sparse_syn, case["kind"])(**case["kwargs"])
    for step, x in enumerate(arrays["xs"]):
        assert torch.equal(layer(x), arrays["ys"][step])
        torch.testing.assert_close(layer.duty_cycle, arrays["duty"][step])
        if "boost" in arrays:
            if step in (1, 3, 5):
                layer.apply(update_boost_strength)
            torch.testing.assert_close(layer.boost_strength, arrays["boost"][step])
    layer.eval()
    assert torch.equal(layer(arrays["xs"][0]), arrays["y_eval"])
    assert (layer.k, layer.k_inference) == (case["k"], case["k_inference"])
    entropy = [layer.entropy().item(), layer.max_entropy()][: len(arrays["entropy"])]
    assert entropy == pytest.approx(arrays["entropy"].tolist(), rel=1e-5)


def test_attributes_and_buffers_are_those_of_nupic_torch() -> None:
    layer = KWinners(40, 0.1, 1.5, 1.2, 0.8, 500)
    assert (layer.n, layer.k, layer.k_inference, layer.percent_on) == (40, 4, 6, 0.1)
    assert (layer.k_inference_factor, layer.boost_strength_factor) == (1.5, 0.8)
    assert (layer.duty_cycle_period, layer.learning_iterations) == (500, 0)
    assert set(layer.state_dict()) == {"duty_cycle", "boost_strength", "learning_iterations"}
    assert layer.duty_cycle.shape == (40,)
    assert KWinners2d(6, 0.5).duty_cycle.shape == (1, 6, 1, 1)


def test_evaluation_uses_k_inference_and_learns_nothing(
    make: Callable[[], sparse_syn.KWinnersBase],
) -> None:
    layer = make().eval()
    before = copy.deepcopy(layer.state_dict())
    winners = layer(pictures(layer)).count_nonzero().item()
    positions = 1 if isinstance(layer, KWinners) else 6
    expected = {3: 4, 18: 27}[layer.k] if not getattr(layer, "local", False) else 4 * positions
    assert winners == 8 * expected
    learned = ("duty_cycle", "boost_strength", "learning_iterations")
    assert all(torch.equal(before[key], layer.state_dict()[key]) for key in learned)


def test_k_inference_is_at_most_all() -> None:
    layer = KWinners(10, 0.8, k_inference_factor=2).eval()
    x = torch.randn(3, 10)
    assert torch.equal(layer(x), x)
    assert KWinners2d(10, 0.8, 2.0, local=True).k_inference == 10


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.integers(1, 50),
    st.floats(0, 3),
    st.sampled_from([KWinners, KWinners2d]),
)
def test_duty_cycle_and_entropy_stay_in_range(
    batches: list[int], period: int, boost: float, kind: type[sparse_syn.KWinnersBase]
) -> None:
    layer = kind(12, 0.25, boost_strength=boost, duty_cycle_period=period)
    mean, seen = 0.0, 0
    for seed, batch in enumerate(batches):
        share = float((layer(pictures(layer, batch, seed).abs()) > 0).double().mean())
        assert share >= 0.25 - 1e-9  # two that tie for the last place both win
        seen += batch
        span = min(seen, max(period, batch))
        mean = (mean * (span - batch) + share * batch) / span
        assert layer.duty_cycle.min() >= 0
        assert layer.duty_cycle.max() <= 1
        assert layer.duty_cycle.mean() == pytest.approx(mean, abs=1e-5)
    assert layer.learning_iterations == sum(batches)
    assert 0 <= layer.entropy() <= layer.max_entropy() + 1e-4


def test_a_reloaded_layer_continues_exactly(make: Callable[[], sparse_syn.KWinnersBase]) -> None:
    layer = make()
    for seed in range(3):
        layer(pictures(layer, seed=seed))
    layer.apply(update_boost_strength)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = make()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.entropy(), layer.entropy())
    for seed in range(3, 6):
        x = pictures(layer, seed=seed)
        assert torch.equal(other(x), layer(x))
        assert torch.equal(other.duty_cycle, layer.duty_cycle)


def test_copies_and_pickles_continue_exactly(make: Callable[[], sparse_syn.KWinnersBase]) -> None:
    layer = make()
    layer(pictures(layer))
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    layer(pictures(layer, seed=1))
    for other in copies:
        other(pictures(layer, seed=1))
        assert torch.equal(other.duty_cycle, layer.duty_cycle)


def test_a_state_dict_of_nupic_torch_counts_as_a_full_period(
    make: Callable[[], sparse_syn.KWinnersBase],
) -> None:
    layer = nn.Sequential(make())
    duty = torch.rand_like(layer[0].duty_cycle)
    foreign = {"0.duty_cycle": duty, "0.boost_strength": torch.tensor(0.3)}
    layer.load_state_dict(foreign)
    assert layer[0].learning_iterations == 20
    layer(pictures(layer[0], batch=1))
    torch.testing.assert_close(layer[0].duty_cycle, duty, rtol=0, atol=0.05)
    layer.load_state_dict({**foreign, "0.duty_cycle": torch.zeros_like(duty)})
    assert layer[0].learning_iterations == 0
    assert set(foreign) == {"0.duty_cycle", "0.boost_strength"}


def test_the_duty_cycle_needs_no_value_on_the_host(
    make: Callable[[], sparse_syn.KWinnersBase],
) -> None:
    layer = make()
    x = pictures(layer)
    layer(x)
    layer.to("meta")  # tensors without values: reading one raises
    layer(x.to("meta"))
    layer.apply(update_boost_strength)


@pytest.mark.gpu
def test_training_on_cuda_never_waits_for_the_device(
    make: Callable[[], sparse_syn.KWinnersBase],
) -> None:
    layer, twin = make().cuda(), make()
    batches = [pictures(twin, seed=seed) for seed in range(4)]
    on_device = [x.cuda() for x in batches]
    torch.cuda.set_sync_debug_mode("error")
    try:
        outputs = [layer(x) for x in on_device]
        layer.apply(update_boost_strength)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for x, y in zip(batches, outputs, strict=True):
        assert torch.equal(twin(x), y.cpu())
    torch.testing.assert_close(layer.duty_cycle.cpu(), twin.duty_cycle)


def test_counts_are_as_good_as_outputs() -> None:
    one, two = KWinners(12, 0.25), KWinners(12, 0.25)
    y = one(pictures(one))
    two.count_wins((y > 0).float().sum(0), len(y))
    assert torch.equal(one.duty_cycle, two.duty_cycle)
    assert torch.equal(one.learning_iterations, two.learning_iterations)


def test_global_k_follows_the_size_of_the_picture() -> None:
    layer = KWinners2d(4, 0.25, 1.0)
    assert (layer.n, layer.k, layer.max_entropy()) == (0, 0, 0)
    for side in (4, 2):
        layer(torch.rand(1, 4, side, side))
        assert (layer.n, layer.k) == (4 * side * side, side * side)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0, "percent_on": 0.5}, "n = 0: choose 1 or above"),
        ({"n": 10, "percent_on": 0}, "percent_on = 0: choose above 0 and up to 1"),
        ({"n": 10, "percent_on": 1.1}, "percent_on = 1.1: choose above 0 and up to 1"),
        (
            {"n": 400, "percent_on": 0.001},
            "percent_on = 0.001 leaves none of 400 units on: choose at least 0.0025",
        ),
        (
            {"n": 10, "percent_on": 0.2, "k_inference_factor": 0.4},
            r"k_inference_factor = 0.4 leaves none .*\(in training 2\): choose at least 0.5",
        ),
        ({"n": 10, "percent_on": 0.5, "k_inference_factor": 0}, "k_inference_factor = 0: choose"),
        ({"n": 10, "percent_on": 0.5, "boost_strength": -1}, "boost_strength = -1: choose 0"),
        ({"n": 10, "percent_on": 0.5, "boost_strength_factor": 1.5}, "from 0 to 1"),
        ({"n": 10, "percent_on": 0.5, "duty_cycle_period": 0}, "duty_cycle_period = 0: choose 1"),
        ({"n": 10, "percent_on": float("nan")}, "percent_on = nan: choose"),
    ],
)
def test_errors_name_value_and_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KWinners(**arguments)


def test_errors_of_2d() -> None:
    with pytest.raises(ValueError, match="channels = 0: choose 1 or above"):
        KWinners2d(0)
    with pytest.raises(ValueError, match=r"percent_on = 0.1 leaves none of 4 units on"):
        KWinners2d(4, local=True)
    with pytest.raises(ValueError, match=r"percent_on = 0.1 leaves none of 4 units on"):
        KWinners2d(4)(torch.rand(1, 4, 1, 1))


@pytest.mark.parametrize(
    "cast",
    [
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.double(),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.to("cpu", torch.float16),
        lambda m: m.type(torch.float16),
        lambda m: nn.ModuleDict({"inner": nn.Sequential(m)}).half()["inner"][0],
        lambda m: copy.deepcopy(m).half(),
        lambda m: m.to("meta").half().to_empty(device="cpu"),
    ],
)
def test_casting_leaves_what_is_counted(
    make: Callable[[], sparse_syn.KWinnersBase], cast: Callable[[Any], sparse_syn.KWinnersBase]
) -> None:
    layer = make()
    layer(pictures(layer))
    before = copy.deepcopy(dict(layer.named_buffers()))
    after = cast(layer)
    for name, buffer in after.named_buffers():
        assert buffer.dtype == before[name].dtype
        assert buffer.device.type == "cpu"
    assert after.duty_cycle.dtype == after.boost_strength.dtype == torch.float32


def test_half_precision_counts_like_float32() -> None:
    found = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        layer = KWinners(100, 0.1, boost_strength=0.0, duty_cycle_period=100_000).to(dtype)
        for _ in range(100):
            layer((torch.randn(64, 100) + torch.linspace(0, 2, 100)).to(dtype))
        assert layer.duty_cycle.sum() == pytest.approx(10, abs=1e-3)
        found.append(layer.duty_cycle)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=2e-3)


def test_a_default_type_is_not_that_of_the_counts() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        layers = [make() for make in MAKERS.values()]
    finally:
        torch.set_default_dtype(torch.float32)
    for layer in layers:
        assert layer.duty_cycle.dtype == layer.boost_strength.dtype == torch.float32


@pytest.mark.parametrize("assign", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_states_of_any_precision_load(
    make: Callable[[], sparse_syn.KWinnersBase], dtype: torch.dtype, assign: bool
) -> None:
    layer = make()
    layer(pictures(layer))
    layer.learning_iterations.fill_(100_000)  # beyond float16
    saved = {key: value.to(dtype) for key, value in layer.state_dict().items()}
    other = nn.Sequential(make())
    other.load_state_dict({f"0.{key}": value for key, value in saved.items()}, assign=assign)
    for name, buffer in layer.named_buffers():
        assert getattr(other[0], name).dtype == buffer.dtype
    torch.testing.assert_close(other[0].duty_cycle, layer.duty_cycle, rtol=0.01, atol=1e-3)
    assert other[0].learning_iterations > 50_000
    other(pictures(layer, seed=1))
    assert other[0].duty_cycle.isfinite().all()


def as_it_was(layer: sparse_syn.KWinnersBase, x: Tensor, message: str) -> None:
    before = copy.deepcopy(dict(layer.named_buffers())), layer.n, layer.k
    for refuses in (layer, layer.update_duty_cycle):
        with pytest.raises(ValueError, match=message):
            refuses(x)
    assert (layer.n, layer.k) == before[1:]
    assert all(torch.equal(before[0][name], value) for name, value in layer.named_buffers())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(), (11,), (3, 11), (12, 3), (2, 3, 11), (0, 11), (12, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...], training: bool) -> None:
    layer = KWinners(12, 0.25)
    layer(pictures(layer))
    as_it_was(layer.train(training), torch.randn(shape), r"12 units: x is \[.*choose \[..., 12\]")


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    "shape",
    [(12,), (8, 12), (11, 3, 2), (8, 11, 3, 2), (12, 8, 3, 2), (1, 8, 12, 3, 2), (8, 12, 0, 2)],
)
def test_other_pictures_are_refused(shape: tuple[int, ...], local: bool) -> None:
    layer = KWinners2d(12, 0.25, local=local)
    layer(torch.randn(8, 12, 3, 2))
    as_it_was(layer, torch.randn(shape), r"12 channels: x is \[.*choose \[batch, 12, height, width")


def test_complex_numbers_have_no_order() -> None:
    with pytest.raises(ValueError, match=r"complex64, choose .*real"):
        KWinners(4, 0.5)(torch.zeros(2, 4, dtype=torch.complex64))


def test_too_small_pictures_leave_the_layer_as_it_was() -> None:
    layer = KWinners2d(4, 0.1)
    layer(torch.rand(1, 4, 3, 3))
    as_it_was(layer, torch.rand(1, 4, 1, 1), "leaves none of 4 units on")


@pytest.mark.parametrize("training", [True, False])
def test_samples_come_in_any_number_of_dimensions(
    make: Callable[[], sparse_syn.KWinnersBase], training: bool
) -> None:
    """One without a batch is one sample; those of a sequence are as many as a batch of them."""
    one, other = make().train(training), make().train(training)
    batch = pictures(one, 6)
    for x, y in zip(batch, [one(x) for x in batch], strict=True):
        assert torch.equal(other(x.unsqueeze(0)).squeeze(0), y)
    if isinstance(one, KWinners):
        sequence = one(batch.view(2, 3, 12))
        assert torch.equal(sequence.flatten(0, 1), other(batch))
    assert torch.equal(one.duty_cycle, other.duty_cycle)
    assert one.learning_iterations == other.learning_iterations
    assert one.n == other.n


def test_one_sample_counts_as_one() -> None:
    layer = KWinners(10, 0.3)
    assert layer(torch.arange(10.0)).tolist() == [0.0] * 7 + [7.0, 8.0, 9.0]
    assert layer.duty_cycle.tolist() == [0.0] * 7 + [1.0] * 3
    assert layer.learning_iterations == 1


def test_no_samples_change_nothing(make: Callable[[], sparse_syn.KWinnersBase]) -> None:
    for layer in (make(), make()):
        for seed in range(2):
            before = layer.duty_cycle.clone()
            none = pictures(layer, 0)
            assert layer(none).shape == none.shape
            assert torch.equal(layer.duty_cycle, before)
            layer(pictures(layer, seed=seed))
        assert layer.learning_iterations == 16


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float64])
def test_other_numbers_compete_as_well(dtype: torch.dtype) -> None:
    layer = KWinners(4, 0.5, boost_strength=0.0)
    y = layer(torch.tensor([[3, 1, 2, 0]], dtype=dtype))
    assert y.dtype == dtype
    assert y.tolist() == [[3, 0, 2, 0]]
    assert layer.duty_cycle.tolist() == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_where_values_are_coarse_exactly_k_win(
    make: Callable[[], sparse_syn.KWinnersBase], dtype: torch.dtype
) -> None:
    layer = make()
    x = 1 + torch.rand(pictures(layer, 50).shape).mul(4).round().div(4)
    on = layer(x.to(dtype)) != 0
    whole = on.flatten(1) if not getattr(layer, "local", False) else on
    assert whole.sum(1).eq(layer.k).all()
    again = make()
    assert torch.equal(again(x.to(dtype)) != 0, on)
    tied = make()(x) != 0
    assert (tied | ~on).all()
    assert tied.sum() > on.sum()


def test_layers_are_exported(make: Callable[[], sparse_syn.KWinnersBase]) -> None:
    layer = make()
    x = pictures(layer)
    layer(x)
    batch = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(layer.eval(), (x,), dynamic_shapes=batch, strict=False)
    more = pictures(layer, 20, 1)
    assert torch.equal(exported.module()(more), layer(more))
