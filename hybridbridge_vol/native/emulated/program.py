"""The emulated program at run time: its system calls are answered here, or asked of the supervisor."""

from __future__ import annotations

import errno
import os
import posixpath
import struct
from typing import NoReturn

from unicorn import UcError

from hybridbridge_vol.native.abi import NAMES, failed
from hybridbridge_vol.native.emulated.address_space import PROT_EXEC, PROT_READ, PROT_WRITE, AddressSpace
from hybridbridge_vol.native.emulated.channel import (
    ADDRESS_FORM,
    CALL_FORM,
    DESCRIPTOR_FORM,
    ERROR_FORM,
    NUMBER_FORM,
    RANGE_FORM,
    VALUE_FORM,
    Channel,
    Frame,
    Kind,
)
from hybridbridge_vol.native.emulated.cpu import CAPABILITIES, ProgramCpu
from hybridbridge_vol.native.emulated.descriptor_calls import DescriptorCalls
from hybridbridge_vol.native.emulated.epoll_calls import EpollCalls
from hybridbridge_vol.native.emulated.loader import Image, load
from hybridbridge_vol.native.emulated.local import Arguments, Descriptors, Handler
from hybridbridge_vol.native.emulated.memory_calls import MemoryCalls
from hybridbridge_vol.native.emulated.own_calls import STARTING, OwnCalls
from hybridbridge_vol.native.emulated.policy import Policy, Verdict
from hybridbridge_vol.native.emulated.waiting_calls import WaitingCalls
from hybridbridge_vol.units import U64

_ONE_PROGRAM = "starts another program or thread: an emulated program is alone"
_NO_AVX = "ends the program: the emulated processor is an x86-64-v2 without AVX"


class EmulatedRun:
    """Made in the process that the program runs in. `first_hidden`: descriptors from there on are not the
    program's. OSError if the program does not fit."""

    def __init__(self, image: Image, channel: Channel, policy: Policy, first_hidden: int) -> None:
        self._channel = channel
        self._policy = policy
        self._cpu = ProgramCpu()
        self._space = AddressSpace(self._cpu.uc)
        started = load(self._space, image, CAPABILITIES)
        self._cpu.start(started.entry, started.stack)
        self._auxiliary_vector = started.auxiliary_vector
        self._descriptors = Descriptors(first_hidden)
        self._memory = MemoryCalls(self._space, self._descriptors, started.break_vaddr)
        name = posixpath.basename(image.name)
        self._own = OwnCalls(self._space, self._cpu, name, first_hidden, self._note)
        self._local: dict[str, Handler] = {
            **self._memory.handlers,
            **DescriptorCalls(self._space, self._descriptors).handlers,
            **EpollCalls(self._space, self._descriptors).handlers,
            **WaitingCalls(self._space, self._descriptors).handlers,
            **self._own.handlers,
        }

    def run(self) -> NoReturn:
        """Until the program ends, and this process with it."""
        while True:
            number = self._cpu.run()
            if number:
                self._end_by(number)
            answer = self._answer(self._cpu.read_register("RAX"), self._cpu.arguments)
            self._cpu.write_register("RAX", answer & U64)

    def _end_by(self, number: int) -> NoReturn:
        if self._cpu.refused:
            vaddr, name = self._cpu.refused
            self._note(f"{name} at {vaddr:#x}", _NO_AVX)
        self._own.end_by(number)

    def _answer(self, number: int, arguments: Arguments) -> int:
        pc = self._cpu.read_register("RIP")
        decision = self._policy.decide(number, pc, arguments)
        if decision.verdict is Verdict.FAILS:
            return -decision.error
        try:
            if decision.verdict is Verdict.LOCAL:
                return self._answer_here(number, arguments)
            if number in STARTING:
                self._note(STARTING[number], _ONE_PROGRAM)
                raise failed(errno.ENOSYS)
            return self._ask(number, pc, arguments)
        except OSError as error:
            return -(error.errno or errno.EIO)
        except (ValueError, OverflowError, struct.error):  # an argument that no call of the host's takes
            return -errno.EINVAL
        except (UcError, MemoryError):
            return -errno.ENOMEM

    def _answer_here(self, number: int, arguments: Arguments) -> int:
        name = NAMES[number]
        handler = self._local.get(name)
        if handler is None:
            self._note(name, "a system call that is not emulated")
            raise failed(errno.ENOSYS)
        return handler(arguments)

    def _note(self, asked: str, reason: str) -> None:
        self._channel.send(Kind.NOTE, f"{asked}\0{reason}".encode())

    # --- the supervisor -----------------------------------------------------------------------------------

    def _ask(self, number: int, pc: int, arguments: Arguments) -> int:
        self._channel.send(Kind.CALL, CALL_FORM.pack(number & U64, pc, *arguments))
        while True:
            frame = self._receive()
            if frame.kind is Kind.VALUE:
                return int(VALUE_FORM.unpack(frame.data)[0])
            if frame.kind is Kind.CONTINUE:
                return self._answer_here(number, arguments)
            if frame.kind is Kind.DESCRIPTOR:
                return self._place(frame)
            self._serve(frame)

    def _receive(self) -> Frame:
        try:
            return self._channel.receive()
        except (EOFError, OSError):  # nobody is left who could answer
            os._exit(1)

    def _place(self, frame: Frame) -> int:
        """Give a new descriptor its number."""
        number, close_on_exec = DESCRIPTOR_FORM.unpack(frame.data)
        if frame.fd < 0 or frame.fd >= self._descriptors.first_hidden:  # there was no room for it
            if frame.fd >= 0:
                os.close(frame.fd)
            raise failed(errno.EMFILE)
        if number < 0:
            os.set_inheritable(frame.fd, not close_on_exec)
            return frame.fd
        try:
            return os.dup2(frame.fd, self._descriptors.number(number), inheritable=not close_on_exec)
        finally:
            os.close(frame.fd)

    def _serve(self, frame: Frame) -> None:
        data, fd = b"", -1
        try:
            if frame.kind is Kind.READ:
                data = self._space.read(*RANGE_FORM.unpack(frame.data))
            elif frame.kind is Kind.WRITE:
                vaddr = ADDRESS_FORM.unpack_from(frame.data)[0]
                self._space.write(vaddr, frame.data[ADDRESS_FORM.size :])
            elif frame.kind is Kind.TAKE:
                fd = self._descriptors.number(NUMBER_FORM.unpack(frame.data)[0])
            else:
                data = self._file(frame.data.decode())
            self._channel.send(Kind.REPLY, ERROR_FORM.pack(0) + data, fd)
        except OSError as error:
            self._channel.send(Kind.REPLY, ERROR_FORM.pack(error.errno or errno.EIO))

    def _file(self, name: str) -> bytes:
        """What the program sees below its /proc/self."""
        if name == "auxv":
            return self._auxiliary_vector
        if name == "maps":
            return "".join(map(self._line, self._parts())).encode()
        raise failed(errno.ENOENT)

    def _parts(self) -> list[tuple[int, int, int, str]]:
        """Areas and their names; one that goes on as the heap is two."""
        heap, pointer = self._memory.heap, self._cpu.read_register("RSP")
        found = []
        for start, end, protection in self._space:
            if start < heap.start < end and heap:
                found.append((start, heap.start, protection, ""))
                start = heap.start
            name = "[heap]" if start in heap else "[stack]" if start <= pointer < end else ""
            found.append((start, end, protection, name))
        return found

    @staticmethod
    def _line(part: tuple[int, int, int, str]) -> str:
        """As fs/proc/task_mmu.c writes it."""
        start, end, protection, name = part
        letters = zip("rwx", (PROT_READ, PROT_WRITE, PROT_EXEC), strict=True)
        flags = "".join(letter if protection & bit else "-" for letter, bit in letters)
        text = f"{start:x}-{end:x} {flags}p 00000000 00:00 0 "
        return f"{text.ljust(73)}{name}\n" if name else f"{text}\n"
