"""Registers in cores: of every thread all that the kernel keeps, in the form of its program, 64 or 32 bits
wide."""

from __future__ import annotations

import io
import mmap
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from live_kernel import LiveKernel, LiveThreads

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.physical_map import SNAPSHOT_PADDR
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.guest.values import Registers, RegisterSet
from hybridbridge_vol.toolkit.tool import Raw
from hybridbridge_vol.tools.memdump import Memdump
from hybridbridge_vol.tools.process import elf_core
from hybridbridge_vol.tools.process.elf_core import I386, NT_PRFPREG, NT_PRSTATUS, X86_64, Identity, Segment

Lab = Any

NT_X86_XSTATE, NT_PRXFPREG = 0x202, 0x46E62B7F
CS_OF_32_BITS = 0x23  # __USER32_CS, arch/x86/include/asm/segment.h
RIP, CS, FLAGS, RSP, SS = range(16, 21)  # in struct user_regs_struct
XMM = slice(160, 416)  # in what FXSAVE stores, SDM volume 1, 10.5.1
DEFAULT_CONTROL, DEFAULT_MXCSR = 0x37F, 0x1F80


def core_of(kernel: GuestKernel, pid: int) -> bytes:
    """The core that memdump writes."""
    tool = tools.load("memdump")
    assert isinstance(tool, Raw)
    options = Memdump.defaults() | {"pid": pid}
    return b"".join(piece for piece in tool.raw(kernel, options) if isinstance(piece, bytes))


def memory_in(core: bytes) -> bytes:
    """What follows headers and notes."""
    segments = ELFFile(io.BytesIO(core)).iter_segments()
    loaded = (segment for segment in segments if segment["p_type"] == "PT_LOAD" and segment["p_filesz"] > 0)
    return core[min(segment["p_offset"] for segment in loaded) :]


def notes_of(core: bytes) -> list[tuple[str, Any]]:
    """`(owner, type)` of each note, as pyelftools reads them."""
    (notes,) = (
        segment for segment in ELFFile(io.BytesIO(core)).iter_segments() if segment["p_type"] == "PT_NOTE"
    )
    return [(note["n_name"], note["n_type"]) for note in notes.iter_notes()]


def asleep(session: Session, pids: list[int]) -> dict[int, Registers]:
    """Registers of the processes that have all of theirs in memory."""
    found = {pid: session.threads.registers(pid) for pid in pids}
    return {
        pid: registers
        for pid, registers in found.items()
        if registers is not None and len(registers.sets) > 1
    }


def test_floating_point_and_vector_registers_are_those_that_the_kernel_saved(
    lab: Lab, rich_generation: str
) -> None:
    truth, session = lab.sample(rich_generation).truth, lab.session(rich_generation)
    pids = [
        pid for pid in truth.processes[:-1] if truth.file(f"/proc/{pid}/maps")
    ]  # the last one was the observer
    found = asleep(session, pids)
    assert len(found) > 20
    used = 0
    for pid, registers in found.items():
        sets = dict(registers.sets)
        floating, extended = sets[NT_PRFPREG], sets[NT_X86_XSTATE]
        assert len(floating) == 512
        assert struct.unpack_from("<H", floating) == (DEFAULT_CONTROL,)
        assert struct.unpack_from("<I", floating, 24) == (DEFAULT_MXCSR,)
        assert extended[XMM] == floating[XMM]
        words = {floating[start : start + 16].strip(b"\0") for start in range(XMM.start, XMM.stop, 16)}
        memory = None
        for word in words:
            if len(word) >= 12:  # what was copied by way of them is in memory
                memory = memory_in(core_of(session, pid)) if memory is None else memory
                used += word in memory
    assert used > 0


def test_a_thread_that_was_running_has_its_general_registers_only(lab: Lab, generation: str) -> None:
    session = lab.session(generation)
    running = [one.tid for one in session.cpus.running() if one.tid]
    assert running
    for tid in running:
        registers = session.threads.registers(tid)
        assert registers is not None
        assert [found.kind for found in registers.sets] == [NT_PRSTATUS]


def test_the_notes_of_a_thread_follow_its_status(lab: Lab, generation: str) -> None:
    notes = notes_of(core_of(lab.session(generation), 1))
    assert notes[:2] == [("CORE", "NT_PRSTATUS"), ("CORE", "NT_PRPSINFO")]
    assert ("LINUX", "NT_X86_XSTATE") in [
        (owner, kind if kind != NT_X86_XSTATE else "NT_X86_XSTATE") for owner, kind in notes
    ]
    assert ("CORE", NT_PRFPREG) in notes or ("CORE", "NT_FPREGSET") in notes


def test_a_thread_in_32_bit_mode_has_the_registers_of_an_i386(lab: Lab, rich_generation: str) -> None:
    """The guests run no 32-bit program: one of their threads is made one, by the segment that its code is
    in."""
    sample, session = lab.sample(rich_generation), lab.session(rich_generation)
    before = session.threads.registers(1)
    assert before is not None and before.machine == X86_64.machine
    words = struct.unpack("<27Q", before.general)
    frame = struct.pack("<5Q", *(words[number] for number in (RIP, CS, FLAGS, RSP, SS)))
    with open(sample.raw, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        places = [found.start() for found in re.finditer(re.escape(frame), memory)]
    assert places
    try:
        for place in places:
            session.bridge.machine.memory.write(SNAPSHOT_PADDR + place + 8, struct.pack("<Q", CS_OF_32_BITS))
        registers = session.threads.registers(1)
    finally:
        session.caller.roll_back()
    assert registers is not None and registers.machine == I386.machine
    general = struct.unpack("<17I", registers.general)
    assert (general[12], general[13], general[15]) == (
        words[RIP] & 0xFFFFFFFF,
        CS_OF_32_BITS,
        words[RSP] & 0xFFFFFFFF,
    )
    assert len(dict(registers.sets)[NT_PRFPREG]) == 108  # struct user_i387_ia32_struct
    assert len(dict(registers.sets)[NT_PRXFPREG]) == 512
    after = session.threads.registers(1)
    assert after is not None and (after.machine, after.general) == (before.machine, before.general)


class NarrowThreads(LiveThreads):
    """Registers of this machine's threads, as far as /proc/PID/syscall shows them: where a thread is."""

    def registers(self, tid: int) -> Registers | None:
        *_arguments, sp, pc = (int(word, 16) for word in Path(f"/proc/{tid}/syscall").read_text().split()[1:])
        general = [0] * 17
        general[12], general[15] = pc, sp
        sets = (
            RegisterSet(NT_PRSTATUS, struct.pack("<17I", *general)),
            RegisterSet(NT_PRFPREG, bytes(range(108))),
        )
        return Registers(I386.machine, sets)


class NarrowKernel(LiveKernel):
    """This machine's kernel, which is asked for registers by other means."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = NarrowThreads()


@contextmanager
def narrow_process(folder: Path) -> Iterator[int]:
    """A 32-bit program that waits, in pause(2)."""
    code, base = bytes.fromhex("b81d000000cd80ebf7"), 0x08048000
    size = 84 + len(code)
    program = struct.pack(
        "<16sHHIIIIIHHHHHH8I", b"\x7fELF\1\1\1", 2, I386.machine, 1, base + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0,
        1, 0, base, base, size, size, 5, 4096,
    )  # fmt: skip
    path = folder / "narrow"
    path.write_bytes(program + code)
    path.chmod(0o755)
    try:
        process = subprocess.Popen([path])
    except OSError:
        pytest.skip("this machine runs no 32-bit programs")
    try:
        time.sleep(0.2)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_a_32_bit_program_has_a_32_bit_core(tmp_path: Path) -> None:
    with narrow_process(tmp_path) as pid:
        kernel = NarrowKernel()
        registers = kernel.threads.registers(pid)
        assert registers is not None
        core = core_of(kernel, pid)
    elf = ELFFile(io.BytesIO(core))
    assert (elf.elfclass, elf["e_machine"], elf["e_type"]) == (32, "EM_386", "ET_CORE")
    (text,) = (s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_vaddr"] == 0x08048000)
    assert text.data()[84:93] == bytes.fromhex("b81d000000cd80ebf7")
    (notes,) = (s for s in elf.iter_segments() if s["p_type"] == "PT_NOTE")
    by_type = {note["n_type"]: note for note in notes.iter_notes()}
    status = bytes(by_type["NT_PRSTATUS"]["n_descdata"])
    assert (len(status), struct.unpack_from("<i", status, 24)[0], status[72:140], status[140]) == (
        144,
        pid,
        registers.general,
        1,
    )
    assert by_type["NT_PRPSINFO"]["n_desc"]["pr_pid"] == pid
    assert by_type["NT_PRPSINFO"]["n_desc"]["pr_fname"].rstrip(b"\0") == b"narrow"
    (file,) = by_type["NT_FILE"]["n_desc"]["filename"]
    assert file.decode() == str(tmp_path / "narrow")


@pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")
def test_gdb_reads_the_registers_of_both(lab: Lab, tmp_path: Path) -> None:
    def error_text(core: bytes, names: str) -> dict[str, str]:
        path = tmp_path / "core"
        path.write_bytes(core)
        command = ["gdb", "-batch", "-nx", "-ex", f"info registers {names}", "-c", str(path)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
        return {
            words[0]: words[1] for line in answer.splitlines() if len(words := line.split(maxsplit=2)) > 1
        }

    session = lab.session("6.1 two CPUs")
    registers = session.threads.registers(1)
    assert registers is not None
    words = struct.unpack("<27Q", registers.general)
    said = error_text(core_of(session, 1), "rip rsp mxcsr fctrl")
    assert (int(said["rip"], 16), int(said["rsp"], 16)) == (words[RIP], words[RSP])
    assert (int(said["mxcsr"], 16), int(said["fctrl"], 16)) == (DEFAULT_MXCSR, DEFAULT_CONTROL)
    with narrow_process(tmp_path) as pid:
        kernel = NarrowKernel()
        narrow = kernel.threads.registers(pid)
        assert narrow is not None
        said = error_text(core_of(kernel, pid), "eip esp")
    general = struct.unpack("<17I", narrow.general)
    assert (int(said["eip"], 16), int(said["esp"], 16)) == (general[12], general[15])


def test_what_does_not_fit_into_32_bits_makes_a_64_bit_core() -> None:
    who = Identity(b"x", b"", "S", 0, 1 << 40, 70000, 5, (1, 2, 3, 4))
    assert struct.unpack_from("<HH", elf_core.prpsinfo(who, I386), 8) == (65534, 5)
    assert len(elf_core.prpsinfo(who, I386)) == 124
    head = elf_core.head([Segment(0x1000, 0x3000, "rw-", True)] * 3, b"", I386)
    assert [s["p_offset"] for s in ELFFile(io.BytesIO(head)).iter_segments()][1:] == [4096, 12288, 20480]
    assert (
        ELFFile(io.BytesIO(elf_core.head([Segment(0, 4096, "r", False)] * 70000, b"", I386))).num_segments()
        == 70001
    )
