"""What is said about the keys, on the terminal and in README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exps.kinds import as_text
from exps.manual import ELSEWHERE, all_keys, explain, markdown_table
from exps.messages import ConfigError
from exps.plugins import KINDS, keys

README = Path(__file__).parents[2] / "README.md"


def test_explain_a_key() -> None:
    assert explain("percent_on_conv") == (
        "percent_on_conv = 0.05\n"
        "    fraction of channels that win at each position of a convolution\n"
        "    value: number above 0, at most 1\n"
        "    counts only with a model with convolutions (cnn, resnet18), and sparsify"
    )


def test_explain_all_keys() -> None:
    everything = explain()
    for name in all_keys():
        assert explain(name) in everything
    assert max(map(len, everything.splitlines())) <= 100


def test_explain_a_method_a_network_a_benchmark() -> None:
    text = explain("er")
    assert text.startswith("methods = er\n\nExperience replay")
    assert explain("er_batch") in text
    for kind in KINDS:
        for name in set(kind.names) - all_keys().keys():
            text = explain(name)
            assert all(explain(key) in text for key in keys(kind, name))
    with pytest.raises(ConfigError, match=re.escape("no key 'ecw'; did you mean 'ewc'?")):
        explain("ecw")


def test_explain_the_line_that_names_another_section() -> None:
    assert explain("like").startswith("like =\n    the section that this one starts from")
    assert "like" not in all_keys()


def test_explain_an_unknown_key() -> None:
    with pytest.raises(ConfigError, match="no key 'dropuot'; did you mean 'dropout'"):
        explain("dropuot")
    with pytest.raises(ConfigError, match="no key ''"):
        explain("")


def test_what_other_programs_call_a_key_is_no_key_here_and_means_one() -> None:
    keys = all_keys()
    for theirs, ours in ELSEWHERE.items():
        assert ours in keys and theirs not in keys
        with pytest.raises(ConfigError, match=f"no key '{theirs}'; did you mean '{ours}'"):
            explain(theirs)
    with pytest.raises(ConfigError, match="no key 'Batch_Size'; did you mean 'mb_size'"):
        explain("Batch_Size")


def test_table() -> None:
    head, rule, *rows = markdown_table().splitlines()
    assert len(rows) == len(all_keys())
    assert {line.count("|") for line in (head, rule, *rows)} == {6}
    assert (
        "| `train_ep` | whole number from 1 to 100000 (epochs) | `2` | "
        "training on the first task, or on all of them with cumul | train_steps = 0 and "
        "features other than random |"
    ) in rows


def test_the_table_in_readme_is_this_one() -> None:
    text = README.read_text(encoding="utf-8")
    _, found, rest = text.partition("<!-- parameters -->\n")
    assert found, "README.md has no <!-- parameters --> ... <!-- /parameters -->"
    table, found, _ = rest.partition("<!-- /parameters -->")
    assert found, "README.md has no <!-- /parameters -->"
    message = 'python -c "from exps.config import markdown_table as t; print(t())" writes it anew'
    assert table.strip() == markdown_table(), message


def test_values_as_text() -> None:
    assert [as_text(v) for v in (True, False, 3, 1e-4, (2, 0, 1), "auto")] == [
        "true",
        "false",
        "3",
        "0.0001",
        "2, 0, 1",
        "auto",
    ]
    for key in all_keys().values():
        assert key.kind.parse(as_text(key.default)) == key.default
