"""`hb.check`: silent on a clean image, and every change that is planted in one is told, with the symbol it is
in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from default_run import in_default_run
from generations import GENERATIONS, Lab
from victims import ELSEWHERE, NAME, Victim, check

from hybridbridge_vol.check.grouping import grouped
from hybridbridge_vol.check.symbol_names import Places
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Row
from hybridbridge_vol.units import PAGE_SIZE

EACH = in_default_run(sorted(GENERATIONS), NAME)


def test_a_clean_image_gives_no_row(lab: Lab, generation: str) -> None:
    assert check(lab.session(generation)) == []


def test_every_plant_is_found_on_each_kernel(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]], generation: str
) -> None:
    image = victim(generation)
    hook, table, operations = (
        image.vaddr("__x64_sys_getdents64"),
        image.vaddr("sys_call_table"),
        image.vaddr("tcp4_seq_ops"),
    )
    image.jump(hook, ELSEWHERE)
    image.set_word(table + 8 * 217, ELSEWHERE + 0x10)
    image.set_word(operations + 24, ELSEWHERE + 0x20)
    image.write(image.vaddr("idt_table") + 16 * 14 + 6, (ELSEWHERE >> 16 & 0xFFFF).to_bytes(2, "little"))
    proc_root = image.vaddr("proc_root")
    operations_of_root = next(
        at
        for at in range(proc_root, proc_root + 128, 8)
        if image.word(at) == image.vaddr("proc_root_operations")
    )
    image.set_word(operations_of_root, ELSEWHERE + 0x30)
    rows = {row["WHAT"]: row for row in checked(image)}
    assert rows.keys() == {"text", "syscall", "rodata", "data", "idt"}
    assert rows["text"]["ADDRESS"] == hook
    assert rows["text"]["OFFSET"] == image.offset(hook)
    assert rows["text"]["SYMBOL"] == "__x64_sys_getdents64"
    assert rows["text"]["FOUND"].startswith(f"jmp {ELSEWHERE:#x}")
    assert rows["text"]["LEADS"] == "module area, no module listed there, not mapped"
    assert rows["syscall"]["SYMBOL"] == "sys_call_table[217]"
    assert rows["syscall"]["EXPECTED"] == "__x64_sys_getdents64"
    assert rows["syscall"]["FOUND"] == f"{ELSEWHERE + 0x10:#x}"
    assert rows["rodata"]["SYMBOL"] == "tcp4_seq_ops+0x18"
    assert rows["rodata"]["EXPECTED"] == "tcp4_seq_show"
    assert rows["data"]["SYMBOL"] == f"proc_root+{operations_of_root - proc_root:#x}"
    assert rows["data"]["EXPECTED"] == "proc_root_operations"
    assert rows["idt"]["SYMBOL"] == "idt_table[0xe]"
    assert rows["idt"]["EXPECTED"].startswith("asm_exc_page_fault ")


def test_a_change_to_the_code_that_every_process_is_given_is_found(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]], generation: str
) -> None:
    from hybridbridge_vol.check.vdso_images import vdso_images
    from hybridbridge_vol.trust.linked_kernel import linked_kernel

    image = victim(generation)
    kernel = image.bridge.kernel
    images = list(vdso_images(linked_kernel(kernel).flat, kernel.symbols, kernel.text_link_vaddr))
    assert len(images) == 2 and all(one.sites for one in images)  # of 64 and of 32 bits
    vdso = images[0]
    assert vdso.sites
    start = image.vaddr("_text") + vdso.start
    patched = next(at for at, (_length, replacements) in vdso.sites.items() if all(replacements))
    free = next(
        at for at in range(0x600, vdso.size, 16) if not vdso.sites.keys() & set(range(at - 8, at + 24))
    )
    image.write(start + free, b"\xb8\x22\x00\x00\x00\x0f\x05")
    image.write(start + patched, b"\xcc")
    rows = checked(image)
    assert {row["WHAT"] for row in rows} == {"vdso"}
    assert sorted(row["ADDRESS"] for row in rows) == sorted((start + free, start + patched))


def test_a_jump_is_followed_whose_last_byte_is_what_was_there(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]], generation: str
) -> None:
    image = victim(generation)
    hook = image.vaddr("__x64_sys_getdents64")
    distance = int.from_bytes(bytes(3) + image.read(hook + 4, 1), "little", signed=True) + 0x654321
    image.jump(hook, hook + 5 + distance)
    (row,) = checked(image)
    assert row["FOUND"].startswith(f"jmp {hook + 5 + distance:#x}") and row["LEADS"]


@pytest.mark.parametrize(
    "target",
    ["__x64_sys_getpid", "commit_creds"],
    ids=["another system call", "another function"],
)
def test_a_table_entry_that_leads_to_another_function_of_the_kernel_is_found(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]], target: str
) -> None:
    image = victim()
    image.set_word(image.vaddr("sys_call_table") + 8 * 102, image.vaddr(target))
    (row,) = checked(image)
    assert (row["EXPECTED"], row["LEADS"]) == ("__x64_sys_getuid", target)


def test_a_patch_site_holds_no_hiding_place(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    """What the kernel may patch itself is accepted only in the forms that it writes there."""
    from hybridbridge_vol.check.patch_tables import read_patch_tables
    from hybridbridge_vol.trust.linked_kernel import linked_kernel

    image = victim()
    kernel = image.bridge.kernel
    tables = read_patch_tables(linked_kernel(kernel).flat, kernel.symbols, kernel.text_link_vaddr)
    text, end = image.vaddr("_text"), image.vaddr("_etext") - image.vaddr("_text")

    def middle(places: Any) -> int:
        inside = sorted(place for place in places if place < end)
        return text + inside[len(inside) // 2]

    near = image.vaddr("commit_creds")
    sites = {
        "mcount": middle(tables.mcount),
        "return": middle(tables.returns),
        "retpoline": middle(tables.retpolines),
        "static branch": middle(branch.code for branch in tables.branches if branch.size == 5),
        "static call": middle(call.code for call in tables.static_calls),
        "alternative": middle(one.code for one in tables.alternatives if one.size >= 5),
        "paravirt": middle(code for code, size in tables.paravirt if size >= 5),
    }
    for vaddr in sites.values():
        image.jump(vaddr, near)
    lock = middle(tables.locks)
    image.write(lock, b"\x90")
    found = [row for row in checked(image) if row["WHAT"] == "text"]
    covered = {
        name
        for name, vaddr in {**sites, "lock": lock}.items()
        if any(row["ADDRESS"] <= vaddr < row["ADDRESS"] + 16 for row in found)
    }
    assert covered == {*sites, "lock"}


def test_text_that_the_page_tables_take_from_elsewhere_is_told(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    image = victim()
    layout, snapshot = image.bridge.layout, image.bridge.image
    place = layout.translate(snapshot, image.vaddr("_text"))
    assert place is not None
    # the entry that maps the first 2 MiB of the kernel, found in its own table
    entry = place.entry.to_bytes(8, "little")
    pmd = snapshot.read(
        image.bridge.layout.text_paddr + image.vaddr("level2_kernel_pgt") - image.vaddr("_text"), 4096
    )
    slot = pmd.find(entry)
    assert slot >= 0
    forged = place.entry + (2 << 20)
    image.set_word(image.vaddr("level2_kernel_pgt") + slot, forged)
    rows = checked(image)
    assert rows[0]["WHAT"] == "mapping"
    assert rows[0]["ADDRESS"] == image.vaddr("_text")
    assert any(row["WHAT"] == "text" for row in rows)


def test_of_a_ruined_kernel_no_row_is_left_out_and_a_table_has_one_line(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    image = victim()
    start = image.vaddr("do_exit")
    ruined = bytearray(image.read(start, 64 << 10))
    ruined[::16] = bytes(byte ^ 0xFF for byte in ruined[::16])
    image.write(start, bytes(ruined))
    rows = checked(image)
    planted = [start + at for at in range(0, len(ruined), 16)]
    assert len(rows) > 0.99 * len(planted)
    assert {row["WHAT"] for row in rows} == {"text"}
    lines = list(grouped(Row(tuple(row.values())) for row in rows))
    counts = [
        re.search(r" and (\d+) more in the kernel: see --format json", str(line.cells[3])) for line in lines
    ]
    assert len(lines) + sum(int(count[1]) for count in counts if count) == len(rows)
    assert len(lines) < 30


def test_pages_that_the_image_lacks_are_told(
    lab: Lab, victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    from samples.lime import write_lime

    image = victim()
    gone = image.offset(image.vaddr("__x64_sys_getdents64")) & -4096
    size = image.path.stat().st_size
    lime = image.path.with_suffix(".lime")
    write_lime(image.path, [(0, gone), (gone + 8192, size - gone - 8192)], lime)
    image.path = lime
    rows = checked(image)
    lime.unlink()
    (row,) = rows
    assert row["WHAT"] == "missing"
    assert isinstance(row["FOUND"], Unavailable)
    assert "2 pages" in row["FOUND"].reason


@pytest.mark.parametrize("name", EACH)
def test_what_other_processors_make_of_a_kernel_is_no_difference(
    lab: Lab, victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]], name: str
) -> None:
    """A return thunk is chosen by the processor; a constant list of options is cut at its commas."""
    from hybridbridge_vol.trust.linked_kernel import linked_kernel

    image = victim(name)
    image.set_word(image.vaddr("x86_return_thunk"), image.vaddr("srso_alias_return_thunk"))
    flat = linked_kernel(lab.session(name).bridge.kernel).flat
    options = image.vaddr("_text") + flat.index(b"!cmt,!mbm")
    image.write(options, image.read(options, 32).replace(b",", b"\0"))
    assert checked(image) == []
    image.set_word(image.vaddr("x86_return_thunk"), image.vaddr("commit_creds"))
    image.write(options, b"?")
    rows = {row["WHAT"]: row["SYMBOL"] for row in checked(image)}
    assert rows["data"] == "x86_return_thunk"
    assert "rodata" in rows


def test_calls_that_are_counted_are_no_difference_and_hide_none(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    """As `retbleed=stuff` leaves a kernel: an instruction before each function counts its calls."""
    from hybridbridge_vol.check.patch_tables import read_call_sites
    from hybridbridge_vol.trust.linked_kernel import linked_kernel

    image = victim("6.12")
    kernel = image.bridge.kernel
    text, end = image.vaddr("_text"), image.vaddr("_etext")
    template = image.vaddr("skl_call_thunk_template")
    counter = template + int.from_bytes(image.read(template + 4, 4), "little", signed=True)

    def count_before(function: int) -> int:
        place = function - 9
        image.write(
            place, image.read(template, 4) + (counter - place & 0xFFFFFFFF).to_bytes(4, "little") + b"\x05"
        )
        return place

    def call(site: int, to_vaddr: int) -> None:
        image.write(site, b"\xe8" + (to_vaddr - site - 5 & 0xFFFFFFFF).to_bytes(4, "little"))

    sites = [
        text + site
        for site in read_call_sites(linked_kernel(kernel).flat, kernel.symbols, kernel.text_link_vaddr)
    ]
    calls = [site for site in sites if site < end and image.read(site, 1) == b"\xe8"][1000:1200]
    leads = {
        site: site + 5 + int.from_bytes(image.read(site + 1, 4), "little", signed=True) for site in calls
    }
    counted = {site: to for site, to in leads.items() if image.read(to - 9, 9) == b"\x90" * 9}
    assert len(counted) > 100
    for site, function in counted.items():
        call(site, count_before(function))
    assert checked(image) == []
    first, *others = counted
    other = next(site for site in others if counted[site] != counted[first])
    call(first, counted[other] - 9)
    uncounted = image.vaddr("__x64_sys_getpid") - 9
    call(other, uncounted)
    rows = checked(image)
    assert {row["ADDRESS"] for row in rows} == {first, other}


@pytest.mark.parametrize("name", EACH)
def test_what_a_hypervisors_guest_gives_its_kernel_is_no_difference(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]], name: str
) -> None:
    """The clock, the first processor's start and the end of an interrupt, as under KVM."""
    image = victim(name)
    symbols = image.bridge.kernel.symbols

    def replace(structure: str, function: str, other: str) -> int:
        start = image.vaddr(structure)
        place = next(at for at in range(start, start + 512, 8) if image.word(at) == image.vaddr(function))
        image.set_word(place, image.vaddr(other))
        return place

    replace("smp_ops", "native_smp_prepare_boot_cpu", "kvm_smp_prepare_boot_cpu")
    end = next(
        name
        for name in ("native_apic_mem_eoi", "native_apic_mem_eoi_write", "native_apic_mem_write")
        if name in symbols
    )
    controller = replace("apic_physflat", end, "kvm_guest_apic_eoi_write")
    if "__SCK__pv_sched_clock" in symbols:
        image.set_word(image.vaddr("__SCK__pv_sched_clock"), image.vaddr("kvm_sched_clock_read"))
    assert [row for row in checked(image) if row["WHAT"] == "data"] == []
    image.set_word(controller, image.vaddr("commit_creds"))
    (row,) = [row for row in checked(image) if row["WHAT"] == "data"]
    assert row["SYMBOL"].startswith("apic_physflat")


def test_where_modules_cannot_be_listed_none_is_said_to_be_missing(lab: Lab) -> None:
    """In a truncated image each call of a module's function led to where no module was said to be listed."""
    bridge = lab.session("6.1 two CPUs").bridge
    vaddr = bridge.layout.modules.stop - PAGE_SIZE
    for modules, region in (([], "no module listed there"), (None, "modules are not known")):
        places = Places(bridge, modules, lambda _vaddr: None)
        assert places.describe(vaddr) == f"module area, {region}, not mapped"


def test_a_page_of_zeros_is_missing_and_no_change(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    """What a writer of images could not read it may leave empty."""
    image = victim()
    page = image.vaddr("sys_call_table") & -PAGE_SIZE
    image.write(page, bytes(PAGE_SIZE))
    (row,) = checked(image)
    assert (row["WHAT"], row["ADDRESS"]) == ("missing", page)
    assert row["FOUND"] == Unavailable("1 pages are zeros and cannot be checked")
