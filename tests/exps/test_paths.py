"""Paths with ~, and words that survive any shell and any parser."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from exps.cli import parser
from exps.paths import expanded, near, path, typed, word

HOME = str(Path.home())
ODD = ["-A", "--", "a b", "it's", '"', "$HOME", "größe", "~", "a\nb\t\\n'", "\udce9", "\x1b[0m", ""]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("~", HOME),
        ("~/a/", f"{HOME}/a/"),
        ("~root/x", f"{Path('~root').expanduser()}/x"),
        ("./~", "./~"),
        ("a/~/b", "a/~/b"),
        ("$HOME/a", "$HOME/a"),
    ],
)
def test_the_home_folder_and_nothing_else_is_put_in(text: str, found: str) -> None:
    assert expanded(text) == found


@pytest.mark.parametrize("text", ["", "a\0b", "~nobody-of-this-name/x"])
def test_what_can_be_no_path(text: str) -> None:
    with pytest.raises(ValueError, match=r"^choose .*path"):
        path(text)


@pytest.mark.parametrize("text", ["./~", "./~/x", "./-r", "./--"])
def test_no_path_looks_like_an_option_or_a_home_folder(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = tmp_path / text[2:]
    assert path(text) == near(whole) == whole
    assert path(str(path(text))) == whole
    assert near(tmp_path / "a") == Path("a")


@pytest.mark.parametrize(
    "option", ["--results-dir", "--csv", "--tensorboard", "--config", "--resume", "--check-results"]
)
def test_every_option_that_is_a_path(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    def given(value: str) -> str:
        args = parser(Path("r")).parse_args([f"{option}={value}"])
        return str(getattr(args, option[2:].replace("-", "_")))

    assert given("~/x") == f"{HOME}/x"
    for value in ("", "~nobody-of-this-name", "\0"):
        with pytest.raises(SystemExit) as ended:
            given(value)
        assert ended.value.code == 2
        assert f"error: argument {option}: choose " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ODD)
def test_a_value_reaches_the_parser_as_it_is(name: str) -> None:
    args = parser(Path("r")).parse_args(
        [word("--name", name), word("--set", f"description={name}")]
    )
    assert (args.name, args.set) == ([name], [f"description={name}"])


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_what_is_typed_is_what_was_meant() -> None:
    line = typed(ODD)
    assert line.isprintable()
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True
    )
    assert printed.stdout == b"".join(os.fsencode(word) + b"\0" for word in ODD)
