"""The report as a user meets it: command, page, tables and pictures."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from exps.messages import markdown, shortened
from utils.report import style
from utils.report.__main__ import main
from utils.report.answers import make_report
from utils.report.page import DARK_PAGE, LIGHT_PAGE
from utils.report.tables import Table, latex
from utils.report.wording import value_text
from utils.results import load_table
from utils.results.files import ResultsError
from utils.results.metrics import METRICS
from utils.results.runs import read_runs

OLD = Path(__file__).parents[2] / "data" / "MLP_1LayerSparse_2019-11-18.pkl"
Save = Callable[..., Path]
Output = tuple[int, str, str]
EVIL = '<script>alert(1)</script> & $x^2$ \\input{a} | `b` "q" _u_ %'


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[..., Output]:
    """Exit status, standard output and standard error of the command."""

    def call(*arguments: object) -> Output:
        status = main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def twins(save: Save) -> Path:
    """A folder with a sparse network and its dense twin, three seeds each."""
    for seed in range(3):
        save("Sparse", seed=seed)
        path = save("Dense", lost=0.3, seed=seed, sparsify=False)
    return path.parent


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, saver: Callable[[Path], Save]) -> Path:
    """The folder of a report on twins, made once."""
    folder = tmp_path_factory.mktemp("results")
    for seed in range(3):
        saver(folder)("Sparse", seed=seed)
        saver(folder)("Dense", lost=0.3, seed=seed, sparsify=False)
    assert main([str(folder)]) == 0
    return folder / "report"


def of_data(digest: str, **meta: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Has a result tell of these data."""
    return lambda stats: stats | {"meta": stats["meta"] | {"data": digest} | meta}


def answer(folder: Path, *compared: tuple[str, str]) -> list[str]:
    """The sentences of a report, without drawing anything."""
    runs, problems = read_runs([folder])
    return make_report(runs, problems, compared).answer


class Page(HTMLParser):
    """Checks that elements are closed in order, and keeps what a test asks for."""

    VOID = frozenset({"meta", "br", "link", "img", "use", "path", "image"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def attributes(self, tag: str, name: str) -> list[str | None]:
        return [attributes.get(name) for found, attributes in self.tags if found == tag]


def test_the_answer_comes_first(report: Callable[..., Output], twins: Path) -> None:
    status, out, err = report(twins)
    said = out.splitlines()[0]
    assert (status, err) == (0, "")
    assert re.fullmatch(
        r"Sparse is better than Dense by \d+\.\d ± \d\.\d points of average accuracy"
        r" \(n = 3 seeds, p [=<] 0\.\d+, paired t\)\.",
        said,
    )
    page = (twins / "report" / "report.html").read_text(encoding="utf-8")
    assert f'<p class="answer">{html.escape(said)}</p>' in page
    md = (twins / "report" / "tables.md").read_text(encoding="utf-8")
    assert html.escape(said) in md


def test_the_numbers_of_the_answer(written: Path) -> None:
    runs = load_table(written.parent)
    by_seed = runs.pivot(index="seed", columns="group", values="average_accuracy")
    difference = by_seed["Sparse"] - by_seed["Dense"]
    pair = pd.read_csv(written / "comparisons.csv").iloc[0]
    assert pair["difference"] == pytest.approx(difference.mean())
    assert pair["ci95"] == pytest.approx(4.302653 * difference.std() / 3**0.5)
    means = pd.read_csv(written / "metrics.csv").set_index(["group", "metric"])["mean"]
    assert means["Dense", "forgetting"] == pytest.approx(
        runs[runs["group"] == "Dense"]["forgetting"].mean()
    )


def test_everything_is_written(report: Callable[..., Output], twins: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    assert report(twins, "--out", out)[0] == 0
    assert {path.name for path in out.iterdir()} == {
        "report.html", "tables.md", "tables.tex", "runs.csv", "accuracies.csv", "metrics.csv",
        "comparisons.csv", "figures",
    }  # fmt: skip
    figures = {path.name for path in (out / "figures").iterdir()}
    for name in ("average_accuracy", "accuracy_seen", "forgetting_by_task", "active_units"):
        assert {f"{name}.png", f"{name}.svg"} <= figures
    for name in ("accuracy_matrix", "forgetting", "winner_overlap"):
        assert {f"{name}_1_Sparse.png", f"{name}_2_Dense.svg"} <= figures
    assert (out / "figures" / "entropy.svg").exists()
    assert not (twins / "report").exists()


def test_the_page_needs_nothing_else(written: Path) -> None:
    text = (written / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "img"} & {tag for tag, _ in page.tags}
    links = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("href", "xlink:href", "src") or (value or "").startswith("url(")
    ]
    assert links and all((v or "").startswith(("#", "data:image/png", "url(#")) for v in links)
    assert "http" not in re.sub(r"http-equiv", "", text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {(v or "")[1:] for v in links if (v or "").startswith("#")}
    assert used <= set(ids)


def test_the_page_is_read_aloud(written: Path) -> None:
    page = Page((written / "report.html").read_text(encoding="utf-8"))
    assert page.attributes("html", "lang") == ["en"]
    headings = [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")]
    assert headings[0] == "h1" and set(headings[1:]) == {"h2"}
    pictures = page.attributes("svg", "aria-label")
    assert set(page.attributes("svg", "role")) == {"img"}
    assert all(label and len(label) > 40 for label in pictures)
    assert any("rows are tasks trained, columns tasks tested" in str(p) for p in pictures)
    assert set(page.attributes("th", "scope")) == {"row", "col"}
    tables, captions = (len(page.attributes(tag, "")) for tag in ("table", "caption"))
    assert tables == captions > 2


def test_names_from_files_are_only_text(report: Callable[..., Output], save: Save) -> None:
    save(EVIL, seed=0)
    folder = save("_hidden", seed=0, sparsify=False).parent
    assert report(folder)[0] == 0
    text = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert not {"script", "input"} & {tag for tag, _ in Page(text).tags}
    assert html.escape(EVIL) in text
    svg = (folder / "report" / "figures" / "accuracy_seen.svg").read_text(encoding="utf-8")
    assert "_hidden" in svg.split("aria-label", 1)[1].split(">", 1)[1]  # in the legend, too
    tex = (folder / "report" / "tables.tex").read_text(encoding="utf-8")
    assert "\\input" not in tex and "\\textbackslash{}input" in tex
    md = (folder / "report" / "tables.md").read_text(encoding="utf-8")
    assert "<script" not in md and "\\|" in md


def test_text_for_latex_and_markdown() -> None:
    assert latex("a_b & 5 % ± {x}") == r"a\_b \& 5 \% $\pm$ \{x\}"
    assert markdown("MLP_1Layer | _u_ <b>") == r"MLP_1Layer \| \_u\_ &lt;b&gt;"
    assert markdown("__init__ a__b") == r"\_\_init\_\_ a\_\_b"
    assert latex("*best [a]") == "{*}best {[}a]"  # which \\ before it would take for its own


def test_no_text_in_a_csv_is_a_formula(report: Callable[..., Output], save: Save) -> None:
    folder = save("=1+1").parent
    report(folder)
    assert pd.read_csv(folder / "report" / "runs.csv")["group"][0] == "'=1+1"


def test_hostile_files_are_named_and_the_rest_goes_on(
    report: Callable[..., Output], twins: Path
) -> None:
    (twins / "evil.pkl").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    status, out, err = report(twins)
    assert status == 1
    assert err.startswith("error: ") and err.count("\n") == 1 and "evil.pkl" in err
    assert "Sparse is better than Dense" in out
    assert "evil.pkl" in (twins / "report" / "report.html").read_text(encoding="utf-8")


def test_wrong_input_is_status_2(
    report: Callable[..., Output], twins: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    status, _, err = report(tmp_path / "empty")
    assert status == 2 and "nothing to report" in err and "what to do" in err
    status, _, err = report(twins, "--compare", "Sparse", "Dens")
    assert status == 2 and "did you mean 'Dense'?" in err


def test_no_result_that_can_be_read_is_status_1(
    report: Callable[..., Output], tmp_path: Path
) -> None:
    (tmp_path / "damaged.pkl").write_bytes(b"no pickle")
    assert report(tmp_path)[0] == 1
    assert report(tmp_path / "missing.pkl")[0] == 1


def test_a_folder_that_cannot_be_written_is_said(
    report: Callable[..., Output], twins: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = report(twins, "--out", tmp_path / "file")
    assert status == 1 and "--out" in err


def test_groups_that_are_no_twins_can_be_compared(save: Save) -> None:
    for seed in range(3):
        save("A", seed=seed)
        folder = save("B", lost=0.3, seed=seed, lr=0.05).parent
    assert answer(folder)[0].startswith("A is better than B by 21")
    for seed in range(3):
        save("C", lost=0.4, seed=seed, lr=0.2)
    (said,) = answer(folder)
    assert said.startswith("Of 3 groups on the same 3 tasks, A has the highest")
    assert re.search(r"It is better than B and C by 21\.\d to 26\.\d points \(at 5 %, after", said)
    assert answer(folder, ("C", "A"))[0].startswith("A is better than C by 26")


def test_a_pair_asked_for_the_other_way_round_counts_once(save: Save) -> None:
    for seed in range(3):
        for sparsify in (True, False):
            folder = save(
                "One", seed=seed, sparsify=sparsify, lost=0.02 + 0.1 * (not sparsify)
            ).parent
    runs, _ = read_runs([folder])
    (alone,) = make_report(runs).pairs
    (asked,) = make_report(runs, [], [("2", "1")]).pairs
    assert (asked.first.number, asked.second.number, asked.twins) == (2, 1, True)
    mine, its = (pair.metrics["average_accuracy"] for pair in (alone, asked))
    assert its.p_adjusted == pytest.approx(mine.p_adjusted)
    assert its.difference.mean == pytest.approx(-mine.difference.mean)


def test_accuracies_at_other_times_are_not_compared(save: Save) -> None:
    """The same network tested more often has another stability gap."""

    def curve(stats: dict[str, Any]) -> dict[str, Any]:
        steps = {"curve_tasks": np.arange(3), "curve_steps": np.arange(1, 4)}
        return stats | steps | {"curve_accs": stats["accs"]}

    for seed in range(3):
        for every in (10, 20):
            folder = save("One", seed=seed, eval_every=every, change=curve).parent
    report = make_report(*read_runs([folder]))
    (pair,) = report.pairs
    assert "average_accuracy" in pair.metrics and "stability_gap" not in pair.metrics
    (note,) = [note for note in report.notes if "eval_every" in note]
    assert "have another eval_every each, and are not compared in average anytime acc" in note


def test_runs_that_did_not_end_are_told_with_the_answer(save: Save) -> None:
    for seed in range(4):
        save("One", seed=seed, lost=0.02, done=None if seed else 1)
        folder = save("Two", seed=seed, lost=0.3).parent
    (answer,) = make_report(*read_runs([folder])).answer
    assert answer.startswith("One is better than Two by ")
    assert answer.endswith("1 of the 4 runs of One did not come to their end, and are not in this.")


def test_a_group_is_not_compared_with_itself(report: Callable[..., Output], twins: Path) -> None:
    status, _, err = report(twins, "--compare", "1", "1")
    assert status == 2
    assert "cannot be compared with itself" in err


def test_seeds_pair_runs_of_the_same_tasks_only(save: Save) -> None:
    for seed in range(3):
        save("A", seed=seed)
        folder = save("B", lost=0.3, seed=seed, num_batch=4).parent
    made = make_report(read_runs([folder])[0], (), [("A", "B")])
    assert not made.pairs[0].metrics["average_accuracy"].paired


@pytest.mark.parametrize(
    "keys",
    [
        {"validation": 0.1},
        {"mnist_mode": "split", "num_batch": 5, "class_order": "random"},
        {"mnist_mode": "split", "num_batch": 5, "scenario": "class"},
        {"num_batch": 2},
        {"data_dir": "there", "change": of_data("b" * 64)},
        {"change": of_data("b" * 64)},
        {"change": of_data("")},
    ],
    ids=lambda keys: ",".join(keys),
)
def test_other_pictures_and_classes_are_other_tasks(save: Save, keys: dict[str, Any]) -> None:
    """Neither paired nor ranked, nor pooled; a note says so."""
    split = {k: keys[k] for k in ("mnist_mode", "num_batch") if "mnist_mode" in keys}
    data = of_data("a" * 64)
    for seed in (0, 1, 2):
        save("A", seed=seed, data_dir="here", change=data, **split)
        save("A", seed=seed, lost=0.1, **{"change": data, "data_dir": "here"} | keys)
        folder = save("B", seed=seed, lr=0.2, change=data, **split).parent
    made = make_report(read_runs([folder])[0])
    (pair,) = made.pairs  # of A and B, which have the same tasks
    assert {pair.first.name, pair.second.name} == {"A", "B"}
    assert pair.metrics["average_accuracy"].paired
    assert len(made.groups) == 3
    assert sum("reaches an average accuracy" in text for text in made.answer) == 1
    assert any(note.startswith("the groups of A are not all on the same") for note in made.notes)
    first, second = [group.label for group in made.groups if group.name == "A"]
    asked = make_report(read_runs([folder])[0], compared=[(first, second)])
    assert not asked.pairs[0].metrics["average_accuracy"].paired
    assert any("measure different things" in note for note in asked.notes)


def test_data_are_told_apart_where_there_are_several(save: Save) -> None:
    """By their folder, by their digest where that is the same, and as unknown."""
    bundled = {"data_source": "mnist.npz (bundled)"}
    for change in (of_data("a" * 64), of_data("b" * 64), of_data(""), of_data("", **bundled)):
        for seed in (0, 1):
            save(seed=seed, data_dir="my", change=change)
    folder = save(seed=2, data_dir="else", change=of_data("a" * 64)).parent
    made = make_report(read_runs([folder])[0])
    assert [(group.label, len(group.runs)) for group in made.groups] == [
        ("Sparse (data_dir = my)", 3),
        ("Sparse (data_dir = my (bbbbbbbb))", 2),
        ("Sparse (data_dir = unknown)", 2),
        ("Sparse (data_dir = bundled)", 2),
    ]
    assert any("do not tell which data they are of" in note for note in made.notes)


def test_seeds_that_only_one_of_two_groups_has_are_said(save: Save) -> None:
    for seed in range(4):
        save("A", seed=seed)
        folder = save("B", lost=0.3, seed=seed + 2, lr=0.05).parent
    notes = make_report(read_runs([folder])[0]).notes
    assert notes == ["A and B are compared by the 2 seed(s) that both have a run of"]


@pytest.mark.parametrize("commit", ["", "other"])
def test_two_versions_of_the_program_in_a_comparison_are_said(save: Save, commit: str) -> None:
    """With other methods the code that a run uses is other code of one version."""

    def other(stats: dict[str, Any]) -> dict[str, Any]:
        meta = stats["meta"] | {"code": "other"}
        return stats | {"meta": meta | {"commit": commit or meta.get("commit")}}

    for seed in range(2):
        save("A", seed=seed)
        folder = save("B", seed=seed, lr=0.05, change=other).parent
    notes = make_report(read_runs([folder])[0]).notes
    said = ["A and B were not made by the same version of the program"]
    assert notes == (said if commit else [])


def test_accuracy_stands_beside_what_it_costs(report: Callable[..., Output], save: Save) -> None:
    def timed(stats: dict[str, Any]) -> dict[str, Any]:
        return stats | {"train_seconds": 3.0, "steps": 2000}

    def costly(stats: dict[str, Any]) -> dict[str, Any]:
        er = {"parameters": 0, "pictures": 500, "memory": 8000, "macs": 1234567}
        return timed(stats) | {"method_costs": {"er": er}}

    save("Plain", sparsify=False, change=timed)
    folder = save("Replay", sparsify=False, methods=("er",), change=costly).parent
    _, out, _ = report(folder)
    assert re.search(r"pictures kept +0 +500\n", out)
    _, rest = (folder / "report" / "tables.md").read_text().split("**What it costs", 1)
    table = rest.split("\n\n")[1].splitlines()
    assert table[0] == (
        "| group | runs | average accuracy (%) | pictures kept | memory for them (bytes) |"
        " extra multiply-adds a step | time a step (ms) |"
    )
    assert table[2].startswith("| Plain | 1 | 9") and table[2].endswith("| 0 | 0 | 0 | 1.5 |")
    assert table[3].endswith("| 500 | 8,000 | 1,234,567 | 1.5 |")
    assert "What it costs" in (folder / "report" / "report.html").read_text()


def test_results_that_tell_no_costs_have_no_table_of_them(written: Path) -> None:
    assert "What it costs" not in (written / "tables.md").read_text()


def test_one_run_has_no_interval(report: Callable[..., Output], save: Save) -> None:
    _, out, _ = report(save())
    assert out.startswith("Sparse reaches an average accuracy of ")
    assert "±" not in out and "note: Sparse: a single run" in out


def test_a_run_cut_short_is_said(report: Callable[..., Output], save: Save) -> None:
    save(seed=0)
    save(seed=1)
    _, out, _ = report(save(seed=2, done=1).parent)
    assert "interrupted after 1 of 3 tasks" in out
    assert re.search(r"runs +2 of 3", out)


@pytest.mark.parametrize(
    "keys",
    [{"done": 0}, {"done": 2}, {"num_batch": 1}, {"num_batch": 100}, {"cumul": True}],
    ids=str,
)
def test_a_run_of_any_form_has_a_page(
    report: Callable[..., Output], save: Save, keys: dict[str, Any]
) -> None:
    path = save(**keys)
    assert report(path)[0] == 0
    Page((path.parent / "report" / "report.html").read_text(encoding="utf-8"))


def test_a_result_of_2019_has_a_page(report: Callable[..., Output], tmp_path: Path) -> None:
    status, out, _ = report(OLD, "--out", tmp_path)
    assert status == 0
    assert out.startswith("MLP_1LayerSparse (2019) reaches an average accuracy of 86.6 % (n = 1)")


def test_many_comparisons_are_counted(save: Save) -> None:
    for seed in range(3):
        save("Dense", lost=0.5, seed=seed, sparsify=False)
        for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            folder = save(seed=seed, lost=share / 50, percent_on_fc=share).parent
    first, second, *_ = answer(folder)
    assert "9 comparisons of average accuracy: better in 9 (by " in first
    assert "after all comparisons" in second


def test_the_table_of_runs(twins: Path) -> None:
    table = load_table(twins)
    assert len(table) == 6
    assert set(METRICS) <= set(table.columns)
    row = table[(table["group"] == "Sparse") & (table["seed"] == 1)].iloc[0]
    assert (row["percent_on_fc"], row["sparsify"], row["status"]) == (0.1, True, "complete")
    assert row["weight_density"] == 1
    assert "lr" not in table.columns  # the same in all


def test_the_table_of_accuracies(twins: Path, save: Save) -> None:
    path = save("Cut", done=2)
    table = load_table([path], rows="accuracies")
    assert len(table) == 6  # two rows of three
    assert (table["trained"].max(), table["tested"].max()) == (2, 3)
    both = load_table([twins], rows="accuracies")
    last = both[(both["trained"] == 3) & (both["group"] == "Sparse")]
    assert last.groupby("seed")["accuracy"].mean().tolist() == pytest.approx(
        load_table(twins).query("group == 'Sparse'")["average_accuracy"].tolist()
    )


def test_the_table_leaves_out_what_is_no_result(twins: Path, tmp_path: Path) -> None:
    (twins / "evil.pkl").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.warns(UserWarning, match=r"evil\.pkl"):
        assert len(load_table(twins)) == 6
    with pytest.raises(ResultsError):
        load_table(twins / "evil.pkl")
    with pytest.raises(ValueError, match="runs or accuracies"):
        load_table(twins, rows="epochs")


def test_colours_are_told_apart_on_light_and_dark_pages() -> None:
    for colours in (style.LIGHT | LIGHT_PAGE, style.DARK | DARK_PAGE):
        for ground in ("--paper", "--page"):
            for text in ("--ink", "--soft", "--c0"):
                assert style.contrast(colours[text], colours[ground]) >= 4.5
        for line in range(len(style.SERIES)):
            assert style.contrast(colours[f"--c{line}"], colours["--paper"]) >= 3
    for task in style.BETWEEN:
        assert task not in style.LIGHT.values()  # which change with the page
        assert style.contrast(task, style.LIGHT["--paper"]) >= 3
        assert style.contrast(task, style.DARK["--paper"]) >= 3


def test_numbers_in_heat_maps_are_read() -> None:
    from matplotlib import colormaps

    for value in np.linspace(0, 1, 101):
        cell = colormaps[style.MAPS](value)
        assert style.contrast(style.readable_on(cell), cell) >= 4.5


@pytest.mark.parametrize(
    ("metric", "value", "half", "text"),
    [
        ("average_accuracy", 0.8449, 0.0031, "84.5 ± 0.3"),
        ("average_accuracy", 0.8449, float("nan"), "84.5"),
        ("average_accuracy", 0.8449, 0.0002, "84.49 ± 0.02"),
        ("active_percentage", 0.0005, float("nan"), "0.05"),
        ("bwt", -0.0004, 0.01, "0.0 ± 1.0"),
        ("bwt", -0.05, 0.01, "−5.0 ± 1.0"),
        ("params", 3145728.0, 0.0, "3,145,728"),
        ("step_seconds", 0.01234, 0.0005, "12.3 ± 0.5"),
        ("step_seconds", 0.0000312, float("nan"), "0.03"),
        ("fwt", float("nan"), float("nan"), "–"),
    ],
)
def test_values_as_people_read_them(metric: str, value: float, half: float, text: str) -> None:
    assert value_text(METRICS[metric], value, half) == text


def test_long_labels_keep_both_ends() -> None:
    assert shortened("abcdefghij", 6) == "abcd…j"
    assert shortened("abc", 6) == "abc"


def test_a_table_in_a_terminal_of_any_width() -> None:
    table = Table("t", ["group", "one", "two"], [["a", "1", "2"], ["bb", "3", "4"]])
    assert table.terminal(80).splitlines() == [
        "group  one  two",
        "a        1    2",
        "bb       3    4",
    ]
    assert table.terminal(11).count("group") == 2
