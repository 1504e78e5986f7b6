"""The report in a terminal: the answer, the numbers, and where the rest is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from exps.messages import shown_path
from utils.report.answers import Report
from utils.report.tables import Table, metric_tables, ranking_table
from utils.report.write import report
from utils.results.files import ResultsError
from utils.results.groups import GroupError
from utils.results.runs import NothingToReport
from utils.system.talk import fail, harmless, say

_NAME = 24  # characters up to which a group's name can stand above a column


def show(
    paths: Sequence[str | os.PathLike[str]],
    out: Path | None = None,
    compared: Sequence[Sequence[str]] = (),
    quiet: bool = False,
) -> int:
    """Write the report on these results, and print it unless quiet.

    Returns the exit status: 0 all was read, 1 not all of it, 2 there is no such result or group,
    130 Ctrl-C.
    """
    try:
        made, path = report(paths, out, compared)
    except (GroupError, NothingToReport) as error:
        return fail(error, status=2)
    except ResultsError as error:
        return fail(error, status=1)
    except KeyboardInterrupt:
        return fail("interrupted: the report is not complete", status=130)
    for problem in made.problems:
        fail(problem, status=1)
    if not quiet:
        with harmless("the numbers cannot be shown here"):
            say(f"{as_text(made, shutil.get_terminal_size((100, 24)).columns)}\n")
        say(f"report: {shown_path(path)}")
    return 1 if made.problems else 0


def as_text(made: Report, width: int) -> str:
    """The answer, notes, all against the best of them, and the mean and interval of every metric,
    in so many columns.
    """
    parts = ["\n".join(made.answer)]
    if made.notes:
        parts.append("\n".join(f"note: {note}" for note in made.notes))
    numbered = any(len(group.label) > _NAME for group in made.groups)
    if numbered:
        parts.append("\n".join(f"{group.number:>3}  {group.label}" for group in made.groups))
    parts += [ranking_table(r).terminal(width) for r in made.rankings]
    parts += [_columns(table, made, numbered).terminal(width) for table in metric_tables(made)]
    return "\n\n".join(parts)


def _columns(table: Table, made: Report, numbered: bool) -> Table:
    """The table with a column per group, which is what a terminal has room for."""
    names = [str(g.number) if numbered else g.label for g in made.groups]
    rows = [list(cells) for cells in zip(table.head, *table.rows, strict=True)]
    return Table(table.caption, ["group", *names], rows[1:])
