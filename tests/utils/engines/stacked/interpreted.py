"""The kernels, interpreted on the CPU, beside the plain path: the same memory after some steps.

A process of its own, for Triton decides when it is loaded.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[4]))

import torch

from benchmarks import make_stream
from tests.utils.engines.stacked.cases import KINDS, apart, experiment, memory, pictures, stacked
from utils.engines.stacked import kernels
from utils.engines.winners.lazy import SMALLEST_SCALE


def main() -> None:
    """Raise AssertionError where they differ."""
    torch.set_num_threads(1)
    kernels.COUNTED = 2**30  # as of large mini-batches, whose product with it is beyond 32 bits
    for kind in KINDS:
        exp = experiment(kind, hidden_units=40, mb_size=4)
        stream = make_stream(exp)
        stacks = [stacked(exp, stream, [1, 2])[0].stack for _ in range(2)]
        stacks[1].ops = kernels
        head, among = stream.training[1].head, stream.training[1].among
        for stack in stacks:
            if stack.scales.numel():  # one is about to be too small
                stack.scales[0, -1] = SMALLEST_SCALE
            for steps in (2, 1):
                first = pictures(exp, stream, 1, steps, short=1), head, among
                stack.run({0: first} | ({1: first} if steps == 2 else {}))
        plain, found = (memory(stack) for stack in stacks)
        for name, value in plain.items():
            other = found[name]
            if name.startswith(".flow"):  # of who had nothing to do it may be anything
                value, other = value[:1], other[:1]
            if ".on" in name and "unit" not in name:  # counted in other blocks
                value, other = value.sum(1), other.sum(1)
            assert apart(value, other) < 1e-4, (kind, name)
        assert all(stack.draws.taken.tolist() == [3, 2] for stack in stacks)
        test = stream.tasks[0].test.take(slice(0, 5))
        one, other = (stack.test(0, test, training=False) for stack in stacks)
        for name in ("unit", "raw", "h"):
            if hasattr(one, name):
                assert apart(getattr(one, name), getattr(other, name)) < 1e-4, (kind, name)
        print(kind)


if __name__ == "__main__":
    main()
