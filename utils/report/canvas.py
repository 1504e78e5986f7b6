"""matplotlib as it is needed here: it draws into files, whatever the user has set it to.

The rest of the program takes it from this module.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from exps.messages import shown
from utils.system.talk import warn


@contextlib.contextmanager
def _whatever_is_set() -> Iterator[None]:
    """matplotlib, loaded without MPLBACKEND, which may name what only a notebook has.

    Afterwards it is set to that all the same, for who draws in windows besides.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        _load()
        yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend is not None:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


def _load() -> None:
    try:
        importlib.import_module("matplotlib")
    except (OSError, ValueError) as error:  # a matplotlibrc that is not to be read, or not UTF-8
        warn(f"matplotlib's settings cannot be read, and are left out: {shown(str(error), 200)}")
        for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
            del sys.modules[name]  # halves would be taken for the whole
        spec, here = find_spec("matplotlib"), Path.cwd()
        assert spec is not None and spec.origin is not None
        os.chdir(Path(spec.origin).with_name("mpl-data"))  # the file there is found first
        try:
            importlib.import_module("matplotlib")
        finally:
            os.chdir(here)


with _whatever_is_set():
    import matplotlib
    from matplotlib.axes import Axes as Axes
    from matplotlib.axis import Axis as Axis
    from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvasAgg
    from matplotlib.cm import ScalarMappable as ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap as LinearSegmentedColormap
    from matplotlib.colors import Normalize as Normalize
    from matplotlib.colors import to_hex as to_hex
    from matplotlib.colors import to_rgba as to_rgba
    from matplotlib.figure import Figure as Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine as ConstrainedLayoutEngine
    from matplotlib.lines import Line2D as Line2D
    from matplotlib.patches import Patch as Patch
    from matplotlib.ticker import MaxNLocator as MaxNLocator


@contextlib.contextmanager
def drawn_with(settings: dict[Any, Any]) -> Iterator[None]:
    """Inside, pictures look as these settings and matplotlib's defaults say, not as the user's."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield
