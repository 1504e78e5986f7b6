"""The variational autoencoder against torch's distributions, and what it is drawn from."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from models.vae import VAE, divergence, generated, macs


def made(*widths: int, latent: int = 3, seed: int = 0) -> VAE:
    return VAE(widths, latent, torch.Generator().manual_seed(seed))


def test_the_divergence_from_the_unit_normal() -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4)]])
    expected = 0.5 + (3 - math.log(4)) / 2  # half a nat for the mean; the rest for the variance
    assert divergence(mean, log_variance).item() == pytest.approx(expected)
    assert divergence(torch.zeros(2, 5), torch.zeros(2, 5)).tolist() == [0, 0]


def test_the_losses_are_those_of_the_distributions() -> None:
    vae, draw = made(6, 5, 4), torch.Generator().manual_seed(1)
    x, noise = torch.rand(7, 6, generator=draw).round(), torch.randn(7, 3, generator=draw)
    hidden = vae.encoder(x)
    latent = Independent(Normal(vae.mean(hidden), (vae.log_variance(hidden) / 2).exp()), 1)
    unit = Independent(Normal(torch.zeros(7, 3), torch.ones(7, 3)), 1)
    z = latent.mean + latent.stddev * noise
    seen = Independent(Bernoulli(generated(vae.decoder, z)), 1)
    bound = seen.log_prob(x) - kl_divergence(latent, unit)
    torch.testing.assert_close(vae.losses(x, noise), -bound)


def test_grey_values_count_as_shares() -> None:
    vae, noise = made(2, 4), torch.zeros(1, 3)
    ends = [vae.losses(torch.tensor([[a, b]]), noise) for a in (0.0, 1.0) for b in (0.0, 1.0)]
    with torch.no_grad():  # a decoder that does not look has the mean of black and white for grey
        vae.mean.weight.zero_(), vae.log_variance.weight.zero_()
    ends = [vae.losses(torch.tensor([[a, b]]), noise) for a in (0.0, 1.0) for b in (0.0, 1.0)]
    torch.testing.assert_close(vae.losses(torch.tensor([[0.5, 0.5]]), noise), sum(ends) / 4)


def test_the_decoder_mirrors_the_encoder() -> None:
    vae = made(784, 40, 20, latent=10)
    widths = [tuple(p.shape[::-1]) for p in vae.decoder.parameters() if p.dim() == 2]
    assert widths == [(10, 20), (20, 40), (40, 784)]
    assert macs(vae) == 2 * (784 * 40 + 40 * 20) + 3 * 20 * 10
    x = generated(vae.decoder, torch.randn(5, 10))
    assert x.shape == (5, 784) and (x > 0).all() and (x < 1).all()


def test_weights_are_drawn_as_torch_does_it_but_from_their_own_generator() -> None:
    before = torch.get_rng_state()
    one, two, other = made(100, 300), made(100, 300), made(100, 300, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for p, q, r in zip(one.parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q) and not torch.equal(p, r)
    torch_s = torch.nn.Linear(100, 300)
    mine = next(layer for layer in one.encoder if isinstance(layer, torch.nn.Linear))
    for name, p in torch_s.named_parameters():
        found = getattr(mine, name)
        assert found.abs().max() <= 0.1
        assert found.std().item() == pytest.approx(p.std().item(), rel=0.15)
