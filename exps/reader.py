"""From a configuration file, or a --set argument, to entries that know where they were written."""

from __future__ import annotations

import configparser
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exps.experiment import TEXTS
from exps.messages import ConfigError, quoted, shown, shown_path

_COMMENT = re.compile(r"(?:^|(?<=\s))[#;]")  # where one begins on a line
_LARGEST = 1_000_000  # bytes; far more than anybody writes by hand


@dataclass(frozen=True)
class Entry:
    """One `key = text` and, for messages, how and where it was written."""

    key: str
    text: str
    written: str


Sections = dict[str, dict[str, Entry]]


def read(path: Path) -> Sections:
    """The sections of a file, DEFAULT as one of them, each with its own entries only."""
    where = shown_path(path)
    parser = _Parser()
    parser.read_text(_text(path, where), where)
    if not parser.sections():
        raise ConfigError(
            f"{where}: there are no sections in it; begin one with a line such as [DEFAULT]"
        )
    for section in parser.sections():
        if section != "DEFAULT" and section.upper() == "DEFAULT":
            raise ConfigError(
                f"{where}: [{section}] is not inherited; write [DEFAULT], in capitals"
            )
    return {
        section: {
            name: Entry(name, text, f"{_place(where, name.line, section)}: {_pair(name, text)}")
            for name, text in parser.numbered(section)
        }
        for section in parser.sections()
    }


def parse_override(override: str) -> Entry:
    """The entry of a --set argument, `key=value`."""
    name, equals, text = (part.strip() for part in override.partition("="))
    if not name or not equals:
        raise ConfigError(f"--set {quoted(override)}: write key=value, for example lr=0.05")
    return Entry(name, text, f"--set {shown(name)}={shown(text)}")


class _Name(str):
    """The name of a key, with the number of the line that it is on."""

    line: int


class _Parser(configparser.RawConfigParser):
    """Numbers the keys: while a file is read, optionxform gets the key of the line read last.

    DEFAULT is an ordinary section here, for else a second [DEFAULT] would be merged in silence, and
    nothing but a comment may follow a section's name on its line, for it would be dropped in
    silence. So would the rest of a text or a path behind # or ;: a comment behind a value is taken
    off here, where the key is known.
    """

    SECTCRE = re.compile(r"\[\s*(?P<header>[^]]+?)\s*\](\s+[#;].*)?\s*$")

    def __init__(self) -> None:
        super().__init__(
            strict=True,
            empty_lines_in_values=False,
            default_section="",
        )
        self._line = 0

    def read_text(self, text: str, where: str) -> None:
        """Like read_string, with errors as ConfigError."""
        lines = io.StringIO(text, newline=None).readlines()
        try:
            self.read_file(self._counted(lines))
        except configparser.DuplicateSectionError as e:
            raise ConfigError(
                f"{_place(where, e.lineno or 0, e.section)}: a section of this name came before; "
                "join the two or rename one"
            ) from None
        except configparser.DuplicateOptionError as e:
            raise ConfigError(
                f"{_place(where, e.lineno or 0, e.section)}: {shown(e.option)} is set a second "
                "time in this section; keep one"
            ) from None
        except configparser.MissingSectionHeaderError as e:
            raise ConfigError(
                f"{where}, line {e.lineno}: {quoted(e.line.strip())} stands before any section; "
                "begin with a line such as [DEFAULT]"
            ) from None
        except configparser.ParsingError as e:
            number = e.errors[0][0]
            raise ConfigError(
                f"{where}, line {number}: {quoted(lines[number - 1].strip())} is neither "
                "'key = value' nor '[section]'"
            ) from None

    def numbered(self, section: str) -> Iterator[tuple[_Name, str]]:
        """The section's keys, with their lines, and texts."""
        for name, text in self.items(section):
            assert isinstance(name, _Name)
            yield name, text if name in TEXTS else _without_comments(text)

    def optionxform(self, optionstr: str) -> _Name:
        name = _Name(optionstr)
        name.line = self._line
        return name

    def _counted(self, lines: list[str]) -> Iterator[str]:
        for self._line, line in enumerate(lines, start=1):
            yield line


def _without_comments(value: str) -> str:
    """The value without what follows # or ; on each of its lines."""
    return "\n".join(_COMMENT.split(line, 1)[0].rstrip() for line in value.split("\n"))


def _text(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"{where}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{where}: this is a folder, not a configuration file") from None
    except OSError as e:
        raise ConfigError(f"{where}: cannot be read: {e.strerror}") from None
    except ValueError as e:  # a NUL in the path
        raise ConfigError(f"{where}: cannot be read: {e}") from None
    if len(data) > _LARGEST:
        raise ConfigError(f"{where}: larger than 1 MB, so hardly a configuration file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise ConfigError(
            f"{where}, line {line}: not UTF-8 (byte 0x{data[e.start]:02x}); save it as UTF-8 text"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError(f"{where}, line {line}: a NUL byte; this is not a text file")
    return text


def _place(where: str, line: int, section: str) -> str:
    return f"{where}, line {line} [{shown(section)}]"


def _pair(name: str, text: str) -> str:
    return f"{shown(name)} = {quoted(text)}"
