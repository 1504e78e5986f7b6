"""The error of a wrong configuration, and how what the user wrote is shown in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from exps.paths import near


class Told(Exception):
    """A mistake or mishap that was thought of: its text is made for people.

    With why and remedy it has three lines, see `three_lines`. status: what the program exits with.
    """

    status = 1

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        super().__init__(three_lines(what, why, remedy) if why else what)


class ConfigError(Told):
    """A configuration that cannot be used; the text says what is wrong, where, and what to do."""

    status = 2


def shown(text: str, limit: int = 60) -> str:
    """The text on one line: shortened, and with control characters escaped."""
    if len(text) > limit:
        text = text[:limit] + "..."
    return text if text.isprintable() else repr(text)[1:-1]


def printable(text: str) -> str:
    """The lines of a text, with all else escaped that moves a cursor or is no text at all."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else ascii(c)[1:-1] for c in text)


def quoted(text: str) -> str:
    """The text in quotation marks, on one line."""
    return f"'{shown(text)}'"


def shown_path(path: Path) -> str:
    """The path, relative to the working directory where it lies below that."""
    return shown(str(near(path)), limit=400)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """'; did you mean ...?' for the closest of the names, '' where none is close."""
    by_lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean '{shown(by_lower[close[0]])}'?" if close else ""


def either(names: Sequence[object]) -> str:
    """'a, b or c'."""
    *most, last = map(str, names)
    return f"{', '.join(most)} or {last}" if most else last


def all_of(names: Sequence[str]) -> str:
    """'a, b and c'."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def three_lines(what: str, why: str, remedy: str) -> str:
    """What happened, why, and what to do about it: a line each, whatever names are in them."""
    what, why, remedy = (part.replace("\n", "\\n") for part in (what, why, remedy))
    return f"{what}\n  why: {why}\n  what to do: {remedy}"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """A line for each row, its cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def markdown(text: str) -> str:
    """The text for a cell of a Markdown table: nothing in it marks anything up."""
    text = re.sub(r"([\\|*`\[\]$~#])", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word it is no mark
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shortened(text: str, length: int) -> str:
    """The text with its middle left out where it is longer."""
    if len(text) <= length:
        return text
    left = length * 2 // 3
    return f"{text[:left]}…{text[left + 1 - length :]}"
