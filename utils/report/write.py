"""From result files to a report, and to a terminal: the one way in, for the command and after a
run.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from exps.messages import Told, shown, shown_path
from utils.report.answers import Report, make_report
from utils.report.figures import pictures
from utils.report.page import page
from utils.report.tables import as_text, write_tables
from utils.results.files import ResultsError
from utils.results.runs import read_runs
from utils.system.disk import make_own, require_no_link, write_own
from utils.system.talk import Bar, fail, harmless, say

_MOST = 8  # paths in a command that people would paste


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
    except Told as error:
        return fail(error, status=error.status)
    except KeyboardInterrupt:
        return fail("interrupted: the report is not complete", status=130)
    for problem in made.problems:
        fail(problem, status=1)
    if not quiet:
        with harmless("the numbers cannot be shown here"):
            say(f"{as_text(made, shutil.get_terminal_size((100, 24)).columns)}\n")
        say(f"report: {shown_path(path)}")
    return 1 if made.problems else 0


def report(
    paths: Sequence[str | os.PathLike[str]],
    out: Path | None = None,
    compared: Sequence[Sequence[str]] = (),
) -> tuple[Report, Path]:
    """Read the results in these files and folders and write everything into `out`, a folder
    `report` beside the first of them by default; the report, and the path of its page.

    compared: pairs of groups to compare besides twins. Raises ResultsError where no result can be
    read or nothing can be written, GroupError for a pair of which there is no such group.
    """
    runs, problems = read_runs(paths)
    if not runs:
        raise ResultsError("\n".join(problems))
    made = replace(make_report(runs, problems, compared), command=command(paths, out))
    place = Path(paths[0])
    folder = out or (place if place.is_dir() else place.parent) / "report"
    try:
        if out is None:  # among results, which others may have put there
            require_no_link(folder)
        return made, write(made, folder)
    except OSError as error:
        raise ResultsError(
            f"{shown_path(folder)}: the report cannot be written there",
            shown(error.strerror or str(error)),
            "choose another folder with --out",
        ) from error


def command(paths: Sequence[str | os.PathLike[str]], out: Path | None = None) -> str:
    """What makes the report again; the folder stands for all of its results. '' if too long."""
    given = [Path(path) for path in paths]
    folder = given[0].parent
    if {*given} == {*folder.glob("*.pkl")}:
        given = [folder]
    texts = [shown_path(path) for path in given]
    words = [f"./{text}" if text.startswith("-") else text for text in texts]
    words += [] if out is None else [f"--out={shown_path(out)}"]
    return shlex.join(["python", "-m", "utils.report", *words]) if len(words) <= _MOST else ""


def write(made: Report, folder: Path) -> Path:
    """Write tables, pictures and page into the folder; the path of the page."""
    figures = folder / "figures"
    make_own(figures)
    write_tables(made, folder)
    drawn, svgs = pictures(made.groups, made.lines), []
    _make_room(figures, [f"{p.name}.{kind}" for p in drawn for kind in ("png", "svg")])
    bar = Bar("drawing", total=len(drawn), unit="picture")
    for picture in drawn:
        svgs.append(picture.svg())
        write_own(figures / f"{picture.name}.svg", svgs[-1].encode())
        write_own(figures / f"{picture.name}.png", picture.png())
        bar.advance()
    bar.close()
    path = folder / "report.html"
    write_own(path, page(made, drawn, svgs).encode())
    return path


def _make_room(figures: Path, names: Sequence[str]) -> None:
    """Remove the figures that an earlier report has written and this one will not (the file
    figures.txt lists them); what anybody else has put there stays.
    """
    listed = figures / "figures.txt"
    text = listed.read_text(encoding="utf-8", errors="replace") if listed.is_file() else ""
    stale = set(text.splitlines()) - set(names)
    for path in figures.iterdir():
        if path.name in stale and path.is_file():
            path.unlink()
    write_own(listed, "".join(f"{name}\n" for name in names).encode())
