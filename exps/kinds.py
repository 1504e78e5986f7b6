"""What the value of a key may be: each kind turns text into a value or says what it wants instead.

`parse` raises ValueError with the reason, made to follow "key = 'text': "; `expects` is the same in
the words of the parameter table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from exps.messages import did_you_mean, either
from exps.paths import path

Value = bool | int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | None


class Kind(Protocol):
    @property
    def expects(self) -> str: ...

    def parse(self, text: str) -> Value: ...


@dataclass(frozen=True)
class Switch:
    """true or false; yes, no, on, off, 1 and 0 do as well, in any case."""

    expects: str = "true or false"

    def parse(self, text: str) -> bool:
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
        raise ValueError(f"choose {self.expects}")


@dataclass(frozen=True)
class Whole:
    """A whole number from low to high, in plain digits: not 1e3, 1_000 or 3.0."""

    low: int
    high: int
    unit: str = ""

    @property
    def expects(self) -> str:
        return f"whole number from {self.low} to {self.high}" + _unit(self.unit)

    def parse(self, text: str) -> int:
        # At most 40 digits, because int() refuses very long ones with an error of its own.
        if re.fullmatch(r"[+-]?[0-9]{1,40}", text) and self.low <= int(text) <= self.high:
            return int(text)
        raise ValueError(f"choose a {self.expects}, in plain digits")


@dataclass(frozen=True)
class Number:
    """A finite number between low and high; `above` leaves out low itself, `below` high itself."""

    low: float
    high: float
    above: bool = False
    below: bool = False
    unit: str = ""

    @property
    def expects(self) -> str:
        start = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        end = f"below {self.high:g}" if self.below else f"at most {self.high:g}"
        return f"number {start}, {end}" + _unit(self.unit)

    def parse(self, text: str) -> float:
        if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
            value = float(text)
            if self._holds(value):
                return value
        raise ValueError(f"choose a {self.expects}")

    def _holds(self, value: float) -> bool:
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and over and under


@dataclass(frozen=True)
class OrNone:
    """What another kind takes, or none, in any case: no value."""

    kind: Kind

    @property
    def expects(self) -> str:
        return f"{self.kind.expects}, or none"

    def parse(self, text: str) -> Value:
        if text.lower() == "none":
            return None
        try:
            return self.kind.parse(text)
        except ValueError as error:
            raise ValueError(f"{error}, or none") from None


@dataclass(frozen=True)
class Several:
    """Numbers of a kind, one or more, separated by commas or spaces; or none."""

    kind: Whole | Number

    @property
    def expects(self) -> str:
        return f"none, or one or more of: {self.kind.expects}"

    def parse(self, text: str) -> Value:
        if text.lower() == "none":
            return ()
        inner = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
        try:
            return tuple(map(self.kind.parse, re.split(r"\s*,\s*|\s+", inner.strip())))
        except ValueError as error:
            raise ValueError(f"{error}, or several separated by commas, or none") from None


@dataclass(frozen=True)
class Choice:
    """One of a few names."""

    names: tuple[str, ...]

    @property
    def expects(self) -> str:
        return either(self.names)

    def parse(self, text: str) -> str:
        if text in self.names:
            return text
        raise ValueError(f"choose {self.expects}{did_you_mean(text, self.names)}")


def require_once(names: Sequence[str]) -> None:
    """Raise ValueError for a name that comes twice."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"choose each once; {twice[0]} is named twice")


@dataclass(frozen=True)
class Choices:
    """Some of a few names, separated by commas, each once and in one order; or none."""

    names: tuple[str, ...]

    @property
    def expects(self) -> str:
        return f"none, or some of {', '.join(self.names)}"

    def parse(self, text: str) -> tuple[str, ...]:
        if text.lower() in ("none", ""):
            return ()
        found = [name.strip() for name in text.split(",")]
        for name in found:
            if name not in self.names:
                hint = did_you_mean(name, self.names)
                raise ValueError(f"choose {self.expects}, with commas between them{hint}")
        require_once(found)
        return tuple(name for name in self.names if name in found)


@dataclass(frozen=True)
class Line:
    """Any text on one line, which may be empty."""

    expects: str = "text"

    def parse(self, text: str) -> str:
        if text.isprintable():
            return text
        raise ValueError("choose text on one line, without control characters")


@dataclass(frozen=True)
class Folder:
    """The path of a folder that need not exist; ~ stands for the home folder."""

    expects: str = "path"

    def parse(self, text: str) -> str:
        if not text.isprintable():
            raise ValueError("choose a path without control characters")
        return str(path(text))


@dataclass(frozen=True)
class File:
    """The path of a file, made absolute, or none."""

    expects: str = "none or a path"

    def parse(self, text: str) -> str:
        if text == "none":
            return text
        if not text.isprintable():
            raise ValueError("choose a path without control characters")
        return str(path(text).absolute())


@dataclass(frozen=True)
class Device:
    """What to compute on; whether it is there is for torch to say."""

    expects: str = "auto, cpu, cuda, cuda:N or mps"

    def parse(self, text: str) -> str:
        if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,2})?|mps", text):
            return text
        guess = did_you_mean(text, ("auto", "cpu", "cuda", "mps"))
        raise ValueError(f"choose {self.expects}{guess}")


@dataclass(frozen=True)
class ClassOrder:
    """sorted, random, or the classes themselves, separated by commas or spaces."""

    expects: str = "sorted, random or a list of all classes such as 3, 0, 2, 1"

    def parse(self, text: str) -> str | tuple[int, ...]:
        if text in ("sorted", "random"):
            return text
        inner = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
        classes = re.split(r"\s*,\s*|\s+", inner.strip())
        if all(re.fullmatch("[0-9]{1,3}", c) for c in classes):
            return tuple(map(int, classes))
        guess = did_you_mean(text, ("sorted", "random"))
        raise ValueError(f"choose {self.expects}{guess}")


@dataclass(frozen=True)
class Shares:
    """Shares of something, one after the other, each larger than the one before."""

    expects: str = "numbers above 0 and below 1 that grow, such as 0.5, 0.75"

    def parse(self, text: str) -> tuple[float, ...]:
        try:
            found = [Number(0, 1, above=True, below=True).parse(t.strip()) for t in text.split(",")]
        except ValueError:
            found = []
        if found and found == sorted(set(found)):
            return tuple(found)
        raise ValueError(f"choose {self.expects}")


def as_text(value: Value) -> str:
    """The value as a configuration file writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _unit(unit: str) -> str:
    return f" ({unit})" if unit else ""
