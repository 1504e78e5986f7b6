"""What a finished run says, and what `--dry-run` says before one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.stream import TaskStream
from exps.config import Experiment, as_dict, as_text
from exps.messages import shown
from exps.parts import called
from exps.plugins import is_path
from models.costs import LayerCost, layer_costs
from models.filters import Pooled
from models.network import Network
from sparse_syn.k_winners import KWinners, KWinners2d
from utils.engines.base import Engine
from utils.methods.base import Method
from utils.training.evaluation import some_of
from utils.training.examiner import tested, tests_untrained
from utils.training.record import RunRecord, empty_curve, lengths


def accuracy_table(accs: np.ndarray, width: int | None = None) -> str:
    """The accuracy matrix in percent: a row per task trained, a column per task tested, and the
    mean.

    accs: [tasks trained, tasks tested], fractions; what was not tested (NaN) is a dash, and a row
    of nothing else is left out. Columns that do not fit into `width` characters (the terminal's by
    default; ten fit into 80) are left out and counted.
    """
    width = width or shutil.get_terminal_size((100, 24)).columns
    rows = {
        f"after task {i + 1}" if len(accs) > 1 else "all tasks": row
        for i, row in enumerate(accs)
        if not np.isnan(row).all()
    }
    left = max(map(len, rows), default=0)
    fit = min(accs.shape[1], max(1, (width - left - len("  mean|")) // 6))

    def cells(values: np.ndarray) -> str:
        return "".join("     -" if np.isnan(v) else f"{100 * v:6.1f}" for v in values)

    lines = [f"{'on task':<{left}}  mean|" + "".join(f"{j + 1:6d}" for j in range(fit))]
    for label, row in rows.items():
        lines.append(f"{label:<{left}}{cells(np.nanmean(row, keepdims=True))}|{cells(row[:fit])}")
    if fit < accs.shape[1]:
        lines.append(f"({accs.shape[1] - fit} more columns are in the result)")
    return "\n".join(lines)


def headline(exp: Experiment, stream: TaskStream, engine: Engine, device: str) -> str:
    """What is about to run, and where, in a line."""
    network = shown(Path(exp.model).stem if is_path(exp.model) else exp.model.upper())
    return (
        f"{shown(exp.name)}: {len(stream.tasks)} tasks, {stream.scenario}-incremental,"
        f" {'sparse' if exp.sparsify and exp.counts('sparsify') else 'dense'} {network},"
        f" seed {exp.seed}, {engine.name} engine in {exp.precision} on {device}"
        f" ({torch.get_num_threads()} thread(s)),"
        f" data: {shown(stream.source, 400)}"
    )


def run_summary(record: RunRecord) -> str:
    """Accuracy matrix, mean accuracy, active units, costs and time, for the end of a run."""
    done = np.flatnonzero(~np.isnan(record.accs).all(axis=1))
    lines = []
    if len(done):
        last, tasks = done[-1] + 1, len(record.accs)
        where = "the last task" if last == tasks else f"task {last} of {tasks}"
        mean = 100 * np.nanmean(record.accs[done[-1]])
        lines += [
            "accuracy (%)",
            accuracy_table(record.accs),
            f"mean accuracy after {where}: {mean:.2f} %",
        ]
        if not np.isnan(given := record.given[done[-1] : last]).all():
            lines[-1] += f"; {100 * np.nanmean(given):.2f} % where the task is known"
    active = [e.active for e in record.epochs]
    if active and not np.isnan(active).all():
        lines.append(
            f"active units in training, after dropout: {np.mean(active):.3g} % of the classifier's"
            " inputs"
        )
    if record.method_costs:
        lines.append(f"cost of methods: {_method_costs(record)}")
    lines.append(f"time: {clock(record.elapsed)}")
    return "\n".join(lines)


def plan(
    exp: Experiment,
    stream: TaskStream,
    engine: Engine,
    methods: Sequence[Method] = (),
    first: int = 0,
) -> str:
    """The resolved configuration, the model and its costs, the tasks, the work and the engine;
    first: the task (from 0) that is trained first."""
    model = engine.model
    costs = layer_costs(model, stream.input_shape, engine.active)
    slower = f" (not faster: {engine.why_not_faster})" if engine.why_not_faster else ""
    return "\n".join(
        [
            f"[{shown(exp.name)}]",
            *(f"  {k} = {shown(as_text(v), 1000)}" for k, v in as_dict(exp).items() if k != "name"),
            "",
            str(model),
            "",
            *_cost_lines(engine.active, costs),
            *_part_lines(exp),
            "",
            f"tasks ({stream.scenario}-incremental, data: {shown(stream.source, 400)})",
            *_task_lines(stream),
            "",
            *([f"begins with task {first + 1}, behind those of {exp.begin_with}"] if first else []),
            *_work_lines(exp, stream, costs, first),
            *filter(None, (method.plan(engine) for method in methods)),
            f"engine: {engine.name} in {exp.precision} on {engine.device}{slower}",
        ]
    )


def clock(seconds: float) -> str:
    """12.3 s, 4 min 05 s, 2 h 03 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _method_costs(record: RunRecord) -> str:
    """What each method has cost, of what it has cost at all."""
    said = {
        "parameters": "{:,} numbers beside the network",
        "pictures": "{:,} pictures kept",
        "memory": "{:,} bytes for them",
        "macs": "{:,} multiply-adds a step",
    }
    return "; ".join(
        f"{shown(name)}: {', '.join(text.format(costs[k]) for k, text in said.items() if costs[k])}"
        for name, costs in record.method_costs.items()
    )


def _cost_lines(active: Network, costs: list[LayerCost]) -> list[str]:
    rows: dict[str, tuple[int, ...]] = {
        f"{c.name} ({c.kind})": (c.params, c.active_params, c.macs, c.active_macs) for c in costs
    }
    rows["total"] = tuple(sum(row[i] for row in rows.values()) for i in range(4))
    left = max(28, *map(len, rows))
    return [
        f"{'layer':<{left}}{'parameters':>14}{'active':>14}{'multiply-adds':>16}{'active':>16}",
        *(
            f"{name:<{left}}{n:>14,}{on:>14,}{macs:>16,}{on_macs:>16,}"
            for name, (n, on, macs, on_macs) in rows.items()
        ),
        "(active: of weights not masked, on inputs that win; one picture, forward)",
        _winner_line(active),
    ]


def _winner_line(model: Network) -> str:
    layers = [m for m in model.modules() if isinstance(m, KWinners | KWinners2d) or _pools(m)]
    layers.sort(key=lambda m: isinstance(m, KWinners))  # convolutions come first
    won = [
        f"{m.k:,} of {m.channels:,} channels"
        if isinstance(m, KWinners2d | Pooled)
        else f"{m.k:,} of {m.n:,}"
        for m in layers
    ]
    return f"(units that win, layer by layer: {'; '.join(won) or 'all that ReLU lets pass'})"


def _pools(module: object) -> bool:
    return isinstance(module, Pooled) and module.k > 0


def _part_lines(exp: Experiment) -> list[str]:
    layers = "each hidden layer" if len(set(exp.groups)) == 1 else "the hidden layers"
    what = " and ".join(dict.fromkeys(map(called, exp.widths)))
    return [
        f"({name}: a task has {_sizes(part.groups)} of the {_sizes(exp.groups)} {what} of {layers};"
        " a step and a test compute these alone, and multiply-adds and winners are theirs)"
        for name, part in exp.parts.items()
    ]


def _sizes(groups: Sequence[int]) -> str:
    """Each once, in their order."""
    return ", ".join(f"{n:,}" for n in dict.fromkeys(groups))


def _task_lines(stream: TaskStream) -> list[str]:
    lines, joint = [], len(stream.training) < len(stream.tasks)
    for i, t in enumerate(stream.tasks):
        trained = t.train if joint else stream.training[i].train
        head = f", head {t.head + 1}" if len(stream.head_sizes) > 1 else ""
        if i < 10 or i == len(stream.tasks) - 1:
            size = f"{len(trained):,} training, {len(t.test):,} test pictures"
            lines.append(f"  {i + 1}. {t.name}: {size}{head}")
        elif i == 10:
            lines.append("  ...")
    if joint:
        lines.append(f"  trained once on all of them: {len(stream.training[0].train):,} pictures")
    return lines


def _work_lines(
    exp: Experiment, stream: TaskStream, costs: list[LayerCost], first: int
) -> list[str]:
    exp, each = exp.in_effect, lengths(exp, stream)
    count, curve = len(each), empty_curve(exp.eval_every, each, 0)
    each = each[first:]
    steps = sum(length.total for length in each)
    trained = [
        len(task.train) * length.total // length.epoch
        for task, length in zip(stream.training[first:], each, strict=True)
    ]
    rounds = [stream.tasks] * tests_untrained(exp)
    rounds += [tested(exp, stream.tasks, task) for task in range(first, count)]
    evaluated = sum(len(task.test) for tasks in rounds for task in tasks)
    few, inner = some_of(stream, exp.eval_pictures), curve.within(first)
    within = sum(sum(len(task.test) for task in tested(exp, few, task)) for task in inner)
    flop = 2 * sum(c.macs for c in costs)
    total = flop * (3 * sum(trained) + evaluated + within)
    lines = [
        f"work: {'at most ' * (exp.patience > 0)}{steps:,} training steps"
        f" ({sum(trained):,} pictures),"
        f" {evaluated:,} pictures tested;"
    ]
    if exp.eval_every:
        lines += [
            f"      {len(inner):,} tests within tasks ({within:,} pictures,"
            f" {100 * flop * within / total:.0f} % of the work);"
        ]
    return [
        *lines,
        f"      computed densely {total / 1e12:,.3g} Tflop (forward, and twice that backward)",
    ]
