"""The report as one page that needs nothing else: no script, font or picture from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from utils.report import tables
from utils.report.answers import Report
from utils.report.drawing import HEADINGS, MATRICES
from utils.report.figures import mean_matrix
from utils.report.style import DARK, LIGHT, Picture, inline
from utils.report.wording import counted
from utils.results.groups import Group
from utils.results.metrics import METRICS

_TABULATED = 20  # tasks up to which an accuracy matrix is a table too
_LISTED = 4  # comparisons up to which nothing is folded


def page(report: Report, pictures: Sequence[Picture], svgs: Sequence[str]) -> str:
    """The whole page. svgs: of each picture, as `Picture.svg` gives it."""
    parts = {"Metrics": _tables(report)} | _figures(pictures, svgs)
    if MATRICES in parts:
        parts[MATRICES] += _matrices(report.groups)
    if len(report.groups) > 1:
        parts["Configurations"] = tables.configuration_table(report).page()
    parts["What the metrics mean"] = _meanings()
    links = "".join(f'<li><a href="#{_id(name)}">{escape(name)}</a></li>' for name in parts)
    sections = "\n".join(
        f'<section id="{_id(name)}"><h2>{escape(name)}</h2>\n{body}</section>'
        for name, body in parts.items()
    )
    names = ", ".join(dict.fromkeys(group.name for group in report.groups))
    return (
        f"<!DOCTYPE html>\n{_head(names)}\n<body>\n<main>\n<h1>Report</h1>\n{_answer(report)}\n"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n{_notes(report)}\n{sections}\n'
        "</main>\n</body>\n</html>\n"
    )


def _head(names: str) -> str:
    """No page it is opened in may load anything for it, whatever got into it."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Report: {escape(names)}</title>\n<style>{_css()}</style>\n</head>"
    )


def _answer(report: Report) -> str:
    pairs = [pair.sentence for pair in report.pairs]
    folded = pairs if len(pairs) > _LISTED else []
    first, *rest = [text for text in report.answer if text not in folded] or report.answer
    listed = _listed(rest) if rest else ""
    if folded:
        summary = f"<summary>All {len(folded)} comparisons</summary>"
        listed += f"<details>{summary}{_listed(folded)}</details>"
    runs = counted(sum(len(group.runs) for group in report.groups), "run")
    groups = counted(len(report.groups), "configuration")
    return (
        f'<p class="answer">{escape(first)}</p>\n'
        + (f"{listed}\n" if listed else "")
        + f"<p>From {runs} of {groups}.</p>"
    )


def _listed(texts: Sequence[str]) -> str:
    more = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="answers">{more}</ul>'


def _notes(report: Report) -> str:
    lines = [f"not read: {text}" for text in report.problems] + report.notes
    if not lines:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in lines)
    return f'<section class="notes"><h2>To be noted</h2><ul>{items}</ul></section>'


def _tables(report: Report) -> str:
    parts = [*tables.metric_tables(report), *map(tables.ranking_table, report.rankings)]
    parts += [tables.overview_table(report)] if len(report.pairs) > 1 else []
    pairs = [tables.comparison_table(pair).page() for pair in report.pairs]
    if len(pairs) > _LISTED:
        summary = f"<summary>All metrics of {len(pairs)} comparisons</summary>"
        pairs = [f"<details>{summary}{''.join(pairs)}</details>"]
    return "\n".join([part.page() for part in parts] + pairs)


def _figures(pictures: Sequence[Picture], svgs: Sequence[str]) -> dict[str, str]:
    """The pictures as HTML, by the heading that they stand under."""
    found = dict.fromkeys(HEADINGS, "")
    for picture, svg in zip(pictures, svgs, strict=True):
        caption = f"<figcaption>{escape(picture.title)}</figcaption>"
        found[picture.heading] += f"<figure>{inline(svg, picture.name)}{caption}</figure>\n"
    return {
        heading: f'<div class="pictures">{drawn}</div>' for heading, drawn in found.items() if drawn
    }


def _matrices(groups: Sequence[Group]) -> str:
    """The accuracy matrices as tables, folded."""
    few = [group for group in groups if group.tasks <= _TABULATED]
    found = "".join(tables.matrix_table(g, mean_matrix(g).tolist()).page() for g in few)
    return f"<details><summary>The same as tables</summary>{found}</details>" if found else ""


def _meanings() -> str:
    rows = "".join(
        f"<dt>{escape(metric.label)}</dt><dd>{escape(metric.meaning)}</dd>"
        for metric in METRICS.values()
    )
    return (
        f"<dl>{rows}</dl><p>Intervals are of Student’s t, over runs of other seeds; one run has"
        " none. Runs of the same seed are compared as pairs. The permutation test assumes no"
        " distribution, but with n pairs its p cannot be below 2 / 2<sup>n</sup>.</p>"
    )


def _id(heading: str) -> str:
    return "part-" + "".join(c if c.isalnum() else "-" for c in heading.lower())


def _css() -> str:
    light, dark = (
        "".join(f"{name}:{colour};" for name, colour in colours.items())
        for colours in (LIGHT | LIGHT_PAGE, DARK | DARK_PAGE)
    )
    return f":root{{{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\n{_CSS}"


LIGHT_PAGE = {"--page": "#f3f4f6", "--soft": "#50565e"}
DARK_PAGE = {"--page": "#12151a", "--soft": "#b3bac4"}
_CSS = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);overflow-wrap:anywhere;
  font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:84rem;margin:auto;padding:1.5rem clamp(1rem,3vw,2.5rem) 4rem}
h1{font-size:1rem;color:var(--soft);margin:0;font-weight:600}
h2{font-size:1.3rem;margin:2.5rem 0 .8rem}
.answer{font-size:clamp(1.25rem,2.6vw,1.75rem);line-height:1.35;font-weight:600;margin:.3rem 0 1rem;
  max-width:60rem;text-wrap:balance}
.answers{max-width:60rem}
a{color:var(--c0)}
a:focus-visible,.scroll:focus-visible,summary:focus-visible{outline:3px solid var(--c0);
  outline-offset:2px}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;list-style:none;padding:0;margin:1rem 0}
.notes{border-left:4px solid var(--c1);padding:.1rem 1rem;background:var(--paper);max-width:60rem}
.notes h2{font-size:1rem;margin:.6rem 0 0}
.notes ul{margin:.3rem 0 .8rem;padding-left:1.2rem;max-height:16rem;overflow:auto}
.pictures{display:grid;gap:1.2rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,25rem),1fr))}
figure{margin:0;background:var(--paper);border:1px solid var(--faint);border-radius:8px;
  padding:.7rem;display:flex;flex-direction:column;gap:.5rem;min-width:0}
figure svg{width:100%;height:auto;max-width:42rem;margin:0 auto auto}
figure svg text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
figcaption{font-size:.9rem;color:var(--soft);order:-1}
.scroll{overflow-x:auto;background:var(--paper);border:1px solid var(--faint);border-radius:8px;
  margin:0 0 1.2rem}
table{border-collapse:collapse;font-size:.875rem;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.6rem .8rem;font-weight:600}
caption span{display:inline-block;position:sticky;left:.8rem;max-width:calc(100vw - 4.5rem)}
th,td{padding:.35rem .5rem;text-align:right;border-top:1px solid var(--faint);vertical-align:top;
  overflow-wrap:normal}
thead th{color:var(--soft);font-weight:600}
th:first-child{text-align:left;position:sticky;left:0;background:var(--paper);
  overflow-wrap:break-word;min-width:9rem;max-width:24rem}
tbody th{font-weight:500}
summary{cursor:pointer;padding:.6rem 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;margin:0}
dt{font-weight:600}dd{margin:0}
@media(max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.5rem}
  th:first-child{max-width:11rem}}
@media print{body{background:none}main{padding:0}figure,.scroll{break-inside:avoid}
  .scroll,.notes ul{overflow:visible;max-height:none}table{font-size:.75rem}
  th:first-child{position:static;min-width:6rem}
  th,td{padding:.25rem .35rem}}
"""
