"""Writes docs/tools: a page for each tool, made from the tool's own description and a recorded example, and a
table of all tools. `make docs` runs it; a test holds the pages current."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hybridbridge_vol import tools
from hybridbridge_vol.api.signatures import annotation_of, keyword_of
from hybridbridge_vol.api.table import PYTHON_TYPES, field_of
from hybridbridge_vol.toolkit.tool import Column, Option, Tool

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "tools"
EXAMPLES = PAGES / "examples"

KINDS = {
    "int": "integer",
    "float": "number, one decimal",
    "percent": "number, two decimals",
    "hex": "integer in hexadecimal",
    "str": "text",
    "time": "time in UTC",
    "duration": "duration",
}
"""The kinds of `toolkit.tool.Kind`, as the pages call them."""

INDEX = """\
# The tools

Each tool answers under the same name in three places: `hb run DUMP TOOL`, the Volatility plugin `hb.TOOL`,
and the method `snapshot.TOOL()` in Python. `make docs` writes these pages from the tools' own descriptions.
The examples are recorded from a sample image, a Debian 12 guest with two CPUs and a workload, or an attacked
one (`make examples`), and show the first lines of the output.

| tool | shows |
|---|---|
{rows}

Options of every tool: `--format text|json|csv`, `--store DIR`, `--bridge auto|fast|slow`, `--ns-of PID`,
`--provenance`, `--stats`; see `hb run DUMP TOOL --help`. The plugins have them too, except `--format`: that
is Volatility's `--renderer`.
"""

PAGE = """\
# {name}

{help}.

{notes}```
hb run dump.raw {usage}
vol -f dump.raw hb.{plugin}
```

In Python: `snapshot.{call}`

## Options

{options}

## Columns

{columns}

## Example

```
{example}```
"""


def pages() -> dict[Path, str]:
    """The text of every page, by its path. FileNotFoundError if a tool's example is not recorded."""
    loaded = [tools.load(name) for name in tools.NAMES]
    rows = "\n".join(f"| [`{tool.name}`]({tool.name}.md) | {_cell(tool.help)} |" for tool in loaded)
    return {PAGES / "README.md": INDEX.format(rows=rows)} | {
        PAGES / f"{tool.name}.md": page(tool) for tool in loaded
    }


def page(tool: Tool) -> str:
    """The page of one tool."""
    given = [option for option in tool.options if option.positional]
    positional = " ".join(option.name.upper() + " …" * option.many for option in given)
    required = " ".join(f"--{option.name} {option.name.upper()}" for option in given)
    arguments = [keyword_of(option) for option in given] + ["…"] * (len(tool.options) > len(given))
    return PAGE.format(
        name=tool.name,
        help=tool.help,
        notes=f"{tool.notes}\n\n" if tool.notes else "",
        usage=" ".join(filter(None, (tool.name, positional, "[options]" * (len(tool.options) > len(given))))),
        plugin=f"{tool.name} {required}".strip(),
        call=f"{tool.name}({', '.join(arguments)})",
        options=_options(tool.options) if tool.options else "None of its own.",
        columns=_columns(tool),
        example=(EXAMPLES / f"{tool.name}.txt").read_text(),
    )


def _options(options: Sequence[Option]) -> str:
    lines = ["| option | in Python | meaning |", "|---|---|---|"]
    for option in options:
        short = f"`-{option.short}`, " if option.short else ""
        shown = option.name.upper() if option.positional else f"--{option.name}"
        keyword = f"`{keyword_of(option)}: {annotation_of(option)}`"
        lines.append(f"| {short}`{shown}` | {_cell(keyword)} | {_cell(option.help)} |")
    return "\n".join(lines)


def _columns(tool: Tool) -> str:
    """The columns without options, and those that an option adds or shows instead."""
    blocks = [_column_table(tool.columns)]
    plain = tool.defaults()
    known = {column.name for column in tool.columns}
    for option, value in _choices(tool):
        more = [
            column for column in tool.columns_for(plain | {option.name: value}) if column.name not in known
        ]
        if more:
            blocks.append(f"With `{_given(option, value)}` also, or instead:\n\n{_column_table(more)}")
            known |= {column.name for column in more}
    return "\n\n".join(blocks)


def _choices(tool: Tool) -> Iterator[tuple[Option, object]]:
    """Options that may change the columns, with each value that does."""
    for option in tool.options:
        for value in option.examples or ((True,) if option.type is bool else ()):
            yield option, value


def _given(option: Option, value: object) -> str:
    """The option as it is typed."""
    if value is True:
        return f"--{option.name}"
    return f"--{option.name} {'NAME,…' if ',' in str(value) else value}"


def _column_table(columns: Sequence[Column]) -> str:
    lines = ["| column | in Python | holds | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{column.name}` | `{field_of(column.name)}: {PYTHON_TYPES[column.kind]}` | {KINDS[column.kind]} "
        f"| {_cell(column.help)} |"
        for column in columns
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text in a cell of a Markdown table."""
    return text.replace("|", "\\|")


def main() -> None:
    """Write all pages, and remove those of tools that are gone."""
    made = pages()
    for path in PAGES.glob("*.md"):
        if path not in made:
            path.unlink()
    for path, text in made.items():
        path.write_text(text)
    print(PAGES)


if __name__ == "__main__":
    main()
