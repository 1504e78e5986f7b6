"""The answer of many runs: `python -m utils.report results/`."""

from __future__ import annotations

import argparse
import sys

from exps.cli import new_parser, path_of
from utils.report.write import show
from utils.system.talk import talking


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    p = new_parser(
        prog="python -m utils.report",
        description="Groups runs by configuration over seeds, compares twins (sparse and dense),"
        " and writes tables, pictures and a page, report.html.",
        epilog="Exit status: 0 all was read, 1 some file or all of them could not be read, 2 wrong"
        " input.",
    )
    p.add_argument(
        "paths", nargs="+", type=path_of, metavar="PATH", help="result files, or folders of them"
    )
    p.add_argument(
        "--out",
        type=path_of,
        metavar="DIR",
        help="where the report is written (default: report, beside the results)",
    )
    p.add_argument(
        "--compare",
        nargs=2,
        action="append",
        default=[],
        metavar=("A", "B"),
        help="compare these two groups as well, by their names or numbers; may be repeated",
    )
    return p


@talking()
def main(argv: list[str] | None = None) -> int:
    """Write the report and print it; returns the exit status."""
    args = parser().parse_args(argv)
    return show(args.paths, args.out, args.compare)


if __name__ == "__main__":
    sys.exit(main())
