"""ELF cores of makedumpfile: what is left out of them is zeros where the kernel uses it for itself, and
missing elsewhere, for the dump level is not recorded."""

from __future__ import annotations

from pathlib import Path

import page_structs
import pytest
from elf_writer import makedumpfiles, note
from hypothesis import given, settings
from hypothesis import strategies as st
from kdump_writer import flat, kdump, packed
from page_structs import MIB, PAGE
from sources import source

from hybridbridge_vol.errors import KernelNotStored
from hybridbridge_vol.guest.no_kernel import explain_unknown
from hybridbridge_vol.memory_image.elf_core import parse_elf_core
from hybridbridge_vol.memory_image.kdump import parse_kdump
from hybridbridge_vol.memory_image.kernel_pages import KernelPages
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.runs import ZEROS, Run
from hybridbridge_vol.snapshot.banner import scan_banners, text_places
from hybridbridge_vol.snapshot.find_kernel import find_kernels
from hybridbridge_vol.snapshot.foreign_memory import noise_share, other_processor
from hybridbridge_vol.trust.store import Store

STORED = 4 * MIB
"""What the cores of the small machine hold; the rest of it is left out."""
FIRST = STORED // PAGE
KINDS = {
    FIRST: (page_structs.KERNELS, None),
    FIRST + 1: (page_structs.FREE, "a free page"),
    FIRST + 2: (page_structs.IN_A_FREE_BLOCK, "a free page"),
    FIRST + 3: (page_structs.USERS, "a page of user data"),
    FIRST + 4: (page_structs.ISOLATED, "a page of user data"),
    FIRST + 5: (page_structs.CACHED, "a page of a cache"),
    FIRST + 6: (page_structs.SWAPPED, "a page of a cache"),
    FIRST + 7: (page_structs.HUGE, "a page of an unknown kind"),
    FIRST + 8: (page_structs.tail_of(FIRST + 3), "a page of user data"),
    FIRST + 9: (page_structs.tail_of(FIRST + 7), "a page of an unknown kind"),
    FIRST + 10: (page_structs.OFFLINE, "a page of an unknown kind"),
    FIRST + 11: (bytes(64), "a page of an unknown kind"),
    FIRST + 12: (page_structs.MAPPED_TO_USER_SPACE, None),
}
"""Page number -> its struct page, and what is said of it."""


def core(note_text: bytes = page_structs.NOTE, stored: int = STORED) -> bytes:
    """The first MiB of the small machine, as makedumpfile -E writes them."""
    memory = page_structs.machine({page: content for page, (content, _kind) in KINDS.items()})
    return makedumpfiles([(0, bytes(memory[:stored]), page_structs.MACHINE_SIZE)], note_text)


@pytest.mark.parametrize("form", [lambda data: data, lambda data: flat([(0, data)])], ids=["plain", "flat"])
def test_pages_that_the_kernel_uses_were_zeros_and_others_are_missing(tmp_path: Path, form: object) -> None:
    path = tmp_path / "dump.elf"
    path.write_bytes(form(core()))  # type: ignore[operator]
    with open_image(path) as image:
        assert image.missing == ()
        assert image.memory_size == page_structs.MACHINE_SIZE
        for page, (_content, kind) in KINDS.items():
            data = image.read_available(page * PAGE, PAGE)
            assert data == (bytes(PAGE) if kind is None else None), (page, kind)
            if kind:
                assert image.why_absent(page * PAGE + 5) == (
                    f"left out by makedumpfile, at a dump level that an ELF core does not record: {kind}"
                )
        assert image.read(STORED - 2, 4) == b"\x5a\x5a\0\0"
        assert image.read_available((FIRST + 12) * PAGE + 1, 3 * PAGE) == bytes(3 * PAGE)
        assert image.read_available(FIRST * PAGE, 2 * PAGE) is None
        assert image.offset_of(STORED) is None
        assert image.left_out is not None and image.left_out.startswith("12,288 KiB left out by makedumpfile")
        assert image.caution is not None and "are missing" in image.caution


@pytest.mark.parametrize(
    "text",
    [
        b"OSRELEASE=6.1.0\nPAGESIZE=4096\n",
        page_structs.NOTE.replace(b"SIZE(page)=64", b"SIZE(page)=0"),
        page_structs.NOTE.replace(b"SIZE(page)=64", b"SIZE(page)=18446744073709551615"),
        page_structs.NOTE.replace(b"SIZE(mem_section)=16", b"SIZE(mem_section)=0"),
        page_structs.NOTE.replace(b"SECTION_SIZE_BITS)=27", b"SECTION_SIZE_BITS)=0"),
        page_structs.NOTE.replace(b"LENGTH(mem_section)=2048", b"LENGTH(mem_section)=0"),
        page_structs.NOTE.replace(b"(page.mapping)=24", b"(page.mapping)=-24"),
        page_structs.NOTE.replace(b"phys_base)=-4096", b"phys_base)=-8192"),
    ],
)
def test_nothing_is_zeros_where_the_note_does_not_lead_to_the_table_of_pages(text: bytes) -> None:
    contents = parse_elf_core(source(core(text)))
    assert contents.zeros(FIRST * PAGE, PAGE) == b""
    reason = contents.why_absent(FIRST * PAGE)
    assert reason is not None and reason.endswith("a page of an unknown kind")


def test_a_tail_may_have_a_mask_that_leads_to_its_head() -> None:
    """Where the field is called compound_info."""
    note_text = page_structs.NOTE.replace(b"page.compound_head", b"page.compound_info")
    head, tail, kernels = FIRST + 64, FIRST + 67, FIRST + 69
    masked = page_structs.struct_page(head=-64 * 4 + 1 & (1 << 64) - 1, references=0)
    heads = {head: page_structs.USERS, FIRST + 68: page_structs.HUGE}
    memory = page_structs.machine({**heads, tail: masked, kernels: masked})
    pages = KernelPages(note_text, lambda paddr, size: bytes(memory[paddr : paddr + size]))
    assert pages.kind(tail) == "a page of user data"
    assert pages.kind(kernels) == "a page of an unknown kind"  # of a compound page of the kernel's
    assert pages.kind(head + 1) is None


def test_a_core_that_ends_before_its_table_of_pages_has_no_zeros() -> None:
    data = core()
    cut = parse_elf_core(source(data, len(data) - STORED + 2 * MIB))
    assert cut.missing == [(2 * MIB, STORED - 2 * MIB)]
    assert cut.zeros(FIRST * PAGE, PAGE) == b""


def test_a_part_of_the_table_that_was_left_out_too_says_nothing() -> None:
    """makedumpfile -e leaves out struct pages of what it leaves out."""
    contents = parse_elf_core(source(core(stored=2 * MIB)))
    assert contents.zeros(FIRST * PAGE, PAGE) == b""


def test_a_core_of_which_nothing_is_left_out_needs_no_caution() -> None:
    contents = parse_elf_core(source(makedumpfiles([(0, b"a" * PAGE, PAGE)])))
    assert contents.left_out is None and contents.caution is None


def test_a_truncated_core_lacks_what_it_had() -> None:
    data = makedumpfiles([(0, b"a" * PAGE, 3 * PAGE), (3 * PAGE, b"b" * 4 * PAGE, 8 * PAGE)])
    contents = parse_elf_core(source(data, len(data) - 2 * PAGE))
    assert contents.missing == [(5 * PAGE, 2 * PAGE)]
    assert [run for run in contents.runs if run.offset == ZEROS] == [
        Run(PAGE, 2 * PAGE, ZEROS),
        Run(7 * PAGE, 4 * PAGE, ZEROS),
    ]


def test_a_core_that_claims_an_ocean_of_zeros_is_searched_where_it_has_bytes(tmp_path: Path) -> None:
    """32 TiB in a file of 4 MiB: what looks for kernels would take hours for them."""
    memory = page_structs.machine({})
    line = b"Linux version 6.1.0 (somebody@example) (gcc 12) #1 SMP Debian 6.1.0-1 (2026-11-26)\n"
    memory[3 * MIB : 3 * MIB + len(line)] = line
    path = tmp_path / "dump.elf"
    path.write_bytes(makedumpfiles([(0, bytes(memory[:STORED]), 32 << 40)], page_structs.NOTE))
    with open_image(path) as image:
        assert image.memory_size == 32 << 40
        assert [(run.paddr, run.size) for run in image.stored] == [(0, STORED)]
        assert scan_banners(image) == [(line.decode().strip(), 1)]
        assert list(text_places(image, "Linux version 6")) == [3 * MIB]
        assert list(find_kernels(image, [])) == []
        assert other_processor(image, line.decode().strip()) is None
        assert noise_share(image)[1] <= FIRST
        with pytest.raises(KernelNotStored):
            raise explain_unknown(image, Store(tmp_path / "store"))


NUMBERS = st.integers(-(1 << 70), 1 << 70) | st.integers(-5, 5000)


@settings(max_examples=200)
@given(st.data())
def test_a_hostile_note_and_hostile_memory_end_soon_and_say_a_kind_or_nothing(data: st.DataObject) -> None:
    """Among them page tables that lead into themselves."""
    lines = [line.partition(b"=") for line in page_structs.NOTE.splitlines()]
    changed = data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=3))
    text = b"".join(
        name + b"=" + (b"%x" % abs(data.draw(NUMBERS)) if number in changed else value) + b"\n"
        for number, (name, _, value) in enumerate(lines)
    )
    memory = page_structs.machine({})
    for place in data.draw(st.lists(st.integers(512, 4095), max_size=8)):
        memory[8 * place : 8 * place + 8] = data.draw(
            st.sampled_from([b"\x63\x10" + bytes(6), b"\xff" * 8]) | st.binary(min_size=8, max_size=8)
        )
    pages = KernelPages(text, lambda paddr, size: bytes(memory[paddr : paddr + size]))
    for page in (0, 1, FIRST, -1, 1 << 33, 1 << 60):
        kind = pages.kind(page)
        assert kind is None or "page" in kind


@given(st.binary(max_size=2000))
def test_any_note_is_read(text: bytes) -> None:
    assert KernelPages(text, lambda _paddr, size: bytes(size)).kind(0) == "a page of an unknown kind"


# --- what was erased ---

ERASED = b"erase init_task.comm 16\nerase modules.name 56\n"


def test_what_makedumpfile_was_told_to_overwrite_is_said_of_each_answer() -> None:
    words = (
        "makedumpfile was told to overwrite memory, and did: erase init_task.comm 16; erase modules.name 56"
    )
    data = makedumpfiles([(0, b"a" * PAGE, PAGE)], page_structs.NOTE, note(b"ERASEINFO", ERASED))
    assert parse_elf_core(source(data)).caution == words
    assert parse_kdump(source(kdump({0: packed(b"a" * PAGE)}, erased=ERASED))).caution == words
    both = makedumpfiles([(0, b"a" * PAGE, 2 * PAGE)], page_structs.NOTE, note(b"ERASEINFO", ERASED))
    caution = parse_elf_core(source(both)).caution
    assert caution is not None and "are missing" in caution and caution.endswith(words)


@given(st.binary(max_size=3000))
def test_a_hostile_list_of_what_was_erased_is_one_short_line(content: bytes) -> None:
    contents = parse_kdump(source(kdump({0: packed(b"a" * PAGE)}, erased=content)))
    assert contents.caution is None or ("\n" not in contents.caution and len(contents.caution) < 4000)
    assert contents.caution is None or contents.caution.isprintable()


def test_a_list_that_lies_nowhere_is_empty() -> None:
    data = bytearray(kdump({0: packed(b"a" * PAGE)}, erased=ERASED))
    data[PAGE + 64 : PAGE + 80] = b"\xff" * 16
    assert parse_kdump(source(bytes(data))).caution is None
