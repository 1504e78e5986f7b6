"""SparseWeights and SparseWeights2d of sparse_syn: masks that hold whatever happens."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import sparse_syn
from sparse_syn import (
    PrunableSparseWeights,
    PrunableSparseWeights2d,
    SparseWeights,
    SparseWeights2d,
    normalize_sparse_weights,
    rezero_weights,
)

OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, 0.1, weight_decay=1e-2, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.1, weight_decay=1e-2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.9, weight_decay=1e-2),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.1, weight_decay=1e-2),
    "Rprop": lambda p: torch.optim.Rprop(p, 0.1),
    "LBFGS": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
}


@pytest.fixture(params=["linear", "convolution"])
def layer(request: pytest.FixtureRequest) -> sparse_syn.SparseWeightsBase:
    torch.manual_seed(0)
    if request.param == "linear":
        return SparseWeights(nn.Linear(20, 9), weight_sparsity=0.3)
    return SparseWeights2d(nn.Conv2d(4, 9, 3), weight_sparsity=0.3)


def batch(layer: sparse_syn.SparseWeightsBase) -> Tensor:
    return torch.randn((8, 20) if isinstance(layer, SparseWeights) else (8, 4, 5, 5))


def masked(layer: sparse_syn.SparseWeightsBase) -> Tensor:
    return layer.module.weight[layer.zero_mask]


@pytest.mark.kinds("SparseWeights", "SparseWeights2d")
def test_recorded(recorded: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
    case, arrays = recorded
    if case["kind"] == "SparseWeights":
        module: nn.Module = nn.Linear(case["in_features"], case["out_features"])
    else:
        module = nn.Conv2d(case["in_channels"], case["out_channels"], case["kernel_size"])
    layer = getattr(sparse_syn, case["kind"])(module, sparsity=case["sparsity"])
    assert torch.equal((layer.weight != 0).flatten(1).sum(1), arrays["nonzeros_per_row"])


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(1, 8), st.floats(0.3, 0.99), st.booleans())
def test_every_row_keeps_as_many_weights(inputs: int, rows: int, p: float, conv: bool) -> None:
    wrap = SparseWeights2d if conv else SparseWeights
    module = nn.Conv2d(inputs, rows, 2) if conv else nn.Linear(inputs, rows)
    total = inputs * (4 if conv else 1)
    by_density = wrap(module, p)
    assert by_density.zero_mask.dtype == torch.bool
    assert (~by_density.zero_mask).flatten(1).sum(1).eq(round(total * p)).all()
    assert (by_density.weight == 0).equal(by_density.zero_mask)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_masked_weights_stay_zero(layer: sparse_syn.SparseWeightsBase, optimiser: str) -> None:
    start = layer.weight.detach().clone()
    steps = OPTIMISERS[optimiser](layer.parameters())
    for _ in range(10):
        x = batch(layer)

        def loss(x: Tensor = x) -> Tensor:
            steps.zero_grad()
            value = (layer(x) - 1).square().mean() + layer.weight.abs().sum()
            value.backward()
            return value

        steps.step(loss)
        assert masked(layer).eq(0).all()
    assert layer.weight[~layer.zero_mask].ne(start[~layer.zero_mask]).all()


def test_the_gradient_is_zero_where_masked_even_when_infinite() -> None:
    layer = SparseWeights(nn.Linear(4, 2), 0.5)
    layer(torch.full((1, 4), math.inf)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[layer.zero_mask].eq(0).all()
    assert layer.weight.grad[~layer.zero_mask].isinf().all()


@pytest.mark.parametrize("training", [True, False])
def test_what_is_written_over_masked_weights_does_not_count(
    layer: sparse_syn.SparseWeightsBase, training: bool
) -> None:
    layer.train(training)
    x = batch(layer)
    kept = layer.weight.detach().clone()
    layer.weight.data.add_(layer.zero_mask * 7.0)
    plain = linear if isinstance(layer, SparseWeights) else conv2d
    torch.testing.assert_close(layer(x), plain(x, kept, layer.bias))
    if training:
        assert torch.equal(layer.weight, kept)
    layer.weight.data.fill_(1.0)
    layer.apply(rezero_weights)
    assert torch.equal(layer.weight, (~layer.zero_mask).float())


def test_masks_come_from_the_seed() -> None:
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(SparseWeights(nn.Linear(50, 20), 0.5).zero_mask)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0][0], masks[0][1])


def test_state_dict_holds_weights_and_mask(layer: sparse_syn.SparseWeightsBase) -> None:
    state = layer.state_dict()
    assert set(state) == {"zero_mask", "module.weight", "module.bias"}
    twin = copy.deepcopy(layer)
    other = type(layer)(copy.deepcopy(layer.module), sparsity=0.7)
    nn.ModuleList([other]).load_state_dict({f"0.{key}": value for key, value in state.items()})
    x = batch(layer)
    for same in (other, twin, pickle.loads(pickle.dumps(layer))):
        assert torch.equal(same.zero_mask, layer.zero_mask)
        assert torch.equal(same(x), layer(x))


@pytest.mark.parametrize("assign", [True, False])
def test_loading_dense_weights_masks_them(
    layer: sparse_syn.SparseWeightsBase, assign: bool
) -> None:
    state = layer.state_dict()
    dense = {**state, "module.weight": torch.ones_like(layer.weight)}
    layer.load_state_dict(dense, assign=assign)
    assert torch.equal(layer.weight, (~layer.zero_mask).float())


def test_copies_keep_their_masks_in_training(layer: sparse_syn.SparseWeightsBase) -> None:
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.double()):
        optimiser = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            other(batch(other).to(other.weight.dtype)).square().sum().backward()
            optimiser.step()
        assert masked(other).eq(0).all()


def test_normalised_weights_are_scaled_to_their_inputs(layer: sparse_syn.SparseWeightsBase) -> None:
    layer.apply(normalize_sparse_weights)
    bound = 1 / math.sqrt(int((~layer.zero_mask[0]).sum()))
    assert masked(layer).eq(0).all()
    live = layer.weight[~layer.zero_mask]
    assert 0.8 * bound < live.abs().max() <= bound
    assert layer.bias is not None
    assert layer.bias.abs().max() <= bound


def test_functions_for_apply_leave_other_layers_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    before = copy.deepcopy(model.state_dict())
    for function in (rezero_weights, normalize_sparse_weights, sparse_syn.update_boost_strength):
        model.apply(function)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("density", "zeros"), [(0, 12), (1, 0)])
def test_extremes_when_allowed(density: int, zeros: int) -> None:
    layer = SparseWeights(nn.Linear(4, 3), density, allow_extremes=True)
    assert layer.zero_mask.sum() == zeros
    layer.apply(normalize_sparse_weights)
    assert (layer.weight == 0).sum() == zeros


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "weight_sparsity = None, sparsity = None: give one"),
        ({"weight_sparsity": 0.5, "sparsity": 0.5}, "give one"),
        ({"weight_sparsity": 0}, "weight_sparsity = 0: choose a number between 0 and 1"),
        ({"weight_sparsity": 1.0}, "the ends need allow_extremes=True"),
        ({"sparsity": -0.1}, "sparsity = -0.1: choose a number between 0 and 1"),
        ({"sparsity": 1.1, "allow_extremes": True}, "sparsity = 1.1: choose"),
        ({"weight_sparsity": 0.1}, "a density of 0.1 leaves no weight of 4: choose at least 0.25"),
    ],
)
def test_errors_name_value_and_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseWeights(nn.Linear(4, 3), **arguments)


def test_a_module_of_the_wrong_kind() -> None:
    with pytest.raises(ValueError, match="SparseWeights2d needs a layer with a weight of 4 dim"):
        SparseWeights2d(nn.Linear(4, 3), 0.5)
    with pytest.raises(ValueError, match=r"not ReLU\(\)"):
        SparseWeights(nn.ReLU(), 0.5)
    with pytest.raises(ValueError, match="outputs first, not ConvTranspose2d"):
        SparseWeights2d(nn.ConvTranspose2d(4, 4, 3), 0.5)
    with pytest.raises(ValueError, match="no shape yet: give it a first batch"):
        SparseWeights(nn.LazyLinear(3), 0.5)
    with pytest.raises(ValueError, match="no parameter but computed"):
        SparseWeights(SparseWeights(nn.Linear(4, 3), 0.5), 0.5)


def fixed(module: nn.Module) -> nn.Module:
    """A layer whose weight is no parameter but a tensor."""
    weight = module.weight.detach().clone()
    del module.weight
    module.weight = weight
    return module


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


COMPUTED: dict[str, Callable[[nn.Module], object]] = {
    "pruned": lambda m: prune.random_unstructured(m, "weight", amount=0.3),
    "in whole rows": lambda m: prune.ln_structured(m, "weight", amount=0.3, n=2, dim=0),
    "not pruned": lambda m: prune.identity(m, "weight"),
    "normalised": weight_norm,
    "normalised by its spectrum": spectral_norm,
    "parametrised norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
    "parametrised": lambda m: parametrize.register_parametrization(m, "weight", Twice()),
    "a tensor": fixed,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("compute", COMPUTED)
@pytest.mark.parametrize("later", [True, False])
def test_a_weight_that_is_computed_is_refused(compute: str, later: bool) -> None:
    """Before it is wrapped, or when it comes to that afterwards: no mask would hold."""
    for module, wrap, x in (
        (nn.Linear(20, 5), SparseWeights, torch.randn(8, 20)),
        (nn.Conv2d(4, 5, 3), SparseWeights2d, torch.randn(8, 4, 5, 5)),
    ):
        if not later:
            COMPUTED[compute](module)
            with pytest.raises(ValueError, match="no parameter but computed from others"):
                wrap(module, 0.4)
            continue
        layer = wrap(module, 0.4)
        COMPUTED[compute](module)
        for training in (True, False):
            with pytest.raises(ValueError, match=r"parametrize\.remove_parametrizations"):
                layer.train(training)(x)


def test_what_is_made_a_parameter_again_is_masked() -> None:
    module = nn.Linear(20, 5, bias=False)
    prune.random_unstructured(module, "weight", amount=0.3)
    prune.remove(module, "weight")
    layer = SparseWeights(module, 0.4)
    assert not layer(torch.eye(20)).t()[layer.zero_mask].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_casting_leaves_the_mask(layer: sparse_syn.SparseWeightsBase, dtype: torch.dtype) -> None:
    before = layer.zero_mask.clone()
    for cast in (layer.to(dtype), layer.type(dtype), nn.Sequential(layer).to(dtype)[0]):
        assert torch.equal(cast.zero_mask, before)
        assert cast.weight.dtype == cast(batch(layer).to(dtype)).dtype == dtype
        assert masked(cast).eq(0).all()


@pytest.mark.parametrize("shape", [(19,), (3, 21), (20, 3), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    layer = SparseWeights(nn.Linear(20, 9), 0.3)
    layer.weight.data.fill_(1.0)
    with pytest.raises(ValueError, match=r"SparseWeights: x is \[.*\], choose \[..., 20\]"):
        layer(torch.randn(shape))
    assert layer.weight.eq(1).all()


@pytest.mark.parametrize("shape", [(4, 5), (3, 5, 5), (2, 5, 5, 5), (4, 2, 5, 5), (1, 2, 4, 5, 5)])
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"choose \[batch, 4, height, width\]"):
        SparseWeights2d(nn.Conv2d(4, 9, 3), 0.3)(torch.randn(shape))


def test_samples_come_as_to_the_layer_inside() -> None:
    linear = SparseWeights(nn.Linear(20, 9), 0.3)
    x = torch.randn(2, 3, 20)
    torch.testing.assert_close(linear(x)[1, 2], linear(x[1, 2]))
    convolution = SparseWeights2d(nn.Conv2d(4, 6, 3, groups=2), 0.3)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(convolution(x)[1], convolution(x[1]))


def test_weights_that_others_keep_for_their_gradient(layer: sparse_syn.SparseWeightsBase) -> None:
    """A penalty between two passes, as with gradient accumulation."""
    first = layer(batch(layer)).sum() + layer.weight.square().sum()
    (first + layer(batch(layer)).sum() + layer.weight.abs().sum()).backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[layer.zero_mask].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bool, torch.uint8, torch.float32])
@pytest.mark.parametrize("assign", [True, False])
def test_states_of_nupic_torch(
    layer: sparse_syn.SparseWeightsBase, dtype: torch.dtype, assign: bool
) -> None:
    other = type(layer)(copy.deepcopy(layer.module), sparsity=0.6)
    mask = layer.zero_mask.clone()
    state = {**layer.state_dict(), "zero_mask": mask.to(dtype)}
    other.load_state_dict(state, assign=assign)
    assert torch.equal(other.zero_mask, mask)
    assert masked(other).eq(0).all()


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_states_of_nupic_torch_with_indices(
    layer: sparse_syn.SparseWeightsBase, flat: bool, dtype: torch.dtype
) -> None:
    state = layer.state_dict()
    mask = state.pop("zero_mask").clone()
    state["zero_weights"] = (mask.flatten(1) if flat else mask).nonzero().t().to(dtype)
    given = set(state)
    other = nn.Sequential(type(layer)(copy.deepcopy(layer.module), sparsity=0.6))
    other.load_state_dict({f"0.{key}": value for key, value in state.items()})
    assert torch.equal(other[0].zero_mask, mask)
    assert set(state) == given


@pytest.mark.parametrize(
    ("wrap", "module"),
    [
        (PrunableSparseWeights, lambda: nn.Linear(20, 9)),
        (PrunableSparseWeights2d, lambda: nn.Conv2d(4, 9, 3)),
    ],
)
def test_masks_that_are_set(
    wrap: type[PrunableSparseWeights], module: Callable[[], nn.Module]
) -> None:
    for density in (0, 1):
        extreme = wrap(module(), weight_sparsity=density)
        assert extreme.off_mask.float().mean() == extreme.sparsity == 1 - density
    layer = wrap(module(), sparsity=0.5)
    kept = layer.weight.detach().clone()
    mask = layer.off_mask
    mask[0], mask[1] = True, False
    assert not torch.equal(layer.zero_mask, mask)
    layer.off_mask = mask.half()
    assert torch.equal(layer.off_mask, mask)
    assert layer.sparsity == pytest.approx(mask.double().mean().item())
    assert layer.sparsity + layer.weight_sparsity == 1
    loaded = wrap(module(), weight_sparsity=0.25)
    loaded.load_state_dict(layer.state_dict())
    assert loaded.sparsity == layer.sparsity and str(loaded) == str(layer)
    x = torch.eye(20) if wrap is PrunableSparseWeights else batch(layer)
    plain = linear if wrap is PrunableSparseWeights else conv2d
    torch.testing.assert_close(layer(x), plain(x, kept.masked_fill(mask, 0), layer.bias))
    assert isinstance(layer, sparse_syn.SparseWeightsBase)
    with pytest.raises(ValueError, match=r"off_mask is .*, choose .*the shape of the weights"):
        layer.off_mask = mask[0]
