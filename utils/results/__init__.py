"""Results: written, read, measured, grouped. A notebook needs no more than these two."""

from typing import Any

from utils.results.files import load_results

__all__ = ["load_results", "load_table"]


def __getattr__(name: str) -> Any:
    """load_table, once it is asked for: pandas takes a second."""
    if name == "load_table":
        from utils.results.table import load_table

        return load_table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
