"""Every kernel, compiled for two generations of GPUs, of which none need be there.

A process of its own, for Triton is told of a GPU that is not there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[4]))

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from benchmarks import make_stream
from tests.utils.engines.stacked.cases import experiment, pictures, stacked
from utils.engines.stacked import kernels

CAPABILITIES = 80, 90


class Absent:
    """A GPU that one can compile for."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def main() -> None:
    """Raise what Triton raises."""
    launch, compiled = JITFunction.run, set()

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        launch(self, *args, grid=grid, warmup=True, **options)
        compiled.add(self.fn.__name__)

    JITFunction.run = compile_only
    for capability in CAPABILITIES:
        driver.set_active(Absent(capability))
        for kind in ("two relus, masked, no momentum", "heads", "relu", "two layers of winners"):
            for precision in ("fp32", "bf16") if kind in ("relu", "heads") else ("fp32",):
                exp = experiment(kind, precision=precision)
                stream = make_stream(exp)
                (engine,) = stacked(exp, stream, [0])
                engine.stack.ops = kernels
                engine.take_steps(pictures(exp, stream, 0, 1), 0, None)
                engine.stack.test(0, stream.tasks[0].test.take(slice(0, 16)), training=False)
    inlined = {"_keep", "_descend", "_largest", "_judge", "_update_head"}
    jitted = {n for n, f in vars(kernels).items() if isinstance(f, JITFunction)}
    assert compiled == jitted - inlined, jitted - inlined - compiled


if __name__ == "__main__":
    main()
