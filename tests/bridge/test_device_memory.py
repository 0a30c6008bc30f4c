"""Registers of devices: no image has them, and they are answered for only where somebody says so."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from disks import DISKS
from generations import Lab
from small_snapshot import ABSENT, REGISTERS, REGISTERS_PADDR, SmallSnapshot, SmallSpace
from unicorn import UC_ARCH_X86, UC_MODE_64, Uc, x86_const

from hybridbridge_vol.bridge.physical_map import DEVICES_PADDR
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.guest.values import MissingRecords
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.nodes import Nodes
from hybridbridge_vol.units import PAGE_SIZE

BY_REGISTER = "/sys/block/vda/cache_type"
"""virtio_blk's driver reads it from its device: drivers/block/virtio_blk.c, `virtblk_get_cache_mode`."""
RAM = (range(1 << 30),)
_REASON = "memory of a device, which no image has"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallSpace]:
    snapshot = SmallSnapshot(tmp_path / "image")
    yield SmallSpace(snapshot)
    snapshot.close()


def test_a_register_is_not_mapped_and_the_reason_names_it(small: SmallSpace) -> None:
    assert not small.space.complete(REGISTERS)
    assert small.space.devices.refused == REGISTERS_PADDR
    assert small.snapshot.memory.why_unreadable(REGISTERS) == _REASON


def test_missing_memory_is_no_device(small: SmallSpace) -> None:
    small.space.devices.answer(RAM)
    assert not small.space.complete(ABSENT)
    assert small.space.devices.refused is None
    assert small.snapshot.memory.why_unreadable(ABSENT) != _REASON


def test_uncached_memory_that_the_image_lacks_is_no_device(small: SmallSpace) -> None:
    small.space.devices.answer((range(REGISTERS_PADDR, REGISTERS_PADDR + PAGE_SIZE),))
    assert not small.space.complete(REGISTERS)


def test_registers_are_mapped_until_they_are_refused(small: SmallSpace) -> None:
    small.space.devices.answer(RAM)
    assert small.space.complete(REGISTERS + 8)
    place = small.space.builder.translate(REGISTERS + 8)
    assert place is not None and place.paddr == DEVICES_PADDR + 8
    small.space.refuse_devices()
    assert small.space.builder.translate(REGISTERS) is None
    assert not small.space.complete(REGISTERS)


def test_what_is_written_to_a_register_is_lost(small: SmallSpace) -> None:
    code = bytes.fromhex("8907 8b07")  # mov [rdi], eax; mov eax, [rdi]
    emulator = Uc(UC_ARCH_X86, UC_MODE_64)
    emulator.mem_map(0, PAGE_SIZE)
    small.space.devices.show(emulator)
    emulator.mem_write(0, code)
    emulator.reg_write(x86_const.UC_X86_REG_RDI, DEVICES_PADDR + 0x10)
    emulator.reg_write(x86_const.UC_X86_REG_RAX, 0x1234)
    emulator.emu_start(0, len(code))
    assert emulator.reg_read(x86_const.UC_X86_REG_RAX) == 0


# --- a real driver -----------------------------------------------------------------------------------------


@pytest.fixture(params=[Mode.AUTO, Mode.SLOW])
def session(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Session]:
    name = next(name for name in DISKS if name.startswith("6.1 "))
    with open_session(lab.sample(name).dump, lab.store.root, mode=request.param) as own:
        yield own


def test_a_driver_is_answered_with_zeros_only_while_somebody_wants_that(session: Session) -> None:
    assert not session.devices.answer()  # no call was rolled back
    with pytest.raises(CallRolledBack, match=_REASON):
        session.files.read(BY_REGISTER)
    assert session.statistics.by_call["read"].calls < 8  # no record is looked for behind its only one
    assert session.devices.answer()
    assert session.files.read(BY_REGISTER) == b"write through\n"  # a register of zeros
    session.devices.refuse()
    with pytest.raises(CallRolledBack, match=_REASON):
        session.files.read(BY_REGISTER)


def test_a_program_is_told_what_its_answer_rests_on(session: Session) -> None:
    answers = Answers(session, Nodes())
    assert answers.with_devices(partial(session.files.read, BY_REGISTER)) == b"write through\n"
    assert list(answers.failures) == ["registers of devices"]


def test_a_list_of_which_some_records_need_a_register_is_read_again(session: Session) -> None:
    with pytest.raises(CallRolledBack, match=_REASON):
        session.files.read(BY_REGISTER)
    missing = [MissingRecords("/proc/net/dev", b"lo", _REASON, [2])]

    def ask() -> bytes:
        if missing:
            raise missing.pop()
        return b"lo, eth0"

    assert Answers(session, Nodes()).with_devices(ask) == b"lo, eth0"


def test_a_file_that_is_a_register_is_an_error_for_a_program(session: Session) -> None:
    answers = Answers(session, Nodes())
    with pytest.raises(OSError, match="rolled back"):
        answers.node(BY_REGISTER)
    assert [reason for reason in answers.failures.values() if _REASON in reason]
