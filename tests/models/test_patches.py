"""Patches as filters, beside loops over patches that follow the words of the definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from exps.config import ConfigError, Experiment, from_texts
from exps.messages import Told
from models import ModelError, make_model
from models.costs import layer_costs
from models.filters import AT_ONCE, CONTRAST, Patches, Pooled, shares
from models.patches import LACKS

TEXTS = {"model": "patches", "mnist_mode": "split", "num_batch": "5"}


def network(picture: tuple[int, int, int] = (2, 9, 8), **keys: Any) -> tuple[Patches, Tensor]:
    """A network that has looked, and some pictures."""
    torch.manual_seed(0)
    few = {"filters": 12, "patch_size": 3, "percent_on_conv": 0.25} | keys
    model = make_model(Experiment(name="Test", model="patches", **few), picture, (3, 4))
    assert isinstance(model, Patches)
    model.look(torch.randn(20, *picture), torch.Generator().manual_seed(1))
    return model, torch.randn(5, *picture)


@pytest.mark.parametrize(("grid", "stride"), [(1, 1), (2, 1), (3, 1), (2, 2)])
@pytest.mark.parametrize("sparsify", [True, False])
@pytest.mark.parametrize("signs", [True, False])
def test_features_by_the_words_of_the_definition(
    grid: int, stride: int, sparsify: bool, signs: bool
) -> None:
    keys = {"patch_grid": grid, "patch_stride": stride, "patch_signs": signs}
    model, x = network(**keys, sparsify=sparsify)
    k, channels = (6, 24) if signs else (3, 12)
    rows, columns = (9 - 3) // stride + 1, (8 - 3) // stride + 1
    total = torch.zeros(5, grid, grid, channels, dtype=torch.float64)
    count = torch.zeros(grid, grid, 1)
    for n in range(5):
        count.zero_()
        for r in range(rows):
            for c in range(columns):
                at = stride * r, stride * c
                p = x[n, :, at[0] : at[0] + 3, at[1] : at[1] + 3].flatten().double()
                p = (p - p.mean()) / (p.var(correction=0) + CONTRAST).sqrt()
                said = model.filters.weight.double() @ p + model.filters.bias
                said = torch.cat([said, -said]) if signs else said
                least = said.sort(descending=True).values[k] if sparsify else 0
                cell = r * grid // rows, c * grid // columns
                total[n][cell] += (said - least).clamp(min=0)
                count[cell] += 1
    expected = (total / count).flatten(1).float()
    torch.testing.assert_close(model.features(x), expected, rtol=1e-4, atol=1e-5)
    assert model(x, 1).shape == (5, 4) and model.units == expected.shape[1]


def test_mirror_images_and_powers() -> None:
    plain, x = network()
    model, _ = network(patch_mirrored=True, patch_power=0.5)
    expected = (plain.features(x) + plain.features(x.flip(3))) / 2
    torch.testing.assert_close(model.features(x), expected.sqrt(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.features(x), model.features(x.flip(3)))
    model.responses = AT_ONCE // 2
    torch.testing.assert_close(model.features(x), expected.sqrt(), rtol=1e-4, atol=1e-4)


def test_a_filter_is_the_product_with_a_whitened_patch() -> None:
    picture, ridge = (1, 6, 6), 0.3
    model, _ = network(picture, filters=50, patch_size=4, patch_whitening=ridge)
    x = torch.randn(20, *picture)
    model.look(x, torch.Generator())
    patches = x.double().unfold(2, 4, 1).unfold(3, 4, 1).reshape(-1, 16)
    patches = patches - patches.mean(1, keepdim=True)
    patches = patches / (patches.square().mean(1, keepdim=True) + CONTRAST).sqrt()
    mean, spread = patches.mean(0), patches.t().cov(correction=0)
    whiter = torch.linalg.inv(spread + ridge * torch.eye(16))  # Z Zᵀ
    filters, found = model.filters, []
    for weight, bias in zip(filters.weight.double(), filters.bias.double(), strict=True):
        products = (patches - mean) @ whiter
        norms = (products * (patches - mean)).sum(1).sqrt()
        distance = (products / norms.unsqueeze(1) - weight).norm(dim=1)
        found.append(int(distance.argmin()))
        assert distance.min() < 1e-4 * weight.norm()
        assert float(bias) == pytest.approx(float(-weight @ mean), abs=1e-4)
    assert len(set(found)) == 50  # each of another patch


def test_looking_depends_on_the_seed_and_on_nothing_else() -> None:
    one, two = (network()[0].filters.weight for _ in range(2))
    assert torch.equal(one, two)
    model, x = network()
    model.look(x, torch.Generator().manual_seed(2))
    other = model.filters.weight.clone()
    model.look(x, torch.Generator().manual_seed(3))
    assert not torch.equal(model.filters.weight, other)


def test_patches_of_one_colour_are_no_filters() -> None:
    model, _ = network()
    x = torch.zeros(20, 2, 9, 8)
    x[0, :, 2, 3] = 5.0
    with pytest.raises(Told, match=r"there are 9 patches for 12 filters\n.*20 pictures"):
        model.look(x, torch.Generator())
    x[1, :, 6, 4] = -1.0
    model.look(x, torch.Generator())
    assert model.filters.weight.abs().sum(1).gt(0).all()


@given(rows=st.integers(1, 30), columns=st.integers(1, 30), grid=st.integers(1, 6))
def test_every_position_is_in_one_cell_and_cells_are_alike(
    rows: int, columns: int, grid: int
) -> None:
    if min(rows, columns) < grid:
        return
    share = shares(rows, columns, grid)
    assert (share.gt(0).sum(0) == 1).all()
    torch.testing.assert_close(share.sum(1), torch.ones(grid**2))
    sizes = share.gt(0).sum(1)
    assert sizes.max() <= (rows // grid + 1) * (columns // grid + 1)
    assert sizes.min() >= (rows // grid) * (columns // grid)


def test_chunks_change_nothing() -> None:
    model, x = network()
    whole = model.features(x)
    model.responses = AT_ONCE // 2
    torch.testing.assert_close(model.features(x), whole)


def test_costs_are_those_of_the_filters_at_every_position() -> None:
    model, _ = network()
    cost = layer_costs(model, (2, 9, 8))[0]
    assert (cost.params, cost.macs) == (12 * 18 + 12, 12 * 18 * 7 * 6)
    assert layer_costs(network(patch_mirrored=True)[0], (2, 9, 8))[0].macs == 2 * cost.macs
    assert Pooled(12, 3, 7, 6, 2).channels == 12 and model.pooled.k == 3


def test_pictures_that_are_too_small_are_refused() -> None:
    with pytest.raises(ModelError, match=r"patches of 3 × 3 .* have 1 × 1 positions"):
        network((1, 3, 3))
    with pytest.raises(ConfigError, match="too few for a grid of 2 × 2"):
        from_texts("Test", {**TEXTS, "patch_size": "28"})
    with pytest.raises(ConfigError, match="leaves no winner among 10 channels"):
        from_texts("Test", {**TEXTS, "filters": "10"})


@pytest.mark.parametrize("key", LACKS)
def test_what_it_lacks_does_not_count(key: str) -> None:
    exp = from_texts("Test", TEXTS)
    assert not exp.counts(key) and "other than patches" in exp.why_idle(key)
    assert from_texts("Test", {**TEXTS, "model": "mlp"}).counts("hidden_units")
