"""Pages that are zeros in an image: each row of `check` that rests on one says so, and a hook elsewhere is a
row like any other."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from default_run import in_default_run
from generations import GENERATIONS
from hypothesis import given
from hypothesis import strategies as st
from victims import NAME, Victim

from hybridbridge_vol.check.doubts import BESIDE, UNREAD, Doubts, blank_pages, in_a_row
from hybridbridge_vol.check.modules.all_modules import AllModules
from hybridbridge_vol.check.modules.linked_module import TEXT
from hybridbridge_vol.check.symbol_names import known_modules
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.units import PAGE_SIZE

Checked = Callable[[Victim], list[dict[str, Any]]]
EACH = in_default_run(sorted(GENERATIONS), NAME)


def alarms(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that do not say that they rest on missing memory."""
    return [row for row in rows if not any(isinstance(cell, Unavailable) for cell in row.values())]


def near(page: int, places: list[int]) -> bool:
    """Whether a place is in a page, or not far from it."""
    return any(abs(page - place) <= 3 * PAGE_SIZE for place in places)


def empty(image: Victim, vaddr: int) -> int:
    """Make zeros of the page of an address; its address."""
    page = vaddr & -PAGE_SIZE
    image.write(page, bytes(PAGE_SIZE))
    return page


@given(st.sets(st.integers(0, 30), max_size=8), st.integers(0, 31 * PAGE_SIZE))
def test_what_is_beside_a_missing_page_is_doubted_and_nothing_else(pages: set[int], start: int) -> None:
    doubts = Doubts([page * PAGE_SIZE for page in pages], ())
    edges = {edge * PAGE_SIZE for page in pages for edge in (page, page + 1)}
    near = any(start - 64 <= edge <= start + 1 + 64 for edge in edges)
    assert doubts.of(start, start + 1) == (BESIDE if near else "")


def test_a_site_whose_variable_is_missing_is_doubted() -> None:
    doubts = Doubts((), [100, 200])
    assert [doubts.of(start, start + 5) for start in (96, 100, 101, 200, 300)] == [
        UNREAD,
        UNREAD,
        "",
        UNREAD,
        "",
    ]


def test_pages_that_are_zeros_and_should_be_are_not_blank() -> None:
    page = bytes(PAGE_SIZE)
    full = b"\1" * PAGE_SIZE
    assert list(blank_pages(full + page + full, page + page + full)) == [0]
    assert list(blank_pages(full + full[:9], full + page[:9])) == [PAGE_SIZE]
    assert list(blank_pages(full, page, -16)) == [-16, PAGE_SIZE - 16]
    assert list(in_a_row([0, PAGE_SIZE, 3 * PAGE_SIZE])) == [(0, 2), (3 * PAGE_SIZE, 1)]


@pytest.mark.parametrize("name", EACH)
def test_of_a_kernel_with_holes_each_row_says_so_but_that_of_a_hook(
    victim: Callable[..., Victim], checked: Checked, name: str
) -> None:
    """A fortieth of the pages of its code, constants and data, at random: keys of static calls, patch sites
    at the edge of a page, tables."""
    image = victim(name)
    hook = image.vaddr("__x64_sys_getdents64")
    image.jump(hook, image.vaddr("commit_creds"))
    kept = [hook, image.vaddr("linux_banner"), image.vaddr("linux_proc_banner")]
    chance = random.Random(name)
    emptied = set()
    for first, last in (("_text", "_etext"), ("__start_rodata", "__end_rodata"), ("_sdata", "_edata")):
        pages = range(image.vaddr(first), image.vaddr(last) & -PAGE_SIZE, PAGE_SIZE)
        chosen = [page for page in chance.sample(pages, len(pages) // 40) if not near(page, kept)]
        emptied |= {empty(image, page) for page in chosen}
    emptied.add(empty(image, image.vaddr("idt_table")))
    rows = checked(image)
    assert [(row["WHAT"], row["ADDRESS"]) for row in alarms(rows)] == [("text", hook)]
    missing = [row for row in rows if row["WHAT"] == "missing"]
    said = sum(int(row["FOUND"].reason.split()[0]) for row in missing if row["FOUND"].reason[0].isdigit())
    assert len(emptied) * 0.8 < said <= len(emptied)


@pytest.mark.parametrize("name", EACH)
def test_of_modules_with_holes_each_row_says_so_and_a_hook_is_found(
    victim: Callable[..., Victim], checked: Checked, name: str
) -> None:
    image = victim(name)
    modules = AllModules(image.bridge, known_modules(image.session)[0])
    texts = {placed.text_vaddr: len(placed.linked.segments[TEXT]) for placed in modules.by_name.values()}
    hooked = max(texts, key=lambda vaddr: texts[vaddr])
    emptied = Counter(
        empty(image, vaddr + at)
        for vaddr, size in texts.items()
        for at in range(0, size, 3 * PAGE_SIZE)
        if vaddr != hooked
    )
    at = hooked + texts[hooked] // 2
    image.write(at, bytes(byte ^ 0xFF for byte in image.read(at, 8)))
    rows = checked(image)
    assert [row for row in alarms(rows) if not at - 16 <= row["ADDRESS"] <= at + 8] == []
    assert alarms(rows)
    missing = [row["FOUND"].reason for row in rows if row["WHAT"] == "missing"]
    assert sum(int(reason.split()[0]) for reason in missing if "pages of module" in reason) >= len(emptied)


def test_where_a_module_is_lost_what_leads_to_it_is_no_hook(
    victim: Callable[..., Victim], checked: Checked
) -> None:
    """The kernel cannot list its modules: those behind the lost one are found from the list's other end."""
    image = victim("6.1 two CPUs")
    structs = image.bridge.space.modules.listed.structs
    lost = list(structs.values())[len(structs) // 2][0]
    page = empty(image, lost)
    gone = [name for name, (vaddr, _pages) in structs.items() if vaddr & -PAGE_SIZE == page]
    rows = checked(image)
    assert alarms(rows) == []
    (row,) = (row for row in rows if row["SYMBOL"] == "modules")
    assert row["FOUND"].reason.startswith(f"only {len(structs) - len(gone)} modules can be checked")
