"""Random numbers of the benchmarks: a stream of its own for every purpose."""

from __future__ import annotations

import numpy as np
import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator for one purpose. Those for other purposes, and torch's own, draw other numbers.

    torch's generator keeps only 32 bits of a seed, so purposes cannot be told apart in higher ones.
    """
    state = np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))
