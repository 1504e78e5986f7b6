"""Files in a folder that somebody else has filled: written there, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from utils.live.append import append
from utils.live.csv_file import CsvFile, file_of
from utils.many.order import INTERRUPTED, Order, Outcome
from utils.many.parcel import bring_back
from utils.many.worker import GO_ON, carry_out
from utils.report.write import report
from utils.results.files import ResultsError
from utils.runs.folder import reserve
from utils.runs.identity import Wanted
from utils.system.disk import make_own, open_own, write_own
from utils.system.log import LOG, RunLog

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links that anybody may make")
RESULT = next(iter(sorted(Path(__file__).parents[3].glob("results/reference/SplitMNIST_*.pkl"))))
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def link(path: Path, to: Path) -> None:
    path.symlink_to(to)


def dangle(path: Path, to: Path) -> None:
    path.symlink_to(to.with_name("new"))


def second_name(path: Path, to: Path) -> None:
    path.hardlink_to(to)


def pipe(path: Path, to: Path) -> None:
    os.mkfifo(path)


def device(path: Path, to: Path) -> None:
    path.symlink_to("/dev/tty")


PLANTS = pytest.mark.parametrize("plant", [link, dangle, second_name, pipe, device])
Plant = Callable[[Path, Path], None]


@PLANTS
@pytest.mark.parametrize("flags", [APPEND, os.O_RDWR | os.O_CREAT])
def test_what_is_opened_is_an_ordinary_file_of_the_folder(
    tmp_path: Path, plant: Plant, flags: int
) -> None:
    thesis, path = tmp_path / "thesis", tmp_path / "x.log"
    thesis.write_text("my thesis")
    plant(path, thesis)
    with pytest.raises(OSError, match=r"x\.log is (a link|no ordinary|a file that has)"):
        open_own(path, flags)
    assert thesis.read_text() == "my thesis"
    assert not (tmp_path / "new").exists()
    path.unlink()
    os.close(open_own(path, flags))
    assert path.read_bytes() == b""


@PLANTS
def test_what_is_written_takes_the_place_of_anything(tmp_path: Path, plant: Plant) -> None:
    thesis, path = tmp_path / "thesis", tmp_path / "report.html"
    thesis.write_text("my thesis")
    plant(path, thesis)
    write_own(path, b"page")
    assert (path.read_bytes(), path.is_symlink()) == (b"page", False)
    assert thesis.read_text() == "my thesis"
    assert sorted(os.listdir(tmp_path)) == ["report.html", "thesis"]


def test_folders_are_made_but_not_through_links(tmp_path: Path) -> None:
    make_own(tmp_path / "a/b", tmp_path / "a/b/c")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link is a link"):
        make_own(tmp_path / "link", tmp_path / "link/c")
    assert sorted(os.listdir(tmp_path)) == ["a", "link"]


@pytest.fixture
def thesis(tmp_path: Path) -> Iterator[Path]:
    """A file of the user's outside of the folder, which nothing changes."""
    path = tmp_path / "thesis"
    path.write_text("my thesis")
    yield path
    assert path.read_text() == "my thesis"
    assert not (tmp_path / "new").exists()


@PLANTS
def test_a_log_is_not_written_elsewhere(
    tmp_path: Path, thesis: Path, plant: Plant, capfd: pytest.CaptureFixture[str]
) -> None:
    plant(tmp_path / "a.log", thesis)
    with RunLog("info") as log:
        log.open(tmp_path / "a.log")
        LOG.info("words")
    assert "a.log: no log can be written (a.log is " in capfd.readouterr().err


@PLANTS
def test_a_run_is_not_claimed_elsewhere(tmp_path: Path, thesis: Path, plant: Plant) -> None:
    (tmp_path / ".runs").mkdir()
    plant(tmp_path / ".runs/mine.claim", thesis)
    wanted = Wanted("k" * 64, "c" * 64, "")
    order = Order(0, "A", "A", wanted, "mine", "cpu", (), b"", tmp_path, tmp_path, patience=0.0)
    outcome = carry_out(order, {}, lambda: GO_ON)
    assert outcome.kind == "failed"
    assert "mine.claim is " in outcome.reason


@PLANTS
def test_lines_are_not_added_elsewhere(tmp_path: Path, thesis: Path, plant: Plant) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    plant(folder / "a.csv", thesis)
    with pytest.raises(OSError, match=r"a\.csv is "):
        append(file_of(f"{folder}/", "a"), b"line\n")
    lines = CsvFile(file_of(f"{folder}/", "a"), "a", ["run"])
    with pytest.raises(OSError, match=r"a\.csv is "):
        lines.begin([], None)


def test_a_link_that_the_user_names_is_followed(tmp_path: Path) -> None:
    (tmp_path / "live.csv").symlink_to(tmp_path / "scratch.csv")
    append(file_of(str(tmp_path / "live.csv"), "a"), b"line\n")
    assert (tmp_path / "scratch.csv").read_bytes() == b"line\n"


@pytest.mark.parametrize("plant", [link, dangle])
def test_what_comes_back_from_a_node_stays_in_the_folder(
    tmp_path: Path, thesis: Path, plant: Plant
) -> None:
    run = reserve(tmp_path / "r", "a")
    run.write({}, {})
    for path in (run.log, run.folder / "00000001.ckpt"):
        plant(path, thesis)
    files = {"a.log": b"words", ".runs/a/00000001.ckpt": b"?"}
    bring_back(Outcome(0, INTERRUPTED, files=files), tmp_path / "r", sent="a")
    assert run.log.read_bytes() == b"words"
    assert not run.log.is_symlink()


def test_a_report_stays_in_its_folder(tmp_path: Path, thesis: Path) -> None:
    results = tmp_path / "r"
    (results / "report").mkdir(parents=True)
    shutil.copy(RESULT, results)
    for name in ("report.html", "runs.csv", "tables.md", "tables.tex"):
        (results / "report" / name).symlink_to(thesis)
    _, page = report([results])
    assert page.read_text().startswith("<!")
    shutil.rmtree(results / "report")
    (tmp_path / "mine").mkdir()
    (results / "report").symlink_to(tmp_path / "mine")
    with pytest.raises(ResultsError, match="report is a link"):
        report([results])
    assert os.listdir(tmp_path / "mine") == []
