"""A kept network is asked about pictures: `python -m utils.predict RESULT PICTURES`."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from exps.cli import new_parser, path_of
from exps.messages import Told, columns
from utils.system.disk import write_own
from utils.system.talk import fail, say, talking

if TYPE_CHECKING:
    from utils.predict.classify import Said


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    p = new_parser(
        prog="python -m utils.predict",
        description="Says what a network that a run has kept (keep_weights) takes pictures for, and"
        " with what confidence; with labels, how many are right.",
        epilog="Exit status: 0 all is well, 1 weights or pictures cannot be used, 2 wrong input.",
    )
    p.add_argument(
        "result", type=path_of, metavar="RESULT", help="a result (.pkl), or weights (.safetensors)"
    )
    p.add_argument(
        "pictures",
        type=path_of,
        metavar="PICTURES",
        help="a .npz with x_test (or x) and perhaps y_test (or y), a picture, or a folder of them, "
        "or of a folder for every class",
    )
    p.add_argument("--task", type=_number, metavar="N", help="the task that they are of, from 1")
    p.add_argument(
        "--csv", type=path_of, metavar="FILE", help="write a line a picture there instead"
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=PATH",
        help="a file of your own that the network is made of: none is run that you do not name",
    )
    return p


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r}: choose a whole number from 1")
    return int(text)


@talking()
def main(argv: list[str] | None = None) -> int:
    """Answer; returns the exit status."""
    args = parser().parse_args(argv)
    from utils.system.surroundings import loading

    with loading():
        from utils.predict.classify import classify
        from utils.predict.network import experiment, takes
        from utils.predict.pictures import read
        from utils.results import weights
    try:
        kept = weights.read(args.result)
        exp = experiment(kept, args.set)
        asked = read(args.pictures, takes(kept, exp))
        said = classify(kept, exp, asked, None if args.task is None else args.task - 1)
        lines = _table(asked.names, said)
    except Told as error:
        return fail(error, status=1)
    except OSError as error:
        return fail(f"{args.pictures}: cannot be read: {error.strerror or error}", status=1)
    if args.csv is not None:
        try:
            _write(args.csv, lines)
        except OSError as error:
            return fail(f"{args.csv}: cannot be written: {error.strerror or error}", status=1)
    else:
        say(columns(lines))
    if said.right is not None:
        left = len(asked.names) - len(said.which)
        others = f" ({left:,} of other classes are left out)" if left else ""
        say(f"accuracy: {100 * said.accuracy:.2f} % of {len(said.which):,} pictures{others}")
    return 0


def _table(pictures: list[str], said: Said) -> list[list[str]]:
    """A line a picture, below the names of the columns."""
    columns = {
        "picture": [pictures[i] for i in said.which.tolist()],
        "class": [said.names[i] for i in said.output.tolist()],
        "confidence": [f"{share:.4f}" for share in said.confidence.tolist()],
    }
    if said.right is not None:
        columns["label"] = [said.names[i] for i in said.right.tolist()]
    if said.context is not None:
        columns["context"] = [str(i + 1) for i in said.context.tolist()]
    return [list(columns), *(list(row) for row in zip(*columns.values(), strict=True))]


def _write(path: Path, table: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    write_own(path, text.getvalue().encode())


if __name__ == "__main__":
    sys.exit(main())
