"""Folders of pictures: what is read, and what is refused by the name of the culprit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.formats import DataError
from benchmarks.own_file import Where, look, read

DRAW = np.random.default_rng(0)
GREY = DRAW.integers(0, 256, (4, 6, 5), dtype=np.uint8)
COLOUR = DRAW.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)


def fill(folder: Path, pictures: Any, end: str = ".png") -> None:
    """Pictures 0 to 3 of each of the classes cat and dog, the second's upside down."""
    for label, its in (("cat", pictures), ("dog", pictures[:, ::-1])):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i, one in enumerate(its):
            Image.fromarray(np.ascontiguousarray(one)).save(folder / label / f"{i}{end}")


def refusal(folder: Path, size: int = 0) -> str:
    with pytest.raises(DataError) as caught:
        read(Where(folder, 0.25, size))
    what, why, _ = str(caught.value).split("\n")
    assert what == f"{folder} cannot be used"
    return why.removeprefix("  why: ")


@pytest.mark.parametrize(("pictures", "channels"), [(GREY, 1), (COLOUR, 3)])
def test_train_and_test(tmp_path: Path, pictures: Any, channels: int) -> None:
    fill(tmp_path / "train", pictures)
    fill(tmp_path / "test", pictures[:1])
    (tmp_path / ".cache").mkdir()
    (tmp_path / "train" / "cat" / "Thumbs.db").write_bytes(b"litter")
    arrays, known = read(Where(tmp_path, 0.25, 0))
    assert known.labels == ("cat", "dog") and not known.alone and known.pictures == 8
    assert known.picture == (channels, 6, 5) and not known.floats
    whole = np.concatenate([pictures, pictures[:, ::-1]]).reshape(8, 6, 5, channels)
    assert np.array_equal(arrays.x_train, whole) and arrays.x_train.dtype == np.uint8
    assert np.array_equal(arrays.x_test, whole[[0, 4]])
    assert arrays.y_train.tolist() == [0] * 4 + [1] * 4 and arrays.y_test.tolist() == [0, 1]


@pytest.mark.parametrize("below", ["", "train"])
def test_a_share_is_tested_on_where_there_is_no_test(tmp_path: Path, below: str) -> None:
    fill(tmp_path / below, GREY)
    arrays, known = read(Where(tmp_path, 0.25, 0))
    assert known.alone and known.pictures == len(arrays.x_train) == 6
    assert arrays.y_test.tolist() == [0, 1]


def test_palettes_and_single_bits_and_jpegs(tmp_path: Path) -> None:
    grey = np.full((4, 8, 8, 3), 99, np.uint8) - np.arange(4, dtype=np.uint8)[:, None, None, None]
    fill(tmp_path / "jpeg", grey, end=".JPG")
    arrays, known = read(Where(tmp_path / "jpeg", 0.25, 0))
    assert known.picture == (3, 8, 8) and abs(arrays.x_train.astype(int) - 99).max() <= 5
    for mode, expected in (("P", (3, 6, 5)), ("1", (1, 6, 5))):
        for label in ("cat", "dog"):
            (tmp_path / mode / label).mkdir(parents=True)
            for i in range(2):
                one = Image.fromarray(COLOUR[i]).convert(mode)
                one.save(tmp_path / mode / label / f"{i}.png")
        assert look(Where(tmp_path / mode, 0.25, 0)).picture == expected
        read(Where(tmp_path / mode, 0.25, 0))


def test_picture_size_brings_all_to_one(tmp_path: Path) -> None:
    fill(tmp_path, GREY)
    Image.new("L", (30, 70), 200).save(tmp_path / "cat" / "0.png")
    assert "cat/1.png cannot be used: it has 5 × 6 pixels, the first one 30 × 70" in refusal(
        tmp_path
    )
    arrays, known = read(Where(tmp_path, 0.25, 12))
    assert known.picture == (1, 12, 12) and arrays.x_train.shape == (6, 12, 12, 1)
    both = np.concatenate([arrays.x_train, arrays.x_test])
    assert (both == 200).all((1, 2, 3)).sum() == 1


def spoil(folder: Path, what: str) -> None:
    """Something is wrong with a sound folder."""
    first, second = folder / "cat" / "0.png", folder / "cat" / "1.png"
    match what:
        case "grey":
            Image.fromarray(COLOUR[0]).convert("L").save(second)
        case "alpha":
            Image.fromarray(COLOUR[0]).convert("RGBA").save(second)
        case "16":
            Image.new("I;16", (5, 6)).save(second)
        case "cut":
            second.write_bytes(second.read_bytes()[:-60])
        case "no picture":
            second.write_bytes(b"GIF89a")
        case "empty":
            second.write_bytes(b"")
        case "fifo":
            second.unlink()
            __import__("os").mkfifo(second)
        case "text":
            (folder / "cat" / "notes.txt").write_text("mine")
        case "deep":
            (folder / "cat" / "more").mkdir()
        case "loose":
            first.rename(folder / "a.png")
        case "no pictures":
            (folder / "emu").mkdir()
        case "val":
            (folder / "train").mkdir()
        case "test":
            (folder / "test").mkdir()
        case "huge":
            Image.new("1", (9000, 9000)).save(second)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("grey", "cat/1.png cannot be used: it is grey, and the first picture has colours"),
        ("alpha", "cat/1.png cannot be used: it is of mode RGBA; grey or RGB"),
        ("16", "cat/1.png cannot be used: it is of mode I;16"),
        ("cut", "cat/1.png cannot be used: "),
        ("no picture", "cat/1.png cannot be used: it is no PNG or JPEG"),
        ("empty", "cat/1.png cannot be used: it is no PNG or JPEG"),
        ("fifo", "cat/1.png cannot be used: this is not a file"),
        ("text", "cat/notes.txt is no .png, .jpg or .jpeg; remove it"),
        ("deep", "cat/more is no .png, .jpg or .jpeg; remove it"),
        ("loose", "a.png in it is in no folder of a class"),
        ("no pictures", "there are no pictures in emu"),
        ("val", "beside train there may be a folder test, not cat and dog"),
        ("test", "there is a folder test in it, and none that is called train"),
        ("huge", "cat/1.png cannot be used: it has 9000 × 9000 pixels"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, what: str, why: str) -> None:
    fill(tmp_path, COLOUR)
    read(Where(tmp_path, 0.25, 0))
    spoil(tmp_path, what)
    assert why in refusal(tmp_path)


def test_folders_without_anything(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "there are no folders in it, of which each is a class"
    (tmp_path / "train" / "cat").mkdir(parents=True)
    assert refusal(tmp_path) == "there are no pictures in train/cat"
