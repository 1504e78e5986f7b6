"""Linear discriminant analysis of a stream: every class is a Gaussian, with a mean of its own and a
covariance that all share (Hayes & Kanan, 2020, "Lifelong machine learning with deep streaming
linear discriminant analysis").

The covariance is that about the means of the classes as they are now; the paper's, updated picture
by picture, is about what they were.
"""

from __future__ import annotations

import torch

from exps.keys import Key
from exps.kinds import Number
from utils.methods import closed
from utils.methods.closed import contradictions, misfits
from utils.methods.moments import Linear, Moments, solved

__all__ = ["Method", "contradictions", "misfits"]

KEYS = {
    "slda_shrinkage": Key(
        1e-4,
        Number(0, 1, above=True),
        "share of the covariance that is replaced by the mean variance of a feature, the same for "
        "all and without correlations (ε)",
    ),
}

ROUNDING = 1e-5  # the least variance, for a mean square of 1, that is more than rounding


class Method(closed.Closed):
    """Linear discriminants, with all classes as likely."""

    def solve(self, moments: Moments, device: torch.device) -> Linear:
        """W = Λ m and b = -½ mᵀ Λ m, Λ the inverse of the covariance."""
        means, share = moments.means, self.exp.slda_shrinkage
        covariance = moments.scatter(moments.counts, means) / max(int(moments.counts.sum()), 1)
        level = float(covariance.diagonal().mean())
        if level <= ROUNDING * float(means.square().mean()):  # no class varies: the nearest mean
            covariance, level = torch.eye(len(covariance)).to(covariance), 1.0
        cure = "choose a larger slda_shrinkage"
        weight = solved(covariance.mul_(1 - share), share * level, means.t().contiguous(), cure)
        return moments.classifier(weight, -(weight * means.t()).sum(0) / 2, device)
