"""What stands here for the few things other than plain values that a result pickle may name.

Nothing of what is named is imported or called. numpy's numbers and arrays are made from their bytes
by the lines below; the parts of a 2019 configuration section are records of what the file says of
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.results.plain_data import NUMBERS, NotPlainError, StandIn


@dataclass(frozen=True)
class Name:
    """A name that the file asks for, one of those in `MEANINGS`."""

    dotted: str


@dataclass(eq=False)
class Object(StandIn):
    """An object of the 2019 results: nothing of its class, only what the file says of it."""

    kind: str
    state: Any = None

    def build(self, state: Any) -> None:
        self.state = state

    def attributes(self, kind: str) -> dict[str, Any]:
        if self.kind == kind and type(self.state) is dict:
            return self.state
        raise NotPlainError(f"an incomplete {kind}")

    def plain(self) -> Any:
        is_section = self.kind == "configparser.SectionProxy"
        return _section_values(self) if is_section else super().plain()


@dataclass(eq=False)
class DType(StandIn):
    """A number type, made by `numpy.dtype('f8', ...)`; its state gives the byte order."""

    code: str
    order: str = "="
    kind = "numpy.dtype"

    def build(self, state: Any) -> None:
        version, order, *rest = state
        if version != 3 or order not in ("<", ">", "|", "=") or rest[:3] != [None] * 3:
            raise NotPlainError("an array of something other than numbers")
        self.order = order

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


@dataclass(eq=False)
class Array(StandIn):
    """An array, made empty by `_reconstruct`; its state gives the rest."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")

    def plain(self) -> np.ndarray:
        if self.value is None:
            raise NotPlainError("an array without contents")
        return self.value


def _section_values(proxy: Object) -> dict[str, str]:
    """What `dict(section)` gives: the section's own values, then the defaults that it does not set.

    References to other keys (`%(key)s`) stay as they are written.
    """
    section = proxy.attributes("configparser.SectionProxy")
    parser = section["_parser"]
    if not isinstance(parser, Object):
        raise NotPlainError("a section without its file")
    whole = parser.attributes("configparser.ConfigParser")
    name, default = section["_name"], whole["default_section"]
    if type(name) is not str or type(default) is not str:
        raise NotPlainError("a section without a name")
    defaults, own = whole["_defaults"], {} if name == default else whole["_sections"][name]
    if type(defaults) is not dict or type(own) is not dict:
        raise NotPlainError("a section without its values")
    values = {**own, **{key: value for key, value in defaults.items() if key not in own}}
    if not all(type(text) is str for pair in values.items() for text in pair):
        raise NotPlainError("a section with something other than text")
    return values


def _array(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """An array of this shape over a copy of these bytes; nothing is allocated unless they fit."""
    if type(raw) not in (bytes, bytearray) or type(dtype) is not DType or type(shape) is not tuple:
        raise NotPlainError("an array of something other than numbers")
    if len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise NotPlainError("an array with an impossible shape")
    if math.prod(shape) * dtype.numpy().itemsize != len(raw):
        raise NotPlainError("an array whose shape does not fit its contents")
    flat = np.frombuffer(raw, dtype.numpy())
    return flat.reshape(shape, order="F" if order == "F" else "C").copy(order="K")


def _make_empty(cls: Any, _shape: Any, _typecode: Any) -> Array:
    if cls != Name("numpy.ndarray"):
        raise NotPlainError("an array of an unknown class")
    return Array()


def _make_dtype(code: Any, _align: Any, _copy: Any) -> DType:
    if type(code) is not str or code not in NUMBERS:
        raise NotPlainError("an array of something other than numbers")
    return DType(code)


def _make_scalar(dtype: Any, raw: Any) -> Any:
    return _array(raw, dtype, (), "C")[()]


def _not_callable(*_args: Any) -> Any:
    raise NotPlainError("a call of numpy.ndarray")


def _inert(kind: str) -> Callable[..., Object]:
    return lambda *_args: Object(kind)


_NUMPY: dict[str, Callable[..., Any]] = {
    "multiarray.scalar": _make_scalar,
    "multiarray._reconstruct": _make_empty,
    "numeric._frombuffer": _array,
}

_OF_2019 = (
    "builtins.getattr functools.partial re._compile configparser.BasicInterpolation"
    " configparser.ConfigParser configparser.ConverterMapping configparser.SectionProxy"
)

# What "calling" a name means here; a name that is not here cannot even be asked for.
# numpy 2 renamed numpy.core to numpy._core.
MEANINGS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _not_callable,
    "numpy.dtype": _make_dtype,
    "collections.OrderedDict": lambda: {},
    **{f"numpy.core.{name}": meaning for name, meaning in _NUMPY.items()},
    **{f"numpy._core.{name}": meaning for name, meaning in _NUMPY.items()},
    **{kind: _inert(kind) for kind in _OF_2019.split()},
}
