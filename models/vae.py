"""A variational autoencoder, which learns to make pictures like those that it is shown (Kingma &
Welling, 2014, "Auto-encoding variational Bayes").
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class VAE(nn.Module):
    """Fully connected, with ReLU; the decoder mirrors the encoder.

    widths: the pixels of a picture, then the units of each hidden layer of the encoder; latent: the
    numbers that a picture is made of; generator: what the weights are drawn from, on the CPU.
    """

    def __init__(self, widths: Sequence[int], latent: int, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = _hidden(widths, generator)
        self.mean = _linear(widths[-1], latent, generator)
        self.log_variance = _linear(widths[-1], latent, generator)
        self.decoder = _hidden((latent, *widths[:0:-1]), generator)
        self.decoder.append(_linear(widths[1], widths[0], generator))

    def losses(self, x: Tensor, noise: Tensor) -> Tensor:
        """The negative evidence lower bound of each picture x [n, pixels] of values from 0 to 1,
        [n] in nats; one latent value each is drawn, by unit normal noise [n, latent]."""
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden).float(), self.log_variance(hidden).float()
        logits = self.decoder(mean + (0.5 * log_variance).exp() * noise).float()
        wrong = binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return wrong + divergence(mean, log_variance)


def generated(decoder: nn.Module, noise: Tensor) -> Tensor:
    """What a decoder makes of unit normal noise [n, latent]: values from 0 to 1 [n, pixels]."""
    return decoder(noise).float().sigmoid()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the unit normal of normals [n, dimensions]: [n], in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def macs(part: nn.Module) -> int:
    """Multiply-adds of a VAE, or of a part of one, for one picture."""
    return sum(layer.weight.numel() for layer in part.modules() if isinstance(layer, nn.Linear))


def _hidden(widths: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    layers = [
        (_linear(inputs, outputs, generator), nn.ReLU()) for inputs, outputs in pairwise(widths)
    ]
    return nn.Sequential(*(layer for pair in layers for layer in pair))


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """As torch draws one, but not from the global generator, which is the network's."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    assert isinstance(layer, nn.Linear)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer
