"""The table of measured kernels: a run replaces the rows of what it measured, and no others."""

from __future__ import annotations

import pytest

from benchmarks.kernels import BEGIN, END, HEADER, PAGE, merged

OLD = ("built-cfi", *("old" for _ in HEADER[1:]))
NEW = ("built-cfi", *("new" for _ in HEADER[1:]))
OTHER = ("Debian 6.1 cloud", *("other" for _ in HEADER[1:]))
EMPTY = f"# Kernels\n\n{BEGIN}{END}\nText.\n"


def rows(page: str) -> list[str]:
    """The lines of the table, without its header."""
    return page.partition(BEGIN)[2].partition(END)[0].splitlines()[2:]


def test_a_row_is_added_at_the_end_and_replaces_that_of_the_same_kernel() -> None:
    page = merged(merged(EMPTY, [OLD, OTHER]), [NEW])
    assert [line for line in rows(page) if line] == [f"| {' | '.join(row)} |" for row in (NEW, OTHER)]


def test_the_text_around_the_table_stays() -> None:
    page = merged(EMPTY, [OLD])
    assert page.startswith("# Kernels\n\n")
    assert page.endswith(f"{END}\nText.\n")


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no marks"):
        merged("# Kernels\n", [OLD])


def test_the_page_has_the_marks() -> None:
    assert merged(PAGE.read_text(), []).count(BEGIN) == 1
