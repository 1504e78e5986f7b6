"""Files as they are written, well and badly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from exps.messages import ConfigError
from exps.reader import Entry, parse_override, read

Write = Callable[[str | bytes], Path]


def texts(path: Path) -> dict[str, dict[str, str]]:
    return {s: {k: e.text for k, e in entries.items()} for s, entries in read(path).items()}


def test_a_file_with_everything_that_is_allowed(written: Write) -> None:
    path = written(
        "# a comment\n"
        "[DEFAULT]\n"
        "lr = 0.1  # what follows is no part of it\n"
        "\n"
        "; another comment\n"
        "[ Mine ]  ; a comment here, too\n"
        "  lr: 0.5 ; and here\n"
        "  LR = %(no) $interpolation\n"
        "class_order = 1,\n"
        "    0\n"
        "data_dir = a#b;c\n"
    )
    assert texts(path) == {
        "DEFAULT": {"lr": "0.1"},
        "Mine": {
            "lr": "0.5",
            "LR": "%(no) $interpolation",
            "class_order": "1,\n0",
            "data_dir": "a#b;c",
        },
    }


def test_a_text_and_a_path_are_kept_whole(written: Write) -> None:
    path = written(
        "[A] # the first\n"
        "description = Ticket #12: wide; second ; try # 3\n"
        "# a comment\n"
        "expected_source : ; a paper\n"
        "  # another\n"
        "data_dir = /data/set #2\n"
        "class_order = 1, # odd\n"
        "   0 ; even # both\n"
        "lr = # none\n"
        "momentum = 0.9#5\n"
    )
    assert texts(path)["A"] == {
        "description": "Ticket #12: wide; second ; try # 3",
        "expected_source": "; a paper",
        "data_dir": "/data/set #2",
        "class_order": "1,\n0",
        "lr": "",
        "momentum": "0.9#5",
    }
    assert parse_override("description=a # b ; c").text == "a # b ; c"


def test_entries_know_their_line(written: Write) -> None:
    path = written(
        "\n[A]\n# comment\nlr = 1\nclass_order = 1\n  0\n\n[B]\nmb_size = 3\n[C]\nlr = 2"
    )
    found = [e.written for entries in read(path).values() for e in entries.values()]
    assert found == [
        f"{path}, line 4 [A]: lr = '1'",
        f"{path}, line 5 [A]: class_order = '1\\n0'",
        f"{path}, line 9 [B]: mb_size = '3'",
        f"{path}, line 11 [C]: lr = '2'",
    ]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(written: Write, end: str, mark: str) -> None:
    path = written(mark + end.join(["[A]", "", "lr = 1", "momentum = 0"]))
    assert texts(path) == {"A": {"lr": "1", "momentum": "0"}}
    assert read(path)["A"]["momentum"].written.startswith(f"{path}, line 4 [A]")


def test_the_path_is_shown_from_the_working_directory(
    written: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written("[A]\nlr = 1\n")
    monkeypatch.chdir(path.parent)
    assert read(path)["A"]["lr"].written == "my.cfg, line 2 [A]: lr = '1'"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": there are no sections in it"),
        (b"# nothing but a comment\n", ": there are no sections in it"),
        (b"\nlr = 0.1\n[A]\n", ", line 2: 'lr = 0.1' stands before any section"),
        (b"[A]\nlr 0.1\n", ", line 2: 'lr 0.1' is neither 'key = value' nor '[section]'"),
        (b"[A]\n= 0.1\n", ", line 2: '= 0.1' is neither"),
        (b"[A]\n[B\n", ", line 2: '[B' is neither"),
        (b"[A]\n[B] lr\n", ", line 2: '[B] lr' is neither"),
        (b"[A]\nlr = 1\n\n[B]\n[A]\n", ", line 5 [A]: a section of this name came before"),
        (b"[DEFAULT]\n[A]\n[DEFAULT]\n", ", line 3 [DEFAULT]: a section of this name came before"),
        (b"[Default]\nlr = 1\n", ": [Default] is not inherited; write [DEFAULT]"),
        (b"[A]\nlr = 1\nlr = 1\n", ", line 3 [A]: lr is set a second time in this section"),
        (b"[A]\nlr = \xe4\n", ", line 2: not UTF-8 (byte 0xe4); save it as UTF-8 text"),
        ("[A]\nlr = 1\n".encode("utf-16"), ", line 1: not UTF-8"),
        ("[A]\nlr = 1\n".encode("utf-16-le"), ", line 1: a NUL byte; this is not a text file"),
        (b"[A]\nlr = 1\n\0", ", line 3: a NUL byte"),
        (b"#" * 1_000_001, ": larger than 1 MB"),
    ],
)
def test_damaged_files(written: Write, content: bytes, message: str) -> None:
    path = written(content)
    with pytest.raises(ConfigError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.cfg: there is no such file$"):
        read(tmp_path / "nowhere.cfg")
    with pytest.raises(ConfigError, match=r"this is a folder, not a configuration file$"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be read: embedded null byte$"):
        read(Path("a\0b"))

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ConfigError, match=r"mine\.cfg: cannot be read: Permission denied$"):
        read(tmp_path / "mine.cfg")


def test_overrides() -> None:
    assert parse_override("lr=0.5") == Entry("lr", "0.5", "--set lr=0.5")
    assert parse_override(" lr = 0.5 ") == Entry("lr", "0.5", "--set lr=0.5")
    assert parse_override("data_dir=a=b").text == "a=b"
    assert parse_override("description=").text == ""


@pytest.mark.parametrize("text", ["", "lr", "=0.5", " = 1", "lr 0.5", "--lr"])
def test_an_override_needs_a_key_and_an_equals_sign(text: str) -> None:
    with pytest.raises(ConfigError, match=f"^--set '{text}': write key=value"):
        parse_override(text)
