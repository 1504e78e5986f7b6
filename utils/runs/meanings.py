"""What a module's code means: its syntax tree without docstrings, and what it imports.

To parse all of the program takes longer than all else between the import of torch and the first
step. So what was found is kept, by the contents of the source, where Python keeps compiled code.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

from utils.system.disk import write_own

KEPT = Path(cache_from_source(__file__)).with_suffix(".json")
MOST = 1000  # sources that are kept
_BY_NAME = re.compile(r"""import_module\(\s*["']([\w.]+)""")
Meaning = tuple[str, list[str]]


class Meanings:
    """What is kept in a file, and more when it is found. A context: what was found is kept after
    it, where there can be a file."""

    def __init__(self, path: Path = KEPT) -> None:
        self.path, self.known, self.new = path, _read(path), dict[str, Meaning]()

    def __enter__(self) -> Meanings:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.new:
            return
        kept = self.known | self.new if len(self.known) + len(self.new) <= MOST else self.new
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(exist_ok=True)
            write_own(self.path, json.dumps(kept).encode())

    def of(self, source: bytes, package: str) -> Meaning:
        """SHA-256 over the syntax tree of a module, and the names of what it may import."""
        contents = b"\0".join([_ours(), package.encode(), source])
        name = hashlib.sha256(contents).hexdigest()
        if name not in self.known and name not in self.new:
            self.new[name] = meaning(source, package)
        return self.known.get(name) or self.new[name]


def meaning(source: bytes, package: str) -> Meaning:
    """See `Meanings.of`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # nothing can import it; a change of it counts all the same
        return hashlib.sha256(source).hexdigest(), []
    words: list[str] = []
    _write(tree, words)
    imports = {*_imports(tree, package), *_BY_NAME.findall(source.decode(errors="replace"))}
    return hashlib.sha256("\n".join(words).encode()).hexdigest(), sorted(imports)


@cache
def _ours() -> bytes:
    """What was found by other code than this is not taken for what this would find."""
    return hashlib.sha256(Path(__file__).read_bytes()).digest()


def _read(path: Path) -> dict[str, Meaning]:
    """What was kept there; nothing where anything is wrong with it."""
    try:
        kept = json.loads(path.read_bytes()).items()
        return {name: (bytes.fromhex(it[0]).hex(), list(map(str, it[1]))) for name, it in kept}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}


def _write(node: ast.AST, words: list[str]) -> None:
    """A tree as words, the same in every version of Python: without the fields that are empty, as
    those are that a newer one adds."""
    words.append(type(node).__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        if name in ("ctx", "kind", "type_comment") or value is None or value == []:
            continue
        words.append(name)
        match value:
            case [ast.Expr(ast.Constant(str())), *rest] if name == "body":  # a docstring
                value = rest
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                _write(item, words)
            else:
                words.append(repr(item))
    words.append(")")


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """What may be modules that the code imports, anywhere in it, but for type checkers."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
        else:
            children = ast.iter_child_nodes(node)
            waiting += [child for child in children if not isinstance(child, ast.expr)]
