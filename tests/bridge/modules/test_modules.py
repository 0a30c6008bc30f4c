"""Code of the snapshot's modules: from trusted files, where the snapshot has them, under the same proof."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from generations import Lab, trust
from guest_modules import code_of, function, loaded
from sessions import session_with
from store_copies import link

from hybridbridge_vol.bridge.modules.relocated_module import TrustedSegment
from hybridbridge_vol.bridge.modules.traps import FixUp
from hybridbridge_vol.bridge.physical_map import TWIN_PADDR
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.bridge.text.per_cpu_references import gs_fields
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.guest.values import MissingRecords
from hybridbridge_vol.machine.cpu import GS_BASE_MSR
from hybridbridge_vol.trust.modules import ARCHIVE, load
from hybridbridge_vol.units import PAGE_SIZE
from samples.make import Spec, make_sample

OF_MODULES = "/proc/net/dev"
"""A file that is written by network drivers, which are modules in these guests."""
FIRST_MODULE = 8 << 20
"""Bytes: with KASLR Linux leaves out up to 4 MiB at the area's beginning (get_module_load_offset), and it may
have compiled some BPF there before."""


def test_every_module_of_the_guest_is_found_and_its_file_is_what_the_guest_runs(
    lab: Lab, generation: str
) -> None:
    """But for what the loader patches: alternatives, static branches, calls of the tracer."""
    session = lab.session(generation)
    modules = session.bridge.space.modules
    equal = total = with_constants = 0
    for name, text_vaddr in loaded(session):
        trusted = modules.at(text_vaddr)
        assert trusted is not None, name
        assert (trusted.module.name, trusted.segment.vaddr, trusted.executable) == (name, text_vaddr, True)
        there = modules.read(text_vaddr, len(trusted.segment.content))
        size = trusted.module.file.text_layout()[1]
        same = sum(
            mine == theirs for mine, theirs in zip(trusted.segment.content[:size], there, strict=False)
        )
        assert same / size > 0.7, name
        equal, total = equal + same, total + size
        if trusted.module.rodata is None:
            continue  # nothing in it is referred to
        constants = modules.read(trusted.module.rodata.vaddr, PAGE_SIZE)
        _layout, length = trusted.module.file.rodata_layout()
        length = min(length, PAGE_SIZE)
        alike = sum(
            mine == theirs
            for mine, theirs in zip(trusted.module.rodata.content[:length], constants, strict=False)
        )
        assert alike / length > 0.6, name  # init code, which is gone, lies elsewhere
        with_constants += 1
    assert equal / total > 0.9
    assert with_constants > len(loaded(session)) / 4


def test_the_area_for_modules_is_the_one_that_the_guest_had_them_in(lab: Lab, generation: str) -> None:
    lines = lab.sample(generation).truth.file("/proc/modules").decode().splitlines()
    vaddrs = [int(line.split()[5], 16) for line in lines]
    area = lab.session(generation).bridge.layout.modules
    assert area.start == 0xFFFF_FFFF_C000_0000  # Debian's kernels have CONFIG_RANDOMIZE_BASE
    assert vaddrs and all(vaddr in area for vaddr in vaddrs)
    assert min(vaddrs) - area.start < FIRST_MODULE


def test_the_trusted_kernel_has_nothing_where_modules_may_lie(lab: Lab, generation: str) -> None:
    """It has compiled filters there when it boots, and since 6.19 Linux may put a module before its own."""
    with session_with(lab, generation, Mode.AUTO) as session:
        start = session.bridge.layout.modules.start
        places = [
            session.bridge.machine.translate(page) for page in range(start, start + (8 << 20), PAGE_SIZE)
        ]
    assert all(place is None or place.paddr >= TWIN_PADDR for place in places)


def test_files_that_modules_write_are_the_guests(lab: Lab, generation: str) -> None:
    truth, session = lab.sample(generation).truth, lab.session(generation)
    lines = session.files.read(OF_MODULES).splitlines()
    assert [line.split(b":")[0] for line in lines] == [
        line.split(b":")[0] for line in truth.file(OF_MODULES).splitlines()
    ]
    for path in ("/proc/net/nf_conntrack", "/proc/net/vlan/config"):
        if path in truth.late and not truth.late[path].errno and not truth.moved(path):
            assert session.files.read(path) == truth.file(path)


def test_modules_give_the_same_answers_on_every_bridge_and_are_memoized(lab: Lab, generation: str) -> None:
    with session_with(lab, generation, Mode.SLOW) as slow:
        proven = slow.files.read(OF_MODULES)
        memo = slow.bridge.memo
        assert slow.statistics.unattributed == {}
        assert slow.statistics.unknown_instructions == {}
    assert any(len(proven) for proven in memo.modules.values())
    with session_with(lab, generation, Mode.FAST, memo) as fast:
        assert fast.files.read(OF_MODULES) == proven
    with session_with(lab, generation, Mode.AUTO) as learning:
        assert learning.files.read(OF_MODULES) == proven
        assert (
            any("module " in place for place in learning.statistics.trapped_in)
            or learning.statistics.total.traps
        )


def test_a_module_without_a_trusted_file_is_named_and_not_run(lab: Lab, tmp_path: Path) -> None:
    sample = lab.sample("6.1 two CPUs")
    store, kernel = tmp_path / "store", lab.kernel("6.1 two CPUs")
    link(kernel, store, ARCHIVE)
    with open_session(sample.dump, store) as session:
        with pytest.raises(
            MissingRecords, match=r"needs code of module \w+, of which no trusted file is stored"
        ) as raised:
            session.files.read(OF_MODULES)
        assert b" lo:" in raised.value.partial  # which needs no module
        assert session.files.read("/proc/1/comm") == sample.truth.file("/proc/1/comm")


def test_code_of_a_module_that_the_image_changed_is_not_run(lab: Lab, tmp_path: Path) -> None:
    """The trusted file's code runs, whatever the image has there."""
    sample = lab.sample("6.1 two CPUs")
    session = lab.session("6.1 two CPUs")
    expected = session.files.read(OF_MODULES)
    bridge = session.bridge
    image = tmp_path / "dump.raw"
    shutil.copyfile(sample.raw, image)
    with open(image, "r+b") as stream:
        for trusted in list(bridge.space.modules.segments):
            if not trusted.executable:
                continue
            for symbol in trusted.module.file.symbols():
                if "stats" in symbol.name and symbol.size > 16 and symbol.section in trusted.module.sections:
                    vaddr = trusted.module.sections[symbol.section] + symbol.value
                    translation = bridge.layout.translate(bridge.image, vaddr)
                    if vaddr in trusted.vaddrs and translation is not None:
                        stream.seek(bridge.image.offset_of(translation.paddr) or 0)
                        stream.write(b"\x31\xc0\xc3")  # xor eax, eax; ret
    with open_session(image, lab.store.root) as changed:
        assert changed.files.read(OF_MODULES) == expected


def test_code_is_found_behind_a_page_that_another_module_still_names(lab: Lab, tmp_path: Path) -> None:
    """`struct module` keeps the address of the function that began the module: its memory was freed then, and
    a module that was loaded later may lie there (as xfs did, in the way of everybody's mounts)."""
    sample = lab.sample("6.1 two CPUs")
    with open_session(sample.dump, lab.store.root) as session:  # one that has used no other modules
        expected = session.files.read(OF_MODULES)
        change, large, other = leave_stale_page(session)
    image = tmp_path / "dump.raw"
    shutil.copyfile(sample.raw, image)
    with open(image, "r+b") as stream:
        stream.seek(change[0])
        stream.write(change[1])
    with open_session(image, lab.store.root) as changed:
        modules = changed.bridge.space.modules
        assert modules.listed.names_at(large.vaddrs.stop - 1) == [other]
        assert modules.name_at(large.vaddrs.stop - 1) == large.module.name
        found = modules.at(large.vaddrs.stop - 1)
        assert found is not None and found.module.name == large.module.name
        assert changed.files.read(OF_MODULES) == expected


def leave_stale_page(session: Session) -> tuple[tuple[int, bytes], TrustedSegment, str]:
    """What to change, at which offset of the image, so that a module that nobody uses names a page in the
    middle of the largest one in use; these two."""
    bridge, listed = session.bridge, session.bridge.space.modules.listed
    used = {trusted.module.name: trusted for trusted in bridge.space.modules.segments if trusted.executable}
    other, (struct_vaddr, pages) = next(item for item in listed.structs.items() if item[0] not in used)
    record = bridge.space.modules.read(struct_vaddr, 1 << 10)
    name_at = record.index(other.encode()) + 64
    free = next(at for at in range(name_at - name_at % 8, len(record), 8) if record[at : at + 8] == bytes(8))
    large = max(used.values(), key=lambda trusted: len(trusted.vaddrs))
    assert len(large.vaddrs) > PAGE_SIZE and pages
    translation = bridge.layout.translate(bridge.image, struct_vaddr + free)
    assert translation is not None
    offset = bridge.image.offset_of(translation.paddr) or 0
    return (offset, (large.vaddrs.start + PAGE_SIZE).to_bytes(8, "little")), large, other


def per_cpu_targets(session: Session, module: str) -> dict[str, int]:
    """What the last `%gs:` reference of a module's code to each variable of the kernel's names."""
    text = code_of(session, module).segment
    found = {}
    for offset, relative in gs_fields(text.content):
        reference = text.references.get(offset)
        if reference is not None and relative:
            value = int.from_bytes(text.content[offset : offset + 4], "little", signed=True)
            found[reference.name] = text.vaddr + offset - reference.addend + value
    return found


def test_a_warning_of_a_module_does_not_end_the_call(lab: Lab, rich_generation: str) -> None:
    session = lab.session(rich_generation)
    assert any(
        vaddr in code_of(session, "bridge").module.warnings for vaddr in code_of(session, "bridge").vaddrs
    )
    no_such_option = 99
    answer = session.caller.call(function(session, "bridge", "br_boolopt_get"), 0, no_such_option)
    assert answer & 0xFFFFFFFF == 0  # WARN_ON(1); break; } return 0


def test_after_a_fault_with_a_fix_up_a_call_goes_on_at_the_fix_up(lab: Lab, rich_generation: str) -> None:
    """As for an inline get_user(): the loaded modules have no such code that a call could be made of, so an
    entry is added, of an instruction that follows its first argument, with the function's own WARN-free `ret`
    as the fix-up."""
    session = lab.session(rich_generation)
    trusted = code_of(session, "bridge")
    entry = function(session, "bridge", "br_boolopt_get")
    with pytest.raises(CallRolledBack, match=r"page fault in module bridge br_boolopt_get") as rolled_back:
        session.caller.call(entry, 0x1000, 0)
    place = entry + int(rolled_back.value.reason.split("br_boolopt_get+")[1].split()[0], 16)
    code = trusted.segment.content[entry - trusted.segment.vaddr :][:256]
    back = entry + code.index(b"\xc3" if b"\xc3" in code else b"\xe9")
    trusted.module.fix_ups[place] = FixUp(back, "RAX", -14 & (1 << 64) - 1)
    try:
        assert session.caller.call(entry, 0x1000, 0) == -14
    finally:
        del trusted.module.fix_ups[place]


def test_the_kernels_per_cpu_variables_in_a_modules_code_are_the_trusted_kernels(lab: Lab) -> None:
    """Since 6.15 they have addresses of the kernel image. But for the distance to the CPU's area."""
    session = lab.session("7.x")
    bridge, machine = session.bridge, session.bridge.machine
    gs = machine.read_msr(GS_BASE_MSR)
    targets = per_cpu_targets(session, "dummy")
    assert targets["__ref_stack_chk_guard"] == bridge.home("__stack_chk_guard")
    assert bridge.space.complete(gs + targets["this_cpu_off"] & (1 << 64) - 1)
    offset = machine.read_u64(gs + targets["this_cpu_off"] & (1 << 64) - 1)
    assert offset == machine.read_u64(
        bridge.snapshot("__per_cpu_offset")
    )  # what it is added to are the snapshot's pointers
    device = session.caller.put(bytes(16384))
    with pytest.raises(
        CallRolledBack, match="page fault in twin dev_addr_check"
    ):  # far behind the first such reference
        session.caller.call(function(session, "dummy", "dummy_setup"), device)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.SLOW])
def test_functions_of_modules_with_a_stack_protector_run(lab: Lab, mode: Mode) -> None:
    """In 7.x its guard is a per-CPU variable: many files of network modules are written by such functions."""
    sample = make_sample(Spec("7-cloud", seed=24, cpus=2))
    trust(lab.store, sample)
    with open_session(sample.dump, lab.store.root, mode=mode) as session:
        for path in (OF_MODULES, "/proc/net/vlan/config"):
            assert session.files.read(path).splitlines()[0] == sample.truth.file(path).splitlines()[0]
            assert sample.truth.moved(path) or session.files.read(path) == sample.truth.file(path)
        assert session.statistics.unattributed == {}
        assert session.statistics.unknown_instructions == {}


@pytest.mark.parametrize("name", ["5.10 nokaslr", "6.12"])
def test_code_runs_whose_module_needs_one_that_has_left_the_list(lab: Lab, name: str) -> None:
    with open_session(lab.sample(name).dump, lab.store.root) as session:
        modules, folder = session.bridge.space.modules, session.bridge.kernel.folder
        needs = {
            one: [other for other in file.facts().get("depends", "").replace("-", "_").split(",") if other]
            for one in modules.listed.structs
            if (file := load(folder, one)) is not None
        }
        user, others = next((one, others) for one, others in needs.items() if others)
        for other in others:
            modules.listed.structs.pop(other, None)
        location = modules.locate(user)
        assert location is not None
        assert modules.at(location.text_vaddr) is not None
