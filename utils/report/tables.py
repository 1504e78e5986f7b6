"""The tables of a report: their contents, and the ways they are written."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from exps.messages import markdown, shown
from utils.report.answers import Pair, Report
from utils.report.ranking import Ranking
from utils.report.statistics import Comparison, Estimate, estimate
from utils.report.wording import MAIN, effect_text, estimate_text, p_text, unit_text, value_text
from utils.results.groups import MISSING, Group, differences
from utils.results.metrics import (
    ACCURACY,
    ANSWERS,
    ANYTIME,
    CHANGE,
    COST,
    METHODS,
    METRICS,
    SPARSITY,
)
from utils.results.table import accuracy_frame, run_frame
from utils.system.disk import write_own

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "[": "{[}", "*": "{*}", "±": r"$\pm$", "−": r"$-$", "–": "--", "…": r"\dots{}",
}  # fmt: skip

_PARTS = {
    "Accuracy": ACCURACY,
    "While tasks are trained": ANYTIME,
    "Answers": ANSWERS,
    "What it costs": METHODS,
    "Sparsity": SPARSITY,
    "Size of the network": COST,
    "Contexts and synapses": CHANGE,
}
_NAME = 24  # characters up to which a group's name can stand above a column in a terminal


@dataclass(frozen=True)
class Table:
    """Text in rows, the first cell of each naming it; `caption` says what it shows."""

    caption: str
    head: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [self.head, ["---"] + ["---:"] * (len(self.head) - 1), *self.rows]
        texts = [f"| {' | '.join(map(markdown, row))} |" for row in lines]
        return "\n".join([f"**{markdown(self.caption)}**", "", *texts])

    def latex(self) -> str:
        r"""A `table` with \toprule and so on of the package booktabs."""
        head, *rows = [" & ".join(map(latex, row)) + r" \\" for row in (self.head, *self.rows)]
        form = "l" + "r" * (len(self.head) - 1)
        begin = [r"\begin{table}", r"\centering", rf"\caption{{{latex(self.caption)}}}"]
        body = [rf"\begin{{tabular}}{{{form}}}", r"\toprule", head, r"\midrule", *rows]
        return "\n".join([*begin, *body, r"\bottomrule", r"\end{tabular}", r"\end{table}"])

    def page(self) -> str:
        """As HTML, in a frame that scrolls by itself where it is too wide."""
        heads = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.head)
        rows = "\n".join(
            f'<tr><th scope="row">{html.escape(row[0])}</th>'
            + "".join(f"<td>{_html(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        caption = html.escape(self.caption)
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table>\n'
            f"<caption><span>{caption}</span></caption>\n"
            f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
        )

    def terminal(self, width: int) -> str:
        """As text in columns: as many tables one below the other as the width asks for."""
        rows = (self.head, *self.rows)
        left, *sizes = (max(map(len, column)) for column in zip(*rows, strict=True))
        parts: list[list[int]] = [[]]
        for i in range(len(sizes)):
            if parts[-1] and left + sum(sizes[j] + 2 for j in (*parts[-1], i)) > width:
                parts.append([])
            parts[-1].append(i)
        return "\n\n".join(
            "\n".join(
                name.ljust(left) + "".join("  " + cells[i].rjust(sizes[i]) for i in part)
                for name, *cells in rows
            )
            for part in parts
        )


def _html(cell: str) -> str:
    """A cell, which may become two lines before ± where the page is narrow."""
    return html.escape(cell).replace("± ", "±&nbsp;").replace("&lt; ", "&lt;&nbsp;")


def latex(text: str) -> str:
    """The text for LaTeX: nothing in it is a command."""
    return "".join(_LATEX.get(character, character) for character in text)


def metric_tables(report: Report) -> list[Table]:
    """Mean and interval of every metric that some group has: a row per group."""
    tables = []
    for title, metrics in _PARTS.items():
        kept = [m for m in metrics if any(_tells(m, estimate(g.values(m))) for g in report.groups)]
        if kept and metrics is METHODS:
            kept.insert(0, MAIN)  # what it is spent for
        head, rows = ["group", "runs", *(unit_text(METRICS[m]) for m in kept)], []
        for group in report.groups:
            ended, count = sum(run.complete for run in group.runs), len(group.runs)
            runs = str(ended) if ended == count else f"{ended} of {count}"
            means = [estimate_text(METRICS[m], estimate(group.values(m))) for m in kept]
            rows.append([group.label, runs, *means])
        if kept:
            tables.append(Table(f"{title}: mean ± 95 % confidence interval", head, rows))
    return tables


def _tells(name: str, mean: Estimate) -> bool:
    """Whether a column of it says anything: costs of methods are 0 where there are none."""
    return mean.n > 0 and (name not in METHODS or mean.mean > 0)


def as_text(report: Report, width: int) -> str:
    """The answer, notes, all against the best of them, and the mean and interval of every metric,
    in so many columns.
    """
    parts = ["\n".join(report.answer)]
    if report.notes:
        parts.append("\n".join(f"note: {note}" for note in report.notes))
    names = [group.label for group in report.groups]
    if any(len(name) > _NAME for name in names):
        parts.append("\n".join(f"{group.number:>3}  {group.label}" for group in report.groups))
        names = [str(group.number) for group in report.groups]
    parts += [ranking_table(r).terminal(width) for r in report.rankings]
    for table in metric_tables(report):
        # A column per group, which is what a terminal has room for.
        _, *rows = zip(table.head, *table.rows, strict=True)
        turned = Table(table.caption, ["group", *names], [list(row) for row in rows])
        parts.append(turned.terminal(width))
    return "\n\n".join(parts)


def overview_table(report: Report) -> Table:
    """Every pair in average accuracy: a row each."""
    rows = [
        [f"{pair.first.label} minus {pair.second.label}", *_comparison(MAIN, pair.metrics[MAIN])]
        for pair in report.pairs
    ]
    caption = f"Comparisons in {METRICS[MAIN].label}: difference ± 95 % confidence interval"
    return Table(caption, ["groups", *_COMPARISON], rows)


def ranking_table(ranking: Ranking) -> Table:
    """All of the groups against the best of them, in average accuracy: a row each."""
    leads = [[MISSING] * 5, *(_comparison(MAIN, lead)[:5] for lead in ranking.leads)]
    means = [estimate(group.values(MAIN)) for group in ranking.groups]
    rows = [
        [ranking.name(group), estimate_text(METRICS[MAIN], mean), str(mean.n), *lead]
        for group, mean, lead in zip(ranking.groups, means, leads, strict=True)
    ]
    head = [ranking.line.key if ranking.line else "group", unit_text(METRICS[MAIN]), "runs"]
    head += ["lead (points)", *_COMPARISON[1:5]]
    caption = f"{ranking.title}, the best and its lead on each; Holm for {ranking.pairs} pairs"
    caption += "; in order by the seeds that all have" if ranking.partly else ""
    return Table(caption, head, rows)


def comparison_table(pair: Pair) -> Table:
    """Two groups in every metric of accuracy that both have: a row each."""
    rows = [[METRICS[name].label, *_comparison(name, c)] for name, c in pair.metrics.items()]
    names = f"{pair.first.label} minus {pair.second.label}"
    return Table(f"{names}: difference ± 95 % confidence interval", ["metric", *_COMPARISON], rows)


_COMPARISON = (
    "difference (points)", "n", "test", "p", "p (Holm)", "p (permutation)", "effect size g",
)  # fmt: skip


def _comparison(name: str, c: Comparison) -> list[str]:
    return [
        value_text(METRICS[name], c.difference.mean, c.difference.half, sign="+"),
        str(c.difference.n),
        c.test,
        p_text(c.p),
        p_text(c.p_adjusted),
        p_text(c.p_exact),
        effect_text(c.effect),
    ]


def configuration_table(report: Report) -> Table:
    """What the configurations differ in: a row per key or per group, whichever are more."""
    apart, labels = differences(report.groups), [group.label for group in report.groups]
    head, rows = ["key", *labels], [[key, *values] for key, values in apart.items()]
    if len(labels) > len(apart):
        head = ["group", *apart]
        rows = [list(row) for row in zip(labels, *apart.values(), strict=True)]
    return Table("Keys that differ between the groups (– : does nothing there)", head, rows)


def matrix_table(group: Group, accuracies: Sequence[Sequence[float]]) -> Table:
    """The accuracy matrix (fractions), mean over the runs: a column for each task tested on."""
    tasks = range(1, len(accuracies[0]) + 1)
    rows = [
        ["all tasks" if len(accuracies) < len(tasks) else f"task {i}"]
        + [value_text(METRICS[MAIN], value) for value in row]
        for i, row in enumerate(accuracies, start=1)
    ]
    head = ["after training on", *(f"task {task}" for task in tasks)]
    return Table(f"{group.label}: accuracy on each task in percent", head, rows)


def metric_frame(report: Report) -> pd.DataFrame:
    """One row per group and metric: mean, half width of the interval, deviation and number."""
    found = [(g.label, name, estimate(g.values(name))) for g in report.groups for name in METRICS]
    rows = [(label, name, e.mean, e.half, e.sd, e.n) for label, name, e in found]
    return pd.DataFrame(rows, columns=["group", "metric", "mean", "ci95", "sd", "n"])


def comparison_frame(report: Report) -> pd.DataFrame:
    """One row per pair and metric, then per ranking and group behind its best; differences are
    fractions, first minus second.
    """
    found = [
        ("pairs", pair.first, pair.second, name, c)
        for pair in report.pairs
        for name, c in pair.metrics.items()
    ]
    for r in report.rankings:
        best, *others = r.groups
        found += [(r.title, best, g, MAIN, c) for g, c in zip(others, r.leads, strict=True)]
    rows = []
    for question, first, second, name, c in found:
        d = c.difference
        row = (first.label, second.label, name, d.mean, d.half, d.n, c.paired, c.test)
        rows.append((*row, c.p, c.p_adjusted, c.p_exact, c.effect, question))
    head = ["first", "second", "metric", "difference", "ci95", "n", "paired", "test"]
    head += ["p", "p_holm", "p_permutation", "effect_size", "among"]
    return pd.DataFrame(rows, columns=head)


def write_tables(report: Report, folder: Path) -> None:
    """runs, accuracies, metrics and comparisons as CSV; the tables as Markdown and LaTeX."""
    frames = {
        "runs": run_frame(report.groups),
        "accuracies": accuracy_frame(report.groups),
        "metrics": metric_frame(report),
        "comparisons": comparison_frame(report),
    }
    for name, frame in frames.items():
        text = frame.map(_cell).rename(columns=_cell).to_csv(index=False, lineterminator="\n")
        write_own(folder / f"{name}.csv", text.encode())
    tables = [*metric_tables(report), *map(ranking_table, report.rankings)]
    tables += [overview_table(report)] if len(report.pairs) > 1 else []
    tables += [*map(comparison_table, report.pairs), configuration_table(report)]
    tables = [table for table in tables if table.rows]
    said = "\n".join(f"- {markdown(text)}" for text in (*report.answer, *report.notes))
    pages = "\n\n".join(table.markdown() for table in tables)
    write_own(folder / "tables.md", f"{said}\n\n{pages}\n".encode())
    head = "% Needs \\usepackage{booktabs}, and \\usepackage[T1]{fontenc} with pdflatex.\n"
    body = "\n\n".join(table.latex() for table in tables)
    write_own(folder / "tables.tex", f"{head}\n{body}\n".encode())


def _cell(value: object) -> object:
    """A cell of a CSV file: no text in it is a formula to a spreadsheet, or no text at all."""
    if not isinstance(value, str):
        return value
    text = shown(value, 10_000)
    return f"'{text}" if text[:1] in tuple("=+-@") else text
