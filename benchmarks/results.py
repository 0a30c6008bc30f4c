"""RESULTS.md: one part for each benchmark, which replaces its own and leaves the others as they are."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from benchmarks import measure

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Timings"


def write(part: str, lines: Iterable[str], path: Path = RESULTS) -> None:
    """Put `lines` below the heading `part`, where that stood or at the end, and print them."""
    parts = _parts(path.read_text() if path.exists() else "")
    parts[part] = "\n".join(lines).strip()
    path.write_text("\n\n".join([TITLE, *(f"## {name}\n\n{text}" for name, text in parts.items())]) + "\n")
    print(f"## {part}\n\n{parts[part]}\n")


def _parts(text: str) -> dict[str, str]:
    pieces = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def circumstances(*facts: str) -> list[str]:
    """The lines above a table: date, machine and versions, then `facts`, one sentence each."""
    return [f"{date.today().isoformat()}. {measure.machine()}.", *facts, ""]


def paragraph(text: str) -> list[str]:
    """A text in lines, with an empty one behind it."""
    return [*textwrap.wrap(" ".join(text.split()), 118, break_on_hyphens=False), ""]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, its first column left and the others right."""
    rule = ["---", *("--:" for _ in header[1:])]
    return [*("| " + " | ".join(row) + " |" for row in (header, rule, *rows)), ""]


def number(value: float) -> str:
    """Three significant digits, without an exponent; whole numbers from 1000 on with a comma
    between thousands."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
