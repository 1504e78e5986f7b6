"""From result files to a report: the one way in, for the command and after a run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from exps.messages import shown, shown_path, three_lines
from utils.report.answers import Report, make_report
from utils.report.figures import pictures
from utils.report.page import page
from utils.report.tables import write_tables
from utils.results.files import ResultsError
from utils.results.runs import read_runs
from utils.system.disk import make_own, require_no_link, write_own
from utils.system.talk import Bar

_MOST = 8  # paths in a command that people would paste
FIGURES = "figures.txt"  # lists the figures beside it


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
    folder = default_folder(paths[0]) if out is None else out
    try:
        if out is None:  # among results, which others may have put there
            require_no_link(folder)
        return made, write(made, folder)
    except OSError as error:
        raise ResultsError(
            three_lines(
                f"{shown_path(folder)}: the report cannot be written there",
                shown(error.strerror or str(error)),
                "choose another folder with --out",
            )
        ) from error


def default_folder(path: str | os.PathLike[str]) -> Path:
    """`report` in the folder of results, or in that of a result."""
    place = Path(path)
    return (place if place.is_dir() else place.parent) / "report"


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
    """Remove the figures that an earlier report has written and this one will not (FIGURES
    lists them); what anybody else has put there stays.
    """
    listed = figures / FIGURES
    text = listed.read_text(encoding="utf-8", errors="replace") if listed.is_file() else ""
    stale = set(text.splitlines()) - set(names)
    for path in figures.iterdir():
        if path.name in stale and path.is_file():
            path.unlink()
    write_own(listed, "".join(f"{name}\n" for name in names).encode())
