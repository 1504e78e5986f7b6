"""What follows a convolution on a GPU: its kernel, interpreted on the CPU beside plain layers, and
compiled for GPUs of which none need be there. A process of its own: see `stacked/interpreted.py`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.argv[1] == "interpret":
    os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[4]))

import torch
from torch import nn

from models.dropout import Dropout
from sparse_syn.k_winners import KWinners2d
from utils.engines.compiled.on_gpu import OnGpu, _rectify


def interpret() -> None:
    """Raise AssertionError where a layer is another."""
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        for form in (torch.contiguous_format, torch.channels_last):
            for channels, share, p in (
                (8, 0.4, 0.0),
                (5, 1.0, 0.0),
                (20, 0.05, 0.5),
                (6, 0.9, 0.3),
            ):
                compare(dtype, form, channels, share, p)
    x = torch.randn(2, 3, 4, 4).requires_grad_()
    OnGpu(nn.ReLU(), None, Dropout(0.0))(x).sum().backward()  # ReLU alone
    assert x.grad is not None and x.grad.equal((x > 0).float())


def compare(
    dtype: torch.dtype, form: torch.memory_format, channels: int, share: float, p: float
) -> None:
    """One layer, a few steps; values that tie are among them."""
    plain = KWinners2d(channels, share, boost_strength=1.3, local=True)
    fast = KWinners2d(channels, share, boost_strength=1.3, local=True)
    layer = OnGpu(nn.Sequential(nn.ReLU(), fast), fast, Dropout(p))
    for _ in range(3):
        x = torch.randn(3, channels, 9, 7).to(dtype)
        x[0, :, 0, 0] = 0.5
        x = x.contiguous(memory_format=form).requires_grad_()
        expected, found = plain(nn.functional.relu(x.detach())), layer(x)
        # Which of equal ones win is chance to torch.
        kept, same = found != 0, (found != 0) & (expected != 0)
        assert dtype == torch.bfloat16 or kept.equal(same)
        assert (kept & ~same).float().mean() < 0.01
        factor = torch.tensor(1 / (1 - p)).to(dtype)
        assert torch.allclose(found[same], expected[same] * factor, rtol=1e-2 * (p > 0))
        lost = 1 - kept.float().mean() / (expected != 0).float().mean()
        assert abs(float(lost) - p) < (0.25 if p else 1e-6)
        close = 1e-6 if dtype == torch.float32 else 0.02
        assert torch.allclose(plain.duty_cycle, fast.duty_cycle, atol=close)
        fast.duty_cycle.copy_(plain.duty_cycle)
        found.float().sum().backward()
        assert x.grad is not None and ((x.grad != 0) <= kept).all()
    layer.eval(), plain.eval()
    x = torch.randn(2, channels, 4, 4).to(dtype)
    one, other = layer(x).sort(1).values, plain(x.relu()).sort(1).values
    assert torch.allclose(one, other) or dtype == torch.bfloat16
    x[0, 0, 1, 1] = torch.nan
    assert layer(x)[0, 0, 1, 1].isnan()  # and the loss shows it


def compiled() -> None:
    """Raise what Triton raises."""
    from triton import compile as build
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    numbers = ["C", "P", "K", "SB", "SC", "SP", "least"]
    for capability in (80, 90):
        for kind in ("fp32", "bf16"):
            signature = {
                **dict.fromkeys(("x", "y"), f"*{kind}"),
                **{"boost": "*fp32", "drawn": "*i16", "passes": "*i8", "wins": "*i32"},
                **dict.fromkeys(numbers, "i32"),
                **{"factor": "fp32"},
            }
            flags = {"WINNERS": True, "EXACT": kind == "bf16", "DROP": True}
            constants = {**flags, "CHANNELS": 64, "TILE": 32}
            ordered = {name: signature.get(name, "constexpr") for name in _rectify.arg_names}
            source = ASTSource(_rectify, ordered, constexprs=constants)
            build(source, target=GPUTarget("cuda", capability, 32))


if __name__ == "__main__":
    interpret() if sys.argv[1] == "interpret" else compiled()
