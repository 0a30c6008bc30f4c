"""What lies at an address that every author of an image knows: nothing of the trusted side's."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hybridbridge_vol.bridge import cpu_entry_area
from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR
from hybridbridge_vol.bridge.run.user_memory import LOG_AT, USER_SIZE, USER_VADDR
from hybridbridge_vol.bridge.text.copy_log import HEADER_ROOM, LOG_VADDR
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.machine.exceptions import GATE_SIZE
from hybridbridge_vol.machine.paging import ENTRIES, LARGE, PAGE_SHIFT, PRESENT, TOP_SHIFT

Lab = Any
FRAME = 0x000F_FFFF_FFFF_F000


def mapped(session: Session) -> list[tuple[int, int]]:
    """The first virtual address and the physical one of all that is mapped, by pages of any size."""
    machine = session.bridge.machine
    found = []

    def walk(table: int, shift: int, vaddr: int) -> None:
        for number in range(ENTRIES):
            entry = machine.memory.read_u64(table + 8 * number)
            place = vaddr | number << shift
            if not entry & PRESENT:
                continue
            if shift == PAGE_SHIFT or (entry & LARGE and shift < 39):
                found.append((place | (0xFFFF << 48 if place >> 47 else 0), entry & FRAME))
            else:
                walk(entry & FRAME, shift - 9, place)

    walk(machine.read_register("CR3") & FRAME, TOP_SHIFT[4], 0)
    return found


def test_the_trusted_side_is_mapped_at_secret_addresses_only(lab: Lab) -> None:
    with open_session(lab.sample("6.12").dump, lab.store.root) as session:
        layout, sides = session.bridge.boot.layout, session.bridge.sides
        image = range(sides.home_text_vaddr, sides.home_text_vaddr + sides.size + (4 << 20))
        twin = range(sides.twin_text_vaddr, sides.twin_text_vaddr + sides.size)
        user = range(USER_VADDR, USER_VADDR + USER_SIZE)
        known = [
            vaddr for vaddr, paddr in mapped(session)
            if paddr < SNAPSHOT_PADDR and vaddr not in layout and vaddr not in image
            and vaddr not in twin and vaddr not in user
        ]  # fmt: skip
    assert known == [LOG_VADDR]  # the switch of the log of copies, a page of zeros


def test_the_page_of_the_log_that_has_a_known_address_holds_no_record(lab: Lab) -> None:
    with open_session(lab.sample("6.12").dump, lab.store.root) as session:
        assert session.files.read("/proc/1/stat").startswith(b"1 (")
        assert session.bridge.machine.read(LOG_VADDR, HEADER_ROOM) == bytes(HEADER_ROOM)
        assert session.caller.get(LOG_AT, HEADER_ROOM) == bytes(HEADER_ROOM)


@pytest.mark.parametrize("vaddr", [cpu_entry_area.START, 0x1000_0000, 0x2000_0000], ids=hex)
def test_nothing_is_read_at_addresses_that_kernels_and_former_versions_have_in_common(
    lab: Lab, vaddr: int
) -> None:
    with open_session(lab.sample("6.12").dump, lab.store.root) as session:
        assert session.bridge.machine.translate(vaddr) is None


def test_exceptions_are_delivered_through_the_moved_tables(lab: Lab) -> None:
    with open_session(lab.sample("6.12").dump, lab.store.root) as session:
        machine = session.bridge.machine
        gates = machine.table_base("IDTR")
        assert gates in session.bridge.boot.layout
        assert any(machine.read(gates + 14 * GATE_SIZE, GATE_SIZE))
        before = machine.exceptions_delivered
        read = session.bridge.home("copy_from_kernel_nofault")
        absent = session.bridge.boot.layout.guard_hole.start + (1 << 20)
        target = session.caller.put_words(0)
        assert session.caller.call(read, target, absent, 8) < 0  # EFAULT, by the exception table
        assert machine.exceptions_delivered > before


def test_each_process_draws_other_addresses() -> None:
    ask = "from hybridbridge_vol.bridge.run.user_memory import USER_VADDR; print(USER_VADDR)"
    assert len({subprocess.check_output([sys.executable, "-c", ask]) for _ in range(3)}) > 1
