"""unpickler.loads: plain data comes through, everything else is an error and nothing runs."""

from __future__ import annotations

import configparser
import copyreg
import functools
import io
import os
import pickle
import struct
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.results import unpickler
from utils.results.plain_data import NUMBERS, NotPlainError
from utils.results.unpickler import loads

OLD = Path(__file__).parents[2] / "data" / "MLP_1LayerSparse_2019-11-18.pkl"
PROTOCOLS = [2, 3, 4, 5]
KINDS = [*sorted(NUMBERS - {"b1"}), "?", ">i4", ">f8"]

# Neither runs anything; the second is hypothesis at work.
HARMLESS = {"builtins.id", "object.__getattr__"}

events: list[str] | None = None


def watch(event: str, args: object) -> None:
    if events is not None and event not in HARMLESS:
        events.append(event)


sys.addaudithook(watch)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fails when anything audited (import, exec, compile, system, open, ...) happens inside."""
    global events
    events = []
    try:
        yield
        assert events == []
    finally:
        events = None


def same(a: Any, b: Any) -> bool:
    """Equal in value, type, number type and shape."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)  # NaN equals NaN


numbers = st.integers() | st.floats() | st.booleans() | st.none()
leaves = numbers | st.text(st.characters()) | st.binary()
arrays = st.builds(
    lambda kind, shape, order, seed: np.asarray(
        np.random.default_rng(seed).integers(0, 2, shape).astype(kind), order=order
    ),
    st.sampled_from(KINDS),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from("CF"),
    st.integers(0, 9),
)
scalars = st.builds(
    lambda kind, n: np.dtype(kind).type(n), st.sampled_from(KINDS), st.integers(0, 9)
)
keys = st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans()
plain_values = st.recursive(
    leaves | arrays | scalars,
    lambda inner: (
        st.lists(inner) | st.dictionaries(keys, inner) | st.tuples(inner, inner) | st.tuples(inner)
    ),
    max_leaves=12,
)


@given(plain_values, st.sampled_from([3, 4, 5]))
def test_plain_data_round_trips(value: Any, protocol: int) -> None:
    assert same(loads(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_python_data_of_every_protocol(protocol: int) -> None:
    value = [
        {"a": [1, -(2**40), 2.5, True, None], "b": ("text", 300, -1, 70000)},
        (1,),
        (1, 2, 3),
        (),
    ]
    assert same(loads(pickle.dumps(value, protocol)), value)


def test_old_numpy_names_are_known() -> None:
    value = np.arange(6.0).reshape(2, 3)
    data = pickle.dumps([value, value.sum()], 3)
    assert same(loads(data.replace(b"numpy._core.", b"numpy.core.")), [value, value.sum()])


def test_arrays_can_be_changed_and_keep_their_memory_order() -> None:
    array = loads(pickle.dumps(np.asfortranarray(np.ones((2, 3))), 4))
    assert array.flags.f_contiguous
    array *= 2
    assert array.sum() == 12


def test_what_occurs_twice_stays_one_object() -> None:
    row = np.zeros(3)
    first, second = loads(pickle.dumps([row, row], 4))
    assert first is second


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., Any] | type, *args: Any, state: Any = None) -> None:
        self.reduced = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class Custom:
    def __setstate__(self, state: object) -> None:
        raise AssertionError("a state was set")


HOSTILE: dict[str, Any] = {
    "system": Call(os.system, "exit 3"),
    "eval": Call(eval, "1/0"),
    "exec": Call(exec, "raise SystemExit"),
    "import": Call(__import__, "this"),
    "getattr": Call(getattr, "text", "upper"),
    "getattr chain": Call(getattr, Call(getattr, "text", "__class__"), "__base__"),
    "call of getattr": Call(map, Call(getattr, "text", "upper"), []),
    "partial": functools.partial(os.system, "exit 3"),
    "partial of print": Call(functools.partial, print, "x"),
    "re": Call(__import__("re")._compile, "(a+)+$", 0),
    "copyreg": Call(copyreg._reconstructor, Custom, object, None),
    "state": Call(Custom, state={"a": 1}),
    "new object": Custom(),
    "class": Custom,
    "ordered dict of items": Call(OrderedDict, [("a", 1)]),
    "parser": configparser.ConfigParser(),
    "parser call": Call(configparser.ConfigParser),
    "object array": np.array([Call(os.system, "exit 3")], dtype=object),
    "structured array": np.zeros(2, "f4,i4"),
    "datetime": np.datetime64("2019-11-18"),
    "text array": np.array(["a"]),
    "number type": np.dtype("f8"),
    "bytearray": bytearray(b"abc"),
    "set": {1, 2},
    "frozenset": frozenset({1}),
    "complex": 1j,
    "slice": slice(3),
    "function": loads,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_values_are_refused_and_nothing_runs(what: str, protocol: int) -> None:
    data = pickle.dumps([{"deep": [HOSTILE[what]]}, {}], protocol)
    with nothing_runs(), pytest.raises(NotPlainError):
        loads(data)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("numpy", "load"),
        ("numpy", "frombuffer"),
        ("numpy._core.multiarray", "fromfile"),
        ("numpy._core.multiarray", "_reconstruct.__globals__"),
        ("configparser", "os.system"),
        ("functools", "partial.__new__"),
        ("torch", "load"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_unknown_names_are_refused_by_name(module: str, name: str, stacked: bool) -> None:
    def text(s: str) -> bytes:
        return b"\x8c" + bytes([len(s)]) + s.encode()

    asked = text(module) + text(name) + b"\x93" if stacked else f"c{module}\n{name}\n".encode()
    with nothing_runs(), pytest.raises(NotPlainError, match="which is not data"):
        loads(b"\x80\x04" + asked + text("exit 3") + b"\x85R.")


GETATTR = b"cbuiltins\ngetattr\n"
PARTIAL = b"cfunctools\npartial\n"
RECONSTRUCT = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
MINUS = b"J\xff\xff\xff\xff"
F8 = (
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8\x89\x88tR(K\x03X\x01\x00\x00\x00<NNN"
    + 2 * MINUS
    + b"K\x00tb"
)
O8 = F8.replace(b"f8", b"O8").replace(b"<", b"|")


def array(dtype: bytes, shape: bytes, contents: bytes) -> bytes:
    return RECONSTRUCT + b"(K\x01" + shape + dtype + b"\x89" + contents + b"tb"


@pytest.mark.parametrize(
    "body",
    [
        GETATTR + GETATTR + b"X\x08\x00\x00\x00__self__\x86R.",
        GETATTR + GETATTR + b"X\x08\x00\x00\x00__self__\x86RX\x04\x00\x00\x00exit\x85R.",
        GETATTR + b"(NX\x01\x00\x00\x00atRX\x01\x00\x00\x00x\x85\x81.",
        PARTIAL + b"(" + GETATTR + b"tR(" + GETATTR + b"(X\x01\x00\x00\x00atN}tb.",
        b"cnumpy\nndarray\n(K\x05\x85tR.",
        b"cnumpy\nndarray\n.",
        RECONSTRUCT + b".",
        RECONSTRUCT.replace(b"cnumpy\nndarray\n", GETATTR) + b".",
        array(O8, b"K\x01\x85", b"C\x08" + bytes(8)) + b".",
        array(F8, b"K\x02\x85", b"C\x08" + bytes(8)) + b".",
        array(F8, b"J\xff\xff\xff\xff\x85", b"C\x00") + b".",
        array(F8, b"K\x00\x8a\x08" + b"\x7f" * 8 + b"\x86", b"C\x00") + b".",
        array(F8, b"K\x01\x85", b"](K\x01K\x02e") + b".",
        array(F8.replace(b"NNN", b"NN)"), b"K\x01\x85", b"C\x08" + bytes(8)) + b".",
        F8 + b".",
        b"cnumpy._core.multiarray\nscalar\n(" + O8 + b"C\x08" + bytes(8) + b"tR.",
        b"cnumpy._core.multiarray\nscalar\n(" + F8 + b"C\x04" + bytes(4) + b"tR.",
        b"cconfigparser\nSectionProxy\n)\x81.",
        b"cconfigparser\nSectionProxy\n)\x81}X\x07\x00\x00\x00_parserNsb.",
        b"}(K\x01K\x02K\x03u.",
        b"}(K\x01\x85K\x02u.",
        b"}(]K\x02u.",
        b"](K\x01a.",
        b"K\x01K\x02.",
        b"0.",
        b"1.",
        b"e.",
        b"b.",
        b"K\x01}b.",
        b"R.",
        b"\x86.",
        b"h\x05.",
        b"\x94.",
        b"\x93.",
        b".",
        b"(.",
        b"]a.",
        b"N.N",
        b"I1\n.",
        b"S'a'\n.",
        b"P0\n.",
        b"\x82\x01.",
        b"Q.",
        b"(icollections\nOrderedDict\n.",
        b"(ccollections\nOrderedDict\no.",
        b"\x97.",
    ],
)
def test_crooked_pickles_are_refused(body: bytes) -> None:
    with nothing_runs(), pytest.raises(NotPlainError) as caught:
        loads(b"\x80\x04" + body)
    assert "\n" not in str(caught.value)


def test_the_crooked_parts_are_right_when_put_together_rightly() -> None:
    eight = struct.pack("<d", 2.5)
    assert same(
        loads(b"\x80\x04" + array(F8, b"K\x01\x85", b"C\x08" + eight) + b"."), np.array([2.5])
    )


@pytest.mark.parametrize(
    "body",
    [
        b"\x8e" + struct.pack("<Q", 10**11) + b"short.",  # BINBYTES8
        b"\x96" + struct.pack("<Q", 10**11) + b"short.",  # BYTEARRAY8
        b"\x8d" + struct.pack("<Q", 2**63) + b"short.",  # BINUNICODE8
        b"B\xff\xff\xff\xffshort.",  # BINBYTES
        b"X\xff\xff\xff\xffshort.",  # BINUNICODE
        b"\x8b\xff\xff\xff\x7fshort.",  # LONG4
        b"\x95" + struct.pack("<Q", 10**11) + b"N",  # FRAME, cut off
        b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff",  # memo at its last place, cut off
        array(F8, b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", b"C\x08" + bytes(8)) + b".",
        b"C" + b"\x05hellocnumpy._core.numeric\n_frombuffer\n.",
    ],
)
def test_lies_about_lengths_allocate_nothing(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(NotPlainError):
            loads(b"\x80\x04" + body)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_the_same_bytes_make_no_second_array() -> None:
    raw = b"B" + struct.pack("<I", 8000) + bytes(8000) + b"\x94"
    once = b"cnumpy._core.numeric\n_frombuffer\n(h\x00" + F8 + b"M\xe8\x03\x85X\x01\x00\x00\x00CtR"
    with pytest.raises(NotPlainError, match="same bytes"):
        loads(b"\x80\x04" + raw + b"0](" + once * 5 + b"e.")


def test_depth_is_no_way_out() -> None:
    deep = b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b"."
    with pytest.raises(NotPlainError, match="levels deep"):
        loads(deep)


def test_a_loop_is_refused() -> None:
    with pytest.raises(NotPlainError, match="in itself"):
        loads(b"\x80\x04]\x94h\x00a.")


def test_doubling_through_the_memo_is_refused() -> None:
    known = [b"h" + bytes([i]) for i in range(40)]
    body = b"]\x94" + b"".join(b"](" + last + last + b"e\x94" for last in known)
    with pytest.raises(NotPlainError, match="values"):
        loads(b"\x80\x04(" + body + b"t.")


def test_the_number_of_parts_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickler, "MAX_STEPS", 100)
    with pytest.raises(NotPlainError, match="more than 100 parts"):
        loads(pickle.dumps(list(range(200))))


def payload() -> bytes:
    meta = {"seed": 1, "t": (1, None, "x")}
    stats = {"accs": np.eye(3), "loss": [0.5, np.float32(1)], "meta": meta}
    return pickle.dumps([{"lr": 0.1, "name": "MLP"}, stats], 4)


@given(st.integers(0, len(payload()) - 1))
def test_every_truncation_is_an_error(end: int) -> None:
    with nothing_runs(), pytest.raises(NotPlainError):
        loads(payload()[:end])


changes = st.tuples(st.integers(0, len(payload()) - 1), st.integers(0, 255))


@given(st.lists(changes, min_size=1, max_size=3))
def test_mutations_give_plain_data_or_an_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(payload())
    for place, value in changes:
        data[place] = value
    with nothing_runs():
        try:
            value = loads(bytes(data))
        except NotPlainError:
            return
    pickle.dump(value, io.BytesIO(), 4)
    assert same(loads(pickle.dumps(value, 4)), value)


# The first part of a result of 2019 holds the configuration; the rest is numbers.
places_of_2019 = st.integers(0, 5000)


@given(st.lists(st.tuples(places_of_2019, st.integers(0, 255)), min_size=1, max_size=3))
def test_mutations_of_2019_give_plain_data_or_an_error(changes: list[tuple[int, int]]) -> None:
    data = bytearray(OLD.read_bytes())
    for place, value in changes:
        data[place] = value
    with nothing_runs():
        try:
            loads(bytes(data))
        except NotPlainError:
            return


@given(st.binary())
def test_noise_gives_plain_data_or_an_error(data: bytes) -> None:
    with nothing_runs():
        try:
            loads(b"\x80\x04" + data)
        except NotPlainError:
            return
