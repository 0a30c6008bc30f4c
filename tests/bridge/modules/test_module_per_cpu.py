"""Per-CPU variables of a module's own: the snapshot's, of its first CPU, for reading and (privately)
writing."""

from __future__ import annotations

import struct

import pytest
from generations import Lab, trust
from guest_modules import code_of, function
from sessions import session_with

from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.bridge.text.per_cpu_references import gs_fields
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.machine.cpu import GS_BASE_MSR
from samples.make import Spec, make_sample

MODULE, VARIABLE, FUNCTION = "nft_ct", "nft_ct_pcpu_template", "nft_ct_set_zone_eval"
"""A conntrack entry kept for each CPU, and what takes it: `ct = this_cpu_read(nft_ct_pcpu_template)`."""
EXPRESSION, REGISTERS, PACKET, BUFFER, ENTRY, END = range(0, 0x6000, 0x1000)
"""Where in user memory a call's arguments are put."""
U64 = (1 << 64) - 1


def linked(session: Session, name: str) -> int:
    """The address of a per-CPU variable of a module's in the guest's kallsyms."""
    lines = (line.split() for line in session.files.read("/proc/kallsyms").decode().splitlines())
    (vaddr,) = (int(words[0], 16) for words in lines if words[2] == name)
    return vaddr


def blocks(session: Session, vaddr: int) -> list[int]:
    """Where each CPU of the snapshot has the variable of that address, by its `__per_cpu_offset`."""
    bridge = session.bridge
    count = len(session.files.read("/proc/stat").split(b"\ncpu")) - 1
    offsets = (bridge.machine.read_u64(bridge.snapshot("__per_cpu_offset") + 8 * cpu) for cpu in range(count))
    return [vaddr + offset & U64 for offset in offsets]


def reached(session: Session, module: str) -> set[int]:
    """Virtual addresses that `%gs:` references of a module's code to its own variables lead to."""
    text, gs = code_of(session, module).segment, session.bridge.machine.read_msr(GS_BASE_MSR)
    found = set()
    for offset, relative in gs_fields(text.content):
        if offset in text.per_cpu and relative:
            (value,) = struct.unpack_from("<i", text.content, offset)
            found.add(gs + text.vaddr + offset + 4 + value & U64)
    return found


def paddr(session: Session, vaddr: int) -> int:
    """Where the bridge has a virtual address, after it was asked to map it."""
    bridge = session.bridge
    assert bridge.machine.translate(vaddr) is not None or bridge.space.complete(vaddr)
    translation = bridge.machine.translate(vaddr)
    assert translation is not None
    return translation.paddr


def taken(session: Session, vaddr: int) -> tuple[bytes, bytes]:
    """Let the function take what the first CPU's variable holds, an entry that counts one user: the entry,
    and the packet's buffer, afterwards."""
    caller = session.caller
    user = caller.put(bytes(END))
    caller.put(struct.pack("<Q", user + BUFFER), PACKET)
    caller.put(struct.pack("<I", 1), ENTRY)
    session.bridge.machine.write_u64(blocks(session, vaddr)[0], user + ENTRY)
    caller.call(function(session, MODULE, FUNCTION), user + EXPRESSION, user + REGISTERS, user + PACKET)
    return caller.get(ENTRY, 256), caller.get(BUFFER, 512).replace(
        struct.pack("<Q", user + ENTRY | 2), b"taken"
    )


def check(session: Session, variable: int) -> None:
    """The variable that a reference of the module's reaches is the one the function takes its entry from."""
    (vaddr,) = reached(session, MODULE)
    first, *others = blocks(session, variable)
    assert paddr(session, vaddr) == paddr(session, first)
    assert paddr(session, vaddr) not in [paddr(session, other) for other in others]
    entry, packet = taken(session, variable)
    assert entry[:4] == struct.pack("<I", 2)
    assert b"taken" in packet


def test_a_modules_own_variable_is_the_snapshots_of_its_first_cpu(lab: Lab, rich_generation: str) -> None:
    session = lab.session(rich_generation)
    variable = linked(session, VARIABLE)
    before = session.bridge.machine.read_u64(blocks(session, variable)[0])
    try:
        check(session, variable)
    finally:
        session.caller.roll_back()
    assert session.bridge.machine.read_u64(blocks(session, variable)[0]) == before == 0
    with pytest.raises(CallRolledBack, match=rf"page fault in module {MODULE} {FUNCTION}\+0x\w+ at 0x0$"):
        user = session.caller.put(bytes(END))
        session.caller.put(struct.pack("<Q", user + BUFFER), PACKET)
        session.caller.call(function(session, MODULE, FUNCTION), user, user + REGISTERS, user + PACKET)


def test_under_taint_such_a_reference_is_a_static_reference_into_the_snapshot(lab: Lab) -> None:
    variable = linked(lab.session("6.12"), VARIABLE)  # 100,000 lines, under taint a minute or more
    with session_with(lab, "6.12", Mode.SLOW) as session:
        check(session, variable)
        assert session.statistics.unattributed == {}
        assert session.statistics.unknown_instructions == {}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.SLOW])
def test_where_per_cpu_variables_have_addresses_of_the_kernel_image(lab: Lab, mode: Mode) -> None:
    sample = make_sample(Spec("7-cloud", seed=24, cpus=2))
    trust(lab.store, sample)
    with open_session(sample.dump, lab.store.root) as session:
        variable = linked(session, VARIABLE)
    with open_session(sample.dump, lab.store.root, mode=mode) as session:
        check(session, variable)
        assert session.statistics.unattributed == {}
