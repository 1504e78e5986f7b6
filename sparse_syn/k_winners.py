"""k-winners activations: of each sample the k units with the largest boosted values stay on.

Ahmad & Scheinkman, 2019, https://arxiv.org/abs/1903.11257. Names, arguments, buffers and methods
are nupic.torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .arguments import check
from .functional import (
    binary_entropy,
    kwinners,
    kwinners2d,
    max_entropy,
    moving_duty_cycle,
    require_pictures,
    require_units,
)
from .kept import KeepsTypes
from .recomputation import Passes


def update_boost_strength(m: nn.Module) -> None:
    """Decay the boost strength of a k-winners layer, ours or nupic.torch's; for `model.apply`."""
    update = getattr(m, "update_boost_strength", None)
    if callable(update):
        update()


class KWinnersBase(KeepsTypes):
    """What both k-winners layers share: boosting and the duty cycle.

    Buffers: duty_cycle, float32, how often each unit won; boost_strength [], float32;
    learning_iterations [], int64, the samples seen in training. They are updated in place and
    without waiting for the device, and not by a pass that gradient checkpointing repeats: that one
    has the winners of the first (see `recomputation`).
    """

    duty_cycle: Tensor
    boost_strength: Tensor
    learning_iterations: Tensor

    def __init__(
        self,
        duty_cycle: Tensor,
        percent_on: float,
        k_inference_factor: float,
        boost_strength: float,
        boost_strength_factor: float,
        duty_cycle_period: int,
        break_ties: bool,
        relu: bool,
        inplace: bool,
    ) -> None:
        super().__init__()
        check("percent_on", percent_on, 0 < percent_on <= 1, "above 0 and up to 1")
        check("k_inference_factor", k_inference_factor, k_inference_factor > 0, "above 0")
        check("boost_strength", boost_strength, boost_strength >= 0, "0 or above")
        factor = boost_strength_factor
        check("boost_strength_factor", factor, 0 <= factor <= 1, "from 0 to 1")
        check("duty_cycle_period", duty_cycle_period, duty_cycle_period >= 1, "1 or above")
        self.percent_on = percent_on
        self.k_inference_factor = k_inference_factor
        self.percent_on_inference = min(percent_on * k_inference_factor, 1.0)
        self.boost_strength_factor = boost_strength_factor
        self.duty_cycle_period = duty_cycle_period
        self.break_ties = break_ties
        self.relu = relu
        self.inplace = inplace
        self.n = self.k = self.k_inference = 0
        self.register_buffer("duty_cycle", duty_cycle)
        strength = torch.tensor(float(boost_strength), dtype=torch.float32)
        self.register_buffer("boost_strength", strength)
        self.register_buffer("learning_iterations", torch.tensor(0))
        self.passes = Passes()

    def forward(self, x: Tensor) -> Tensor:
        self._require(x)
        if not self.training:
            return self._compete(x, self.k_inference, self.duty_cycle, self.boost_strength)
        again, before = self.passes.before(x, (self.duty_cycle, self.boost_strength))
        y = self._compete(x, self.k, *before)
        if not again:
            self.update_duty_cycle(y)
        return y

    @torch.no_grad()
    def update_boost_strength(self) -> None:
        """boost_strength *= boost_strength_factor."""
        self.boost_strength.mul_(self.boost_strength_factor)

    def update_duty_cycle(self, x: Tensor) -> None:
        """Count the output x of a training batch: a unit won a sample where x is above zero."""
        self._require(x)
        self.count_wins(*self._wins(x.detach()))

    def count_wins(self, wins: Tensor, batch: int) -> None:
        """`update_duty_cycle` from counts: how many of `batch` samples each unit won."""
        if batch == 0:
            return
        self.learning_iterations.add_(batch)
        duty_cycle = moving_duty_cycle(
            self.duty_cycle, wins, batch, self.learning_iterations, self.duty_cycle_period
        )
        self.duty_cycle.copy_(duty_cycle)

    def entropy(self) -> Tensor:
        """Entropy of the duty cycle in bits, summed over the units."""
        return binary_entropy(self.duty_cycle)[1]

    def max_entropy(self) -> float:
        """The entropy of int(n * percent_on) winners when all units win equally often.

        nupic.torch's figure. k is rounded, not cut, so the entropy can exceed it where k rounds up;
        and where k is more than half of n, as a winner that is not above zero does not count.
        """
        return max_entropy(self.n, int(self.n * self.percent_on))

    def extra_repr(self) -> str:
        return (
            f"n={self.n}, percent_on={self.percent_on}, k={self.k}, "
            f"k_inference={self.k_inference}, boost_strength_factor={self.boost_strength_factor}, "
            f"duty_cycle_period={self.duty_cycle_period}, break_ties={self.break_ties}, "
            f"relu={self.relu}, inplace={self.inplace}"
        )

    def _require(self, x: Tensor) -> None:
        """Raise ValueError for an input of another shape, and leave the layer as it was."""
        raise NotImplementedError

    def _compete(self, x: Tensor, k: int, duty_cycle: Tensor, boost_strength: Tensor) -> Tensor:
        """x with the values of k winners of each sample alone."""
        raise NotImplementedError

    def _wins(self, x: Tensor) -> tuple[Tensor, int]:
        """How many samples each unit won, in the shape of duty_cycle, and of how many."""
        raise NotImplementedError

    def _set_k(self, k: int, k_inference: int, units: int) -> None:
        """Of so many units, k win in training and k_inference in evaluation, but never none."""
        if k == 0:
            raise ValueError(
                f"percent_on = {self.percent_on} leaves none of {units} units on: "
                f"choose at least {1 / units:.3g}"
            )
        if k_inference == 0:
            raise ValueError(
                f"k_inference_factor = {self.k_inference_factor} leaves none of {units} units on "
                f"in evaluation (in training {k}): choose at least {1 / k:.3g}"
            )
        self.k, self.k_inference = k, min(k_inference, units)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # nupic.torch does not save how many samples were seen. A duty cycle that is not all zero is
        # taken for one of a full period, so that the next batch does not wipe it out.
        duty_cycle = state_dict.get(prefix + "duty_cycle")
        if duty_cycle is not None and prefix + "learning_iterations" not in state_dict:
            seen = self.duty_cycle_period if bool(duty_cycle.any()) else 0
            state_dict[prefix + "learning_iterations"] = torch.tensor(seen)
            state_dict.setdefault(prefix + "boost_strength", self.boost_strength)  # none at first
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class KWinners(KWinnersBase):
    """The k units of each sample with the largest boosted values pass, the others are zero.

    x [..., n] -> the same shape; all but the last dimension count samples, without any it is one.
    k = round(n * percent_on) units win in training and k_inference = int(k * k_inference_factor),
    at most n, in evaluation. boost_strength pulls up units that won seldom in the last
    duty_cycle_period training samples. break_ties, relu and inplace as in `functional.kwinners`.
    Raises ValueError for an argument that is out of range or leaves no winner, and for x of another
    shape.
    """

    def __init__(
        self,
        n: int,
        percent_on: float,
        k_inference_factor: float = 1.5,
        boost_strength: float = 1.0,
        boost_strength_factor: float = 0.9,
        duty_cycle_period: int = 1000,
        break_ties: bool = False,
        relu: bool = False,
        inplace: bool = False,
    ) -> None:
        check("n", n, n >= 1, "1 or above")
        super().__init__(
            torch.zeros(n, dtype=torch.float32),
            percent_on,
            k_inference_factor,
            boost_strength,
            boost_strength_factor,
            duty_cycle_period,
            break_ties,
            relu,
            inplace,
        )
        self.n = n
        k = round(n * percent_on)
        self._set_k(k, int(k * k_inference_factor), n)

    def _require(self, x: Tensor) -> None:
        require_units(x, self.duty_cycle)

    def _compete(self, x: Tensor, k: int, duty_cycle: Tensor, boost_strength: Tensor) -> Tensor:
        return kwinners(x, duty_cycle, k, boost_strength, self.break_ties, self.relu, self.inplace)

    def _wins(self, x: Tensor) -> tuple[Tensor, int]:
        x = x.reshape(-1, self.n)  # [samples, n]
        return (x > 0).sum(0, dtype=torch.float32), x.shape[0]


class KWinners2d(KWinnersBase):
    """k-winners for pictures, x [batch, channels, height, width] -> the same shape.

    One picture [channels, height, width] is a batch of one.
    local: round(channels * percent_on) channels win at each position, in evaluation
    round(channels * percent_on * k_inference_factor). Otherwise as large a part of all
    n = channels * height * width values of a sample. n comes from the input; until the first one n,
    and k unless local, are 0. The duty cycle [1, channels, 1, 1] is shared by the positions of a
    channel. The other arguments are those of `KWinners`. Raises ValueError for an argument that is
    out of range or leaves no winner, with local false when the first input comes, and for x of
    another shape.
    """

    def __init__(
        self,
        channels: int,
        percent_on: float = 0.1,
        k_inference_factor: float = 1.5,
        boost_strength: float = 1.0,
        boost_strength_factor: float = 0.9,
        duty_cycle_period: int = 1000,
        local: bool = False,
        break_ties: bool = False,
        relu: bool = False,
        inplace: bool = False,
    ) -> None:
        check("channels", channels, channels >= 1, "1 or above")
        super().__init__(
            torch.zeros(1, channels, 1, 1, dtype=torch.float32),
            percent_on,
            k_inference_factor,
            boost_strength,
            boost_strength_factor,
            duty_cycle_period,
            break_ties,
            relu,
            inplace,
        )
        self.channels = channels
        self.local = local
        if local:
            self._set_k_of(channels)

    def entropy(self) -> Tensor:
        """Entropy of the duty cycle in bits, summed over channels and positions."""
        return super().entropy() * self.n / self.channels

    def max_entropy(self) -> float:
        """The entropy when all channels win equally often, which can be exceeded where more than
        half of them win; 0 before the first input.
        """
        if self.n == 0:
            return 0.0
        units = self.channels if self.local else self.n
        return max_entropy(units, self.k) * self.n / units

    def get_extra_state(self) -> Tensor:
        """n, which comes from the input and not from an argument."""
        return torch.tensor(self.n)

    def set_extra_state(self, state: Tensor) -> None:
        if not state.is_floating_point() and int(state):  # float16 would have rounded it
            self._set_n(int(state))

    def extra_repr(self) -> str:
        return f"channels={self.channels}, local={self.local}, {super().extra_repr()}"

    def _set_n(self, n: int) -> None:
        if n != self.n:
            if not self.local:
                self._set_k_of(n)
            self.n = n

    def _set_k_of(self, units: int) -> None:
        k = round(units * self.percent_on)
        self._set_k(k, round(units * self.percent_on_inference), units)

    def _require(self, x: Tensor) -> None:
        require_pictures(x, self.duty_cycle)
        self._set_n(x.shape[-3:].numel())

    def _compete(self, x: Tensor, k: int, duty_cycle: Tensor, boost_strength: Tensor) -> Tensor:
        return kwinners2d(
            x, duty_cycle, k, boost_strength, self.local, self.break_ties, self.relu, self.inplace
        )

    def _wins(self, x: Tensor) -> tuple[Tensor, int]:
        x = x.reshape(-1, *x.shape[-3:])  # [samples, channels, height, width]
        wins = (x > 0).sum((0, 2, 3), keepdim=True, dtype=torch.float32)  # [1, channels, 1, 1]
        return wins / (x.shape[2] * x.shape[3]), x.shape[0]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        state_dict.setdefault(prefix + "_extra_state", torch.tensor(0))  # nupic.torch has none
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
