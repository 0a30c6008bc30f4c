"""The supervisor's end of the channel: an emulated program's calls, memory and descriptors."""

from __future__ import annotations

import errno
import os

from hybridbridge_vol.native.abi import failed
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
from hybridbridge_vol.native.notifications import Answer, Call, NewDescriptor, Special
from hybridbridge_vol.native.processes import Processes
from hybridbridge_vol.native.program_memory import ProgramMemory, check_size
from hybridbridge_vol.units import U64

_MAX_NOTES, _MAX_NOTE = 64, 400
"""How many of the program's process are kept, and characters of each."""


class EmulatedProgram:
    """Requests to the process of a program that waits for an answer."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def ask(self, kind: Kind, data: bytes) -> Frame:
        """The reply to a request, without its errno. OSError with it."""
        try:
            self.channel.send(kind, data)
            reply = self.channel.receive()
        except (EOFError, OSError):
            self.channel.hang_up()  # what may still come belongs to nothing
            raise failed(errno.ESRCH) from None
        if reply.fd >= 0 and kind is not Kind.TAKE:
            os.close(reply.fd)
        if reply.kind is not Kind.REPLY or len(reply.data) < ERROR_FORM.size:
            self.channel.hang_up()
            raise failed(errno.EPROTO)
        error = ERROR_FORM.unpack_from(reply.data)[0]
        if error:
            raise failed(error)
        return reply._replace(data=reply.data[ERROR_FORM.size :])

    def take(self, number: int) -> int:
        """A copy of a descriptor of the program's. OSError."""
        fd = self.ask(Kind.TAKE, NUMBER_FORM.pack(number)).fd
        if fd < 0:
            raise failed(errno.EBADF)
        os.set_inheritable(fd, False)
        return fd


class EmulatedMemory(ProgramMemory):
    """See its base class."""

    def __init__(self, program: EmulatedProgram) -> None:
        self._program = program

    def read(self, vaddr: int, size: int) -> bytes:
        check_size(size)
        return self._program.ask(Kind.READ, RANGE_FORM.pack(vaddr, size)).data[:size] if size else b""

    def write(self, vaddr: int, data: bytes) -> None:
        if data:
            self._program.ask(Kind.WRITE, ADDRESS_FORM.pack(vaddr) + data)


class EmulatedListener:
    """Where the program's calls arrive (`notifications.CallSource`). `notes`: what its process could not do,
    and why."""

    def __init__(self, program: EmulatedProgram, pid: int) -> None:
        self.notes: dict[str, str] = {}
        self._program = program
        self._memory = EmulatedMemory(program)
        self._pid = pid

    @property
    def fd(self) -> int:
        return self._program.channel.fd

    def receive(self) -> Call | None:
        try:
            frame = self._program.channel.receive()
        except (EOFError, OSError):
            self._program.channel.hang_up()
            return None
        if frame.fd >= 0:
            os.close(frame.fd)
        if frame.kind is Kind.NOTE and len(self.notes) < _MAX_NOTES:
            asked, _zero, reason = frame.data.decode(errors="replace")[:_MAX_NOTE].partition("\0")
            self.notes.setdefault(asked, reason)
        if frame.kind is not Kind.CALL or len(frame.data) != CALL_FORM.size:
            return None
        number, pc, *arguments = CALL_FORM.unpack(frame.data)
        return Call(0, self._pid, number, pc, tuple(arguments), self._memory)

    def answer(self, _call: Call, answer: Answer) -> None:
        try:
            if isinstance(answer, NewDescriptor):
                number = -1 if answer.number is None else answer.number
                data = DESCRIPTOR_FORM.pack(number, answer.close_on_exec)
                self._program.channel.send(Kind.DESCRIPTOR, data, answer.fd)
            elif isinstance(answer, Special):
                self._program.channel.send(Kind.CONTINUE)
            else:
                self._program.channel.send(Kind.VALUE, VALUE_FORM.pack(answer & U64))
        except OSError:
            return  # it has ended
        finally:
            if isinstance(answer, NewDescriptor):
                os.close(answer.fd)


class EmulatedProcess(Processes):
    """The one process of an emulated program. `loader`: where its dynamic linker lies; `path`: its file."""

    def __init__(
        self, program: EmulatedProgram, pid: int, loader: range, path: str, first_hidden: int
    ) -> None:
        super().__init__()
        self._program = program
        self._path = path
        self._first_hidden = first_hidden
        self.of(pid).loader = loader

    def take(self, tid: int, number: int) -> int:
        return self._program.take(number)

    def descriptors(self, tid: int) -> list[int]:
        return [number for number in super().descriptors(tid) if number < self._first_hidden]

    def own_file(self, tid: int, name: str) -> bytes:
        if name.startswith("fdinfo/"):
            return super().own_file(tid, name)
        return self._program.ask(Kind.FILE, name.encode()).data

    def own_link(self, tid: int, name: str) -> bytes:
        if name == "exe":
            return os.fsencode(self._path)
        if int(name.rpartition("/")[2]) >= self._first_hidden:
            raise failed(errno.ENOENT)
        return super().own_link(tid, name)

    def stop_clocks(self, tid: int) -> None:
        """All of them are system calls: it has no vDSO."""

    def may_have_another(self) -> bool:
        return False

    def end_all(self) -> None:
        """It has started no other, and whoever started it ends it."""
