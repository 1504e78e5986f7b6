"""The accuracy matrix as a picture."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps

from utils.live.picture import accuracy_picture


def area(picture: np.ndarray, colour: tuple[int, ...]) -> int:
    """How many pixels have this colour."""
    return int((picture == np.array(colour)).all(axis=2).sum())


def test_colours_mean_the_same_in_every_picture() -> None:
    """The ends of viridis for 0 and 100 %, grey for what was not tested."""
    dark, bright = (tuple(colormaps["viridis"](x, bytes=True)[:3]) for x in (0.0, 1.0))
    grey = (217, 217, 217)
    picture = accuracy_picture(np.array([[1.0, 0.0], [np.nan, np.nan]]))
    square = area(picture, dark)
    assert square > 5000
    assert area(picture, bright) == pytest.approx(square, rel=0.2)
    assert area(picture, grey) == pytest.approx(2 * square, rel=0.2)
    assert area(accuracy_picture(np.array([[0.25]])), grey) < 100  # edges of letters


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 10), (10, 10), (15, 15), (16, 16), (1, 200)])
def test_every_size_gives_a_picture(shape: tuple[int, int]) -> None:
    picture = accuracy_picture(np.full(shape, 0.5))
    assert picture.dtype == np.uint8
    height, width, channels = picture.shape
    assert channels == 3
    assert 100 < height < 1000
    assert 100 < width < 1000
