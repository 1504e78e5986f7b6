"""Training pictures that are moved and mirrored at random, anew every time they are seen.

Each picture that a run trains on has a number, and what is drawn for it is a function of the seed
and that number alone (splitmix64: Steele et al., 2014, "Fast splittable pseudorandom number
generators"). So a checkpoint has to hold one number, any device draws the same, and a recorded step
draws anew when it is replayed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from exps.config import Experiment

PADDING = 4  # zeros on each side of a picture, from which as much as before is cut out
DRAW = 11  # sets these draws apart from whatever else is drawn from the seed
BITS = 20  # of a random number that a place is made of
# In the two's complement of 64 bits.
GOLDEN, FIRST, SECOND = (
    n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Augment:
    """Cuts pictures out of padded ones, and mirrors half of them; count: int64 [], how many have
    been seen, on the device of the pictures."""

    def __init__(self, exp: Experiment, device: torch.device) -> None:
        self.flips = exp.augment == "crop_flip"
        state = np.random.SeedSequence((DRAW, exp.seed)).generate_state(1, np.uint64)
        self.start = int(state.view(np.int64)[0])
        self.count = torch.zeros((), dtype=torch.int64, device=device)

    def __call__(self, x: Tensor) -> Tensor:
        """x [n, channels, height, width] of pixels that are 0 where they are black -> the same
        shape; the n pictures count."""
        n = torch.arange(len(x), device=x.device)
        drawn = mixed((self.count + n) * GOLDEN + self.start)
        self.count += len(x)
        down, right = (
            ((drawn >> by & (1 << BITS) - 1) * (2 * PADDING + 1)) >> BITS for by in (0, BITS)
        )
        flipped = drawn >> 2 * BITS & int(self.flips)
        return moved(x, down, right, flipped == 1)


def moved(x: Tensor, down: Tensor, right: Tensor, flipped: Tensor) -> Tensor:
    """Of each picture x [n, channels, height, width], padded with zeros, what lies so far below and
    to the right of its corner, int64 [n]; mirrored where flipped, bool [n]."""
    height, width = (torch.arange(side, device=x.device) for side in x.shape[2:])
    rows, columns = down.view(-1, 1) + height, right.view(-1, 1) + width
    columns = torch.where(flipped.view(-1, 1), columns.flip(1), columns)
    n = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    found = pad(x, (PADDING,) * 4)[n, :, rows.unsqueeze(2), columns.unsqueeze(1)]
    return found.permute(0, 3, 1, 2)  # from [n, height, width, channels]


def mixed(z: Tensor) -> Tensor:
    """64 random bits of every number, int64 in the same shape."""
    z = (z ^ _shifted(z, 30)) * FIRST
    z = (z ^ _shifted(z, 27)) * SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """To the right, as numbers without sign."""
    return z >> by & (1 << 64 - by) - 1
