"""What makes two runs the same, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from utils import identity


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the program, taken for the program."""
    for part in identity.PROGRAM:
        path = identity.ROOT / part
        skip = shutil.ignore_patterns("data", "__pycache__")
        if path.is_dir():
            shutil.copytree(path, tmp_path / part, ignore=skip)
        else:
            shutil.copy(path, tmp_path)
    monkeypatch.setattr(identity, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["run_exps.py", "models/mlp.py", "utils/engine/sparse.py"])
def test_a_change_of_what_makes_results_is_another_program(copy: Path, name: str) -> None:
    before = identity.code_digest()
    with (copy / name).open("a") as file:
        file.write("# another\n")
    assert identity.code_digest() != before


@pytest.mark.parametrize("name", identity.APART)
def test_what_only_looks_at_results_makes_no_other_program(copy: Path, name: str) -> None:
    before = identity.code_digest()
    path = copy / name / "__init__.py" if name.endswith("/") else copy / name
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write("# another\n")
    assert identity.code_digest() == before


def test_line_ends_make_no_other_program(copy: Path) -> None:
    before = identity.code_digest()
    path = copy / "run_exps.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert identity.code_digest() == before


def test_keys_that_change_no_number_do_not_count() -> None:
    texts = {"lr": "0.1", "description": "a", "checkpoint_every": "60"}
    same = {"lr": "0.1", "description": "b", "checkpoint_every": "0", "data_dir": "elsewhere"}
    assert identity.fingerprint(texts) == identity.fingerprint(same)
    assert identity.fingerprint(texts) != identity.fingerprint(texts | {"lr": "0.2"})
