"""What a GPU makes of steps, tests, many seeds and whole runs: `make bench-gpu`, minutes.

    python tests/speed/gpu.py                     all tables of docs/performance.md for a GPU
    python tests/speed/gpu.py --sections MLP_1Layer CNNSparse --no-runs
    python tests/speed/gpu.py --sections MLP_1Layer --no-runs --kernels     where a step's time goes

The plain loop of PyTorch (peer.py) and the program take turns in one process; of each the median of
several rounds. The limit of a step is the time of the products that it needs at the rate of a large
product, and of the bytes at the rate of a large copy, both measured here, one after the other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from utils.system.surroundings import prepare

prepare()

import torch

from benchmarks import make_stream
from exps.config import Experiment, load
from models import make_model
from models.costs import layer_costs
from models.synapses import winner_layers
from tests.speed.peer import stepper
from utils.engines.batch import Batch
from utils.engines.choose import make_engine
from utils.engines.stacked.engine import StackedEngine
from utils.engines.stacked.stack import Stack
from utils.methods.make import make_methods
from utils.system.runtime import same_numbers_on_gpus, seed_everything
from utils.training.evaluation import BATCH

MLPS = ["MLP_1Layer", "MLP_1LayerSparse", "MLP_2Layers", "MLP_2LayersSparse"]
OTHERS = ["CNNSparse", "Contexts", "Growth"]
STEPS, ROUNDS, SEEDS = 96, 5, 10
GPU = torch.device("cuda:0")


def main() -> int:
    """Print the tables that the command line asks for."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--sections", nargs="+", default=MLPS + OTHERS, metavar="NAME")
    p.add_argument("--no-runs", action="store_true", help="steps alone, no whole runs")
    p.add_argument("--kernels", action="store_true", help="the time of each kernel of a step too")
    args = p.parse_args()
    if not torch.cuda.is_available():
        print("there is no CUDA device", file=sys.stderr)
        return 1
    same_numbers_on_gpus()
    rates = {precision: _product_rate(precision) for precision in ("fp32", "bf16")}
    copy = _copy_rate()
    print(
        f"{torch.cuda.get_device_name(GPU)}, torch {torch.__version__}: products"
        f" {rates['fp32']:.0f} Tflop/s in fp32, {rates['bf16']:.0f} in bf16; copy {copy:.2f} TB/s\n"
    )
    heads = (
        "section | precision | engine | kernels a step | µs a step | limit, µs | times the limit"
    )
    heads += " | plain PyTorch, µs | times faster | test of 10,000, ms | 10 seeds, µs a step"
    _row(heads.split(" | "), header=True)
    for section in args.sections:
        for precision in ("fp32", "bf16"):
            row, kernels = _steps(section, precision, rates[precision], copy)
            _row(row)
            if args.kernels:
                print("\n".join(f"{us:10.1f} µs  {name[:70]}" for us, name in kernels))
    if not args.no_runs:
        print()
        _row(
            ["section", "precision", "process, s", "training and tests, s", "accuracy, %"],
            header=True,
        )
        for section in args.sections:
            for precision in ("fp32", "bf16"):
                _row(_whole(section, precision))
        for section in args.sections[: len(MLPS)]:
            _row(_whole(section, "fp32", f"--seeds=0-{SEEDS - 1}"))
    return 0


def _steps(
    section: str, precision: str, rate: float, copy: float
) -> tuple[list[str], list[tuple[float, str]]]:
    """What a step costs, here and in plain PyTorch, by turns; and the µs of each kernel in it."""
    exp = load(section, overrides=["device=cuda", f"precision={precision}"])[0].in_effect
    stream = make_stream(exp).to(GPU)
    models = list(_models(exp, stream))
    methods = make_methods(exp, stream)
    engine = make_engine(exp, models[0], stream, GPU, methods)
    for method in methods:
        method.begin_task(engine, 0)
    engine.begin_epoch(STEPS * (ROUNDS + 2))
    task = stream.training[0]
    some = task.train.take(slice(0, STEPS * exp.mb_size))
    batches = list(some.split(exp.mb_size))

    def ours() -> None:
        if isinstance(engine, StackedEngine):
            for part in some.split(engine.at_once * exp.mb_size):
                engine.take_steps(part, task.head, task.among)
        else:
            for batch in batches:
                engine.step(Batch.of(batch, task.head))

    turns = {"ours": ours}
    plain = not exp.cnn and not methods
    if plain:
        step = stepper(exp, stream, GPU)

        def peer() -> None:
            for batch in batches:
                step(batch.rows)

        turns["plain"] = peer
    stacked = plain and not StackedEngine.declines(exp, models[0], stream, GPU)
    if stacked:
        stack = Stack(exp, models[0], stream, SEEDS, GPU)
        for s, model in enumerate(models[1:]):
            StackedEngine.of(stack, s, model, stream, s).begin_epoch(STEPS * (ROUNDS + 2))

        def seeds() -> None:
            for part in some.split(StackedEngine.at_once * exp.mb_size):
                stack.run(dict.fromkeys(range(SEEDS), (part, task.head, task.among)))

        turns["seeds"] = seeds
    taken = _in_turn(turns)
    limit = _limit(exp, models[0], stream.input_shape, rate, copy)
    us = {name: 1e6 * seconds / STEPS for name, seconds in taken.items()}
    others = [f"{us['plain']:.0f}", f"{us['plain'] / us['ours']:.1f}"] if plain else ["–", "–"]
    seeds = f"{us['seeds']:.0f} ({us['seeds'] / us['ours']:.1f} times)" if stacked else "–"
    found = [(its.device_time_total / STEPS, its.count, its.key) for its in _kernels(ours)]
    row = [
        section,
        precision,
        engine.name,
        f"{sum(count for _, count, _ in found) / STEPS:.0f}",
        f"{us['ours']:.0f}",
        f"{limit:.0f}" if plain else "–",
        f"{us['ours'] / limit:.1f}" if plain else "–",
        *others,
        f"{1e3 * _test_seconds(engine, stream.tasks[0]):.1f}",
        seeds,
    ]
    return row, sorted(((time, name) for time, _, name in found), reverse=True)


def void(_: object) -> None:
    """Nothing."""


def _models(exp: Experiment, stream: Any) -> Iterator[Any]:
    for seed in [0, *range(SEEDS)]:
        seed_everything(seed)
        yield make_model(exp, stream.input_shape, stream.head_sizes).to(GPU)
        if exp.cnn:
            return


def _in_turn(turns: dict[str, Callable[[], None]]) -> dict[str, float]:
    """The median seconds of each, after a round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(ROUNDS + 1):
        for name, turn in turns.items():
            torch.cuda.synchronize()
            began = time.perf_counter()
            turn()
            torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - began)
    return {name: median(seconds[1:]) for name, seconds in taken.items()}


def _kernels(turn: Callable[[], None]) -> list[Any]:
    """The kernels that it launches, recorded ones too, each kind with its number and time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        turn()
        torch.cuda.synchronize()
    return [event for event in found.key_averages() if event.device_time_total > 0]


def _test_seconds(engine: Any, task: Any) -> float:
    times = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for part in task.test.split(getattr(engine, "test_batch", BATCH["cuda"])):
            engine.logits(part, task.head)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - began) * 10_000 / len(task.test))
    return median(times)


def _limit(
    exp: Experiment, model: Any, shape: tuple[int, int, int], rate: float, copy: float
) -> float:
    """Microseconds that the products and bytes of a step of an MLP need at these rates.

    Dense layers: products forward, for the weights' gradient and, but for the first, for the
    inputs'; weights read for each product and, with their momenta, read and written by SGD.
    Of winners the first product alone is dense, and so is the SGD of the first layer.
    """
    layers = [cost for cost in layer_costs(model, shape) if not cost.name.startswith("heads")]
    products, bytes_ = 0.0, 0.0
    for i, cost in enumerate(layers):
        if winner_layers(model):
            products += 2 * cost.macs if i == 0 else 0
            bytes_ += (4 + 16) * cost.params if i == 0 else 0
        else:
            products += 2 * cost.macs * (2 if i == 0 else 3)
            bytes_ += (4 + 4 * (i > 0) + 16) * cost.params
    return 1e6 * (exp.mb_size * products / (rate * 1e12) + bytes_ / (copy * 1e12))


def _product_rate(precision: str) -> float:
    """Tflop/s of a product of 8192 × 8192 matrices."""
    n, dtype = 8192, torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(n, n, device=GPU, dtype=dtype)
    seconds = _in_turn({"product": lambda: void(torch.mm(a, a))})["product"]
    return 2 * n**3 / seconds / 1e12


def _copy_rate() -> float:
    """TB/s of a copy of 4 GB, read and written."""
    a = torch.zeros(2**30, device=GPU)
    b = torch.empty_like(a)
    return 2 * a.nbytes / _in_turn({"copy": lambda: void(b.copy_(a))})["copy"] / 1e12


def _whole(section: str, precision: str, *more: str) -> list[str]:
    """A process from its start to its end: two tasks of one epoch, all tests; of many seeds the
    seconds of the one that took longest."""
    from utils.results.files import load_results

    sets = ["num_batch=2", "train_ep=1", "train_ep_inc=1", f"precision={precision}", "device=cuda"]
    label = " ".join((section, *more))
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, str(ROOT / "run_exps.py"), "--name", section, "--quiet", *more]
        command += ["--results-dir", results, *(part for s in sets for part in ("--set", s))]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            return [label, precision, "failed: " + done.stderr.splitlines()[-1], "–", "–"]
        found = [load_results(path)[1] for path in Path(results).glob("*.pkl")]
    accuracy = 100 * sum(stats["accs"][-1].mean() for stats in found) / len(found)
    elapsed = max(stats["elapsed"] for stats in found)
    return [label, precision, f"{seconds:.1f}", f"{elapsed:.2f}", f"{accuracy:.1f}"]


def _row(cells: list[str], *, header: bool = False) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)
    if header:
        print("| " + " | ".join(["---"] * len(cells)) + " |")


if __name__ == "__main__":
    sys.exit(main())
