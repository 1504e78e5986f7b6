"""Results: written, read, measured, grouped. A notebook needs no more than these two."""

from utils.results.files import load_results, load_table

__all__ = ["load_results", "load_table"]
