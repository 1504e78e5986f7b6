"""Median milliseconds of a training step of a section, as it is: `step.py NAME [STEPS]`.

With `python -c 'while True: pass' &` beside it, of a step on a busy machine.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from utils.system.surroundings import prepare

prepare()

import torch

from benchmarks import make_stream
from exps.config import load
from models import make_model
from utils.engines.batch import Batch
from utils.engines.choose import make_engine
from utils.methods.make import make_methods


def main() -> None:
    """Time the steps one by one, after five that are not counted."""
    name, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 60
    exp, _ = load(name)
    stream = make_stream(exp)
    torch.manual_seed(0)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    methods = make_methods(exp, stream)
    engine = make_engine(exp, model, stream, torch.device("cpu"), methods)
    for method in methods:
        method.begin_task(engine, 0)
    task, seconds = stream.training[0], []
    engine.begin_epoch(steps + 5)
    for step in range(steps + 5):
        some = task.train.take(slice(exp.mb_size * step, exp.mb_size * (step + 1)))
        began = time.perf_counter()
        engine.step(Batch.of(some, task.head))
        seconds.append(time.perf_counter() - began)
    median = 1000 * statistics.median(seconds[5:])
    print(f"{name}: {engine.name}, {torch.get_num_threads()} thread(s), {median:.2f} ms a step")


if __name__ == "__main__":
    main()
