"""What each kind of value takes, and what it says about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from exps.kinds import (
    Choice,
    Choices,
    ClassOrder,
    Device,
    Folder,
    Kind,
    Line,
    Number,
    OrNone,
    Several,
    Switch,
    Whole,
)

ORDER = ClassOrder()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Switch(), "true", True),
        (Switch(), "YES", True),
        (Switch(), "On", True),
        (Switch(), "1", True),
        (Switch(), "False", False),
        (Switch(), "no", False),
        (Switch(), "off", False),
        (Switch(), "0", False),
        (Whole(1, 100), "100", 100),
        (Whole(1, 100), "+7", 7),
        (Whole(1, 100), "007", 7),
        (Number(0, 1), "0", 0.0),
        (Number(0, 1), "1", 1.0),
        (Number(0, 1), ".5", 0.5),
        (Number(0, 1), "5.", None),
        (Number(0, 10), "5.", 5.0),
        (Number(0, 1), "1e-4", 1e-4),
        (Number(0, 1, above=True), "0", None),
        (Number(0, 1, above=True), "1e-999", None),
        (Number(0, 1, below=True), "1", None),
        (Choice(("perm", "split")), "split", "split"),
        (Choice(("perm", "split")), "Split", None),
        (Choices(("a", "b")), "b, a", ("a", "b")),
        (Choices(("a", "b")), "b,b", None),
        (Choices(("a", "b")), "None", ()),
        (Choices(("a", "b")), "", ()),
        (Choices(("a", "b")), "a,c", None),
        (Choices(("a", "b")), "a,", None),
        (Choices(("a", "b")), "none,a", None),
        (Line(), "", ""),
        (Line(), "50 % of [all]", "50 % of [all]"),
        (Folder(), "~/data", str(Path.home() / "data")),
        (Device(), "cuda:3", "cuda:3"),
        (Device(), "mps", "mps"),
        (ORDER, "random", "random"),
        (ORDER, "3, 1,2 0", (3, 1, 2, 0)),
        (ORDER, "[1, 0]", (1, 0)),
        (ORDER, "1,\n0", (1, 0)),
        (Several(Whole(1, 100)), "50, 10,10 5", (50, 10, 10, 5)),
        (Several(Whole(1, 100)), "[7]", (7,)),
        (Several(Number(0, 1)), ".5 1", (0.5, 1.0)),
        (Several(Number(0, 1)), "None", ()),
        (OrNone(Folder()), "a b", "a b"),
    ]
    + [(Whole(1, 100), text, None) for text in ("0", "101", "-5", "1e1", "1_0", "1.0", "٣")]
    + [(Whole(1, 100), text, None) for text in ("", "1 0", "0x1", "nan", "9" * 5000)]
    + [(Number(0, 1), text, None) for text in ("", "nan", "inf", "-1", "1e999", "0,1", "1_0", "½")]
    + [(Switch(), text, None) for text in ("", "2", "maybe", "tru")]
    + [(Line(), text, None) for text in ("two\nlines", "\x1b[0m", "\udc80")]
    + [(Folder(), text, None) for text in ("", "a\0b", "two\nlines", "~nobody-of-this-name/data")]
    + [(Several(Whole(1, 9)), text, None) for text in ("", "1,,2", "1, 10", "1;2", "1.5", "1, x")]
    + [(Device(), text, None) for text in ("", "gpu", "cuda:", "cuda:x", "CPU", "cuda:1234")]
    + [(ORDER, text, None) for text in ("", "[", "[]", "1,,2", "1,", "-1, 0", "1;2", "1 x", "1e1")],
)
def test_parse(kind: Kind, text: str, value: object) -> None:
    """The value, or for None an error that names what is expected."""
    if value is None:
        with pytest.raises(ValueError, match=r"^choose "):
            kind.parse(text)
    else:
        parsed = kind.parse(text)
        assert parsed == value
        assert type(parsed) is type(value)


def test_errors_name_the_choices_and_the_closest() -> None:
    with pytest.raises(ValueError, match=r"^choose perm or split; did you mean 'split'\?$"):
        Choice(("perm", "split")).parse("splt")
    with pytest.raises(
        ValueError, match=r"^choose a whole number from 1 to 9 \(epochs\), in plain"
    ):
        Whole(1, 9, "epochs").parse("1e3")
    with pytest.raises(ValueError, match=r"^choose a number above 0, below 1$"):
        Number(0, 1, above=True, below=True).parse("nan")
    with pytest.raises(ValueError, match="did you mean 'random'"):
        ORDER.parse("Random")
