"""A generator that learns pictures step by step, and makes those that it knew at some time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.vae import VAE, generated, macs
from utils.methods.base import draws
from utils.optimizers.base import TorchOptimizer
from utils.system.runtime import products_in

DRAW = 6  # sets the draws of generators apart from whatever else is drawn from the seed


class Generator:
    """A variational autoencoder with its optimiser, Adam; `frozen` is a copy of its decoder.

    widths, latent: see VAE; precision: fp32 or bf16, of dense products. All is drawn from the seed,
    on the CPU, whatever the device.
    """

    def __init__(
        self, widths: Sequence[int], latent: int, lr: float, seed: int, precision: str = "fp32"
    ) -> None:
        self.random, self.latent, self.precision = draws(DRAW, seed), latent, precision
        self.vae = VAE(widths, latent, self.random)
        self.frozen: nn.Module | None = None
        self.parameters = list(self.vae.parameters())
        self.adam = TorchOptimizer(torch.optim.Adam(self.parameters, lr=lr, fused=True))

    def learn(self, x: Tensor, weight: Tensor) -> None:
        """Take a step on pictures x [n, pixels] of values from 0 to 1; weight [n]: what the loss of
        each counts."""
        with products_in(self.precision, x.device):
            loss = (weight * self.vae.losses(x, self._noise(len(x)))).sum()
        gradients = torch.autograd.grad(loss, self.parameters)
        self.adam.apply(list(zip(self.parameters, gradients, strict=True)))

    @torch.no_grad()
    def make(self, count: int) -> Tensor:
        """So many pictures, values from 0 to 1 [count, pixels], as it was when it was frozen."""
        assert self.frozen is not None
        noise = self._noise(count)
        with products_in(self.precision, noise.device):
            return generated(self.frozen, noise)

    def freeze(self) -> None:
        """Make pictures as it is now from here on."""
        self.frozen = copy.deepcopy(self.vae.decoder).requires_grad_(False)

    def to(self, device: torch.device) -> None:
        """Compute there."""
        if self.parameters[0].device != device:
            self.vae.to(device)
            for parameter in self.parameters:  # its moments move to where it is
                self.adam.restore(parameter, self.adam.state(parameter))
            if self.frozen is not None:
                self.frozen.to(device)

    def costs(self) -> tuple[int, int, int]:
        """Its numbers, those of the copy too; the multiply-adds of training on a picture, a
        backward pass counted as two forward ones; and those of making one."""
        parts = [self.vae] if self.frozen is None else [self.vae, self.frozen]
        numbers = sum(p.numel() for part in parts for p in part.parameters())
        return numbers, 3 * macs(self.vae), 0 if self.frozen is None else macs(self.frozen)

    def state(self) -> dict[str, Any]:
        """All of it."""
        return {
            "random": self.random.get_state(),
            "vae": dict(self.vae.state_dict()),
            "adam": [self.adam.state(p) for p in self.parameters],
            "frozen": {} if self.frozen is None else dict(self.frozen.state_dict()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.random.set_state(state["random"])
        self.vae.load_state_dict(state["vae"])
        for parameter, its in zip(self.parameters, state["adam"], strict=True):
            self.adam.restore(parameter, its)
        if state["frozen"]:
            self.freeze()
            assert self.frozen is not None
            self.frozen.load_state_dict(state["frozen"])

    def _noise(self, count: int) -> Tensor:
        """Unit normal, [count, latent]."""
        noise = torch.randn(count, self.latent, generator=self.random)
        return noise.to(self.parameters[0].device, non_blocking=True)
