"""What a step, an evaluation and a whole run cost: the reference and the fast engine in turn.

    python tests/speed/bench.py                           the four Permuted-MNIST MLPs, in float32
    python tests/speed/bench.py --precision fp32 bf16 --sections MLP_2LayersSparse --repeats 5
    python tests/speed/bench.py --whole                   whole runs as well, 2 tasks x 1 epoch
    python tests/speed/bench.py --sweep hidden_units=1000,4000,16000 --sections MLP_1LayerSparse

Each figure comes from a process of its own; the engines take turns, so that the noise of a shared
machine meets both. Ratios are taken repeat by repeat; medians, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

SECTIONS = ["MLP_1LayerSparse", "MLP_2LayersSparse", "MLP_1Layer", "MLP_2Layers"]
SHORT_RUN = ["num_batch=2", "train_ep=1", "train_ep_inc=1"]
WARM_UP = 10


def main() -> int:
    """Measure what the command line asks for, print the tables, write JSON."""
    args = _parser().parse_args()
    if args.child:
        print(json.dumps(measure_engine(json.loads(args.child))))
        return 0
    machine = _child({"machine": True}, args)
    print(
        f"{machine['name']}, {machine['threads']} threads, torch {machine['torch']}:"
        f" fp32 product {machine['fp32']:.0f} Gflop/s, bf16 product {machine['bf16']:.0f} Gflop/s,"
        f" copy {machine['copy']:.1f} GB/s\n"
    )
    rows = []
    for section in args.sections:
        for precision in args.precision:
            for override in _sweep(args.sweep):
                case = {
                    "section": section,
                    "set": [*args.set, *override, f"precision={precision}"],
                    "steps": args.steps,
                    "device": args.device,
                }
                rows.append(compare(case, args) | {"precision": precision, "case": override})
                print(_table([rows[-1]], machine, header=len(rows) == 1), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    return 0


def compare(case: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The reference and the fast engine on one case, in turn: every figure of every repeat."""
    engines = ["auto"] if args.fast_only else ["reference", "auto"]
    found: dict[str, Any] = {"section": case["section"], **{e: [] for e in engines}}
    for _ in range(args.repeats):
        for engine in engines:
            figures = _child(case | {"set": [*case["set"], f"engine={engine}"]}, args)
            if args.whole:
                figures |= _whole_run(case, engine)
            found[engine].append(figures)
    return found


def measure_engine(case: dict[str, Any]) -> dict[str, Any]:
    """One engine on one case, in this process: see the keys of the result."""
    import torch

    from benchmarks import make_stream
    from exps import config
    from models import make_model
    from utils.engines.choose import make_engine
    from utils.system.runtime import keep_memory, pick_device, seed_everything

    keep_memory()
    if case["threads"]:
        torch.set_num_threads(case["threads"])
    if case.get("machine"):
        return measure_machine()
    exp, _ = config.load(case["section"], overrides=[*case["set"], f"device={case['device']}"])
    device = pick_device(exp.device)
    stream = make_stream(exp).to(device)
    order = seed_everything(exp.seed)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    engine = make_engine(exp, model, stream, device)
    step = _seconds_a_step(engine, stream.training[0], exp.mb_size, order, max(case["steps"], 2))
    evaluation = _seconds_a_picture(engine, stream.tasks[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    return {
        "engine": engine.name,
        "step_ms": 1e3 * step,
        "samples_s": exp.mb_size / step,
        "test_us": 1e6 * evaluation,
        "peak_mb": peak,
        **count_work(exp, model, stream.input_shape, engine.name),
    }


def _seconds_a_step(engine: Any, task: Any, size: int, order: Any, steps: int) -> float:
    """The median of single steps; on a GPU, which works on while the host goes ahead, the mean."""
    import torch

    from utils.engines.batch import Batch

    shuffled = torch.randperm(len(task.train), generator=order).to(engine.device)
    batches = [task.train.take(part) for part in shuffled.split(size)][:-1]
    engine.begin_epoch(steps + WARM_UP)
    times = []
    for i in range(steps + WARM_UP):
        if i == WARM_UP:
            _wait(engine.device)
            start = time.perf_counter()
        began = time.perf_counter()
        engine.step(Batch.of(batches[i % len(batches)], task.head))
        times.append(time.perf_counter() - began)
    _wait(engine.device)
    mean = (time.perf_counter() - start) / steps
    engine.end_epoch()
    return mean if engine.device.type == "cuda" else median(times[WARM_UP:])


def _seconds_a_picture(engine: Any, task: Any) -> float:
    """Testing, in the batches of a run."""
    from utils.training.evaluation import BATCH

    size = BATCH[engine.device.type]
    pictures = task.test.take(slice(0, 4 * size))
    engine.logits(pictures.take(slice(0, size)), task.head)
    _wait(engine.device)
    began = time.perf_counter()
    for at in range(0, len(pictures), size):
        engine.logits(pictures.take(slice(at, at + size)), task.head)
    _wait(engine.device)
    return (time.perf_counter() - began) / len(pictures)


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count_work(exp: Any, model: Any, shape: tuple[int, int, int], engine: str) -> dict[str, float]:
    """Arithmetic (by kind of product) and bytes of main memory that a training step needs.

    Counted by hand for each engine: products forward, for the inputs' and the weights' gradients;
    bytes of weights, momentum and gradients as they are read and written, and of the first layer's
    pre-activations. What is small beside these is left out.
    """
    from models.costs import layer_costs
    from utils.engines.winners.first_layer import ROUNDED
    from utils.system.runtime import has_fast_int8

    costs = [c for c in layer_costs(model, shape) if not c.name.startswith("heads")]
    batch, weights = exp.mb_size, [c.params for c in costs]
    half = "bf16" if exp.precision == "bf16" else "fp32"
    work = {"fp32_gflop": 0.0, "bf16_gflop": 0.0}
    if engine != "sparse":
        products = 6 * sum(c.macs for c in costs) - 2 * costs[0].macs  # pictures need no gradient
        work[f"{half}_gflop"] = batch * products / 1e9
        # read forward and twice backward, gradient written and read, SGD reads 2 and writes 2
        bytes_ = sum(weights) * 4 * (3 + 1 + 3 + 2)
        return work | {"gbytes": bytes_ / 1e9}
    first, units = costs[0], exp.hidden_units
    k = model.blocks[0].activation.k
    kept = k * (1 - exp.dropout)
    inputs = first.macs / units
    later = len(costs) - 1
    in_half = half == "bf16" or (has_fast_int8() and k * ROUNDED <= units)
    parts = 2 if exp.momentum else 1  # of lazily updated weights
    rows = kept * inputs * 2 * parts  # the gradient of the winners' weights, a picture
    if half == "fp32" and in_half:
        rows += (k + 2) * inputs * 2 * parts  # exact values of the candidates
    rows += later * 2 * (parts * kept * units + (1 + 2 * parts) * kept * kept)
    if in_half:
        work["bf16_gflop"] = 2 * batch * first.macs / 1e9  # int8 counts as if it were bf16
        bytes_ = 2 * first.params  # the rounded weights, read
    else:
        work["fp32_gflop"] = (2 * batch * first.macs + 6 * first.params) / 1e9
        bytes_ = 24 * first.params  # read for the product and by SGD, which reads 3 and writes 2
    work["fp32_gflop"] += batch * rows / 1e9
    # rows read, those of gradients read and written; all pre-activations written and read twice
    bytes_ += 4 * batch * parts * inputs * ((k + 2) * in_half + 3 * kept)
    bytes_ += 4 * batch * (len(costs) * 3 * units + later * parts * kept * units)
    return work | {"gbytes": bytes_ / 1e9}


def measure_machine() -> dict[str, Any]:
    """The machine's rates: square products in Gflop/s, a large copy in GB/s (both ways)."""
    import platform

    import torch

    def best(call: Any) -> float:
        call()
        times = []
        for _ in range(7):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return median(times)

    n = 2048
    a = torch.randn(n, n)
    half = a.bfloat16()
    big = torch.zeros(2**26)
    other = torch.empty_like(big)
    return {
        "name": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "fp32": 2 * n**3 / best(lambda: a @ a) / 1e9,
        "bf16": 2 * n**3 / best(lambda: half @ half) / 1e9,
        "copy": 2 * big.nbytes / best(lambda: other.copy_(big)) / 1e9,
    }


def _table(rows: list[dict[str, Any]], machine: dict[str, Any], *, header: bool) -> str:
    lines = []
    if header:
        lines = [
            "| section | precision | engine | ms a step | samples/s | test, µs a picture |"
            " whole run, s | checkpoints | peak, MB | Gflop a step | GB a step |"
            " of GEMM rate | of copy rate | times the reference |",
            "| " + " | ".join(["---"] * 14) + " |",
        ]
    for row in rows:
        label = row["section"] + (f" ({', '.join(row['case'])})" if row["case"] else "")
        for engine in ("reference", "auto"):
            if engine in row:
                lines.append(f"| {label} | {row['precision']} | {_cells(row, engine, machine)} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any], engine: str, machine: dict[str, Any]) -> str:
    def mid(key: str) -> float:
        return median(figures[key] for figures in row[engine])

    first = row[engine][0]
    step = mid("step_ms") / 1e3
    floor = first["fp32_gflop"] / machine["fp32"] + first["bf16_gflop"] / machine["bf16"]
    whole, kept = "–", "–"
    if "whole_s" in first:
        whole, kept = f"{mid('whole_s'):.1f}", f"{100 * mid('checkpoint_share'):.1f} %"
    cells = [
        first["engine"],
        f"{1e3 * step:.2f}",
        f"{mid('samples_s'):,.0f}",
        f"{mid('test_us'):.1f}",
        whole,
        kept,
        f"{mid('peak_mb'):,.0f}",
        f"{first['fp32_gflop'] + first['bf16_gflop']:.2f}",
        f"{first['gbytes']:.3f}",
        f"{100 * floor / step:.0f} %",
        f"{100 * first['gbytes'] / machine['copy'] / step:.0f} %",
        "1" if engine == "reference" else _ratios(row),
    ]
    return " | ".join(cells)


def _ratios(row: dict[str, Any]) -> str:
    if "reference" not in row:
        return "–"
    texts = []
    for key, name in (("step_ms", "step"), ("test_us", "test"), ("whole_s", "whole")):
        pairs = zip(row["reference"], row["auto"], strict=True)
        ratios = sorted(r[key] / a[key] for r, a in pairs if key in r)
        if ratios:
            texts.append(f"{name} {median(ratios):.1f} ({ratios[0]:.1f}–{ratios[-1]:.1f})")
    return ", ".join(texts)


def _whole_run(case: dict[str, Any], engine: str) -> dict[str, float]:
    """A run, of two tasks and one epoch unless the case says otherwise: seconds from start to end
    of the process, and what share of the run its checkpoints cost at most (see Keeper.costs).
    """
    sets = [*SHORT_RUN, *case["set"], f"engine={engine}", f"device={case['device']}"]
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, str(ROOT / "run_exps.py"), "--name", case["section"], "--quiet"]
        command += ["--results-dir", results, *(part for s in sets for part in ("--set", s))]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - began
        (path,) = Path(results).glob("*.pkl")
        with path.open("rb") as file:
            stats = pickle.load(file)[1]  # made by the run above
    cost = stats["meta"]["checkpoints"]
    spent = cost["seconds"] + cost["seconds_beside"]
    return {"whole_s": seconds, "checkpoint_share": spent / stats["elapsed"]}


def _child(case: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """What `measure_engine` finds in a process of its own."""
    text = json.dumps(case | {"threads": args.threads})
    done = subprocess.run(
        [sys.executable, __file__, "--child", text], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"bench: {case} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _sweep(text: str) -> list[list[str]]:
    """`key=a,b,c` as one list of overrides for each value; [[]] without a sweep."""
    key, _, values = text.partition("=")
    return [[f"{key}={value}"] for value in values.split(",")] if text else [[]]


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--sections", nargs="+", default=SECTIONS, metavar="NAME")
    p.add_argument("--precision", nargs="+", default=["fp32"], choices=["fp32", "bf16"])
    p.add_argument("--device", default="cpu")
    p.add_argument("--threads", type=int, default=0, help="of the CPU; 0: what torch takes")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--steps", type=int, default=60, help="timed training steps a repeat")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    p.add_argument("--sweep", default="", metavar="KEY=A,B,C", help="one case for each value")
    p.add_argument("--whole", action="store_true", help="time whole runs, 2 tasks x 1 epoch, too")
    p.add_argument("--fast-only", action="store_true", help="leave the reference out")
    p.add_argument("--json", type=Path, metavar="FILE")
    p.add_argument("--child", default="", help=argparse.SUPPRESS)
    return p


if __name__ == "__main__":
    sys.exit(main())
