"""Tables of the page."""

from __future__ import annotations

from collections.abc import Sequence

from hybridbridge_vol.lab.batch.summary.data import Cells
from hybridbridge_vol.lab.batch.summary.findings import Finding, Rule
from hybridbridge_vol.lab.batch.summary.html import Child, Markup, cut, join, tag
from hybridbridge_vol.toolkit.cells import utc

WEIGHTS = ("look first", "unusual", "note")
MOST_ROWS = 8
"""Of a finding; the table has all."""
WHEN = frozenset(("START", "WHEN"))
HEX = frozenset(("ADDRESS",))


def shown(column: str, value: object) -> str:
    """A cell of the dataset as text: times in UTC, addresses in hexadecimal; empty where there is nothing."""
    if value is None:
        return ""
    if column in WHEN and isinstance(value, float):
        return utc(value)
    if column in HEX and isinstance(value, int):
        return f"{value:#x}"
    return cut(str(value))


def rows_table(columns: Sequence[str], rows: Sequence[Cells], most: int = MOST_ROWS) -> Markup:
    """The first rows of a table, and how many more there are."""
    head = tag("tr", *(tag("th", column) for column in columns))
    body = (
        tag(
            "tr",
            *(
                tag("td", shown(column, row.get(column)), class_="when raw" if column in WHEN else "raw")
                for column in columns
            ),
        )
        for row in rows[:most]
    )
    table = tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")
    return join(
        table,
        tag("p", f"and {len(rows) - most} more in the dataset", class_="hint") if len(rows) > most else None,
    )


def weight(rule: Rule) -> Markup:
    """How soon to look, as a word in a frame."""
    return tag("span", WEIGHTS[rule.weight], class_=f"w w{rule.weight}")


def finding(found: Finding, most: int = MOST_ROWS) -> Markup:
    """A finding: the rule in plain words and the rows that it rests on."""
    return join(
        tag(
            "h3",
            weight(found.rule),
            " ",
            found.rule.title,
            " ",
            tag("span", f"({len(found.rows)})", class_="hint"),
        ),
        tag("p", found.rule.words, class_="hint"),
        rows_table(found.columns, found.rows, most),
    )


def number(value: float | None, text: str | None = None) -> Markup:
    """A cell with a number by which its column can be sorted."""
    error_text = "" if value is None else str(value) if text is None else text
    return tag("td", error_text, class_="num", data_v="" if value is None else value)


def table(heads: Sequence[tuple[str, str]], rows: Sequence[Child], kind: str = "") -> Markup:
    """A table with heads (each a name and a class) that scrolls by itself where the page is narrow."""
    head = tag("tr", *(tag("th", name, class_=style or None) for name, style in heads))
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", *rows), class_=kind or None), class_="wide"
    )
