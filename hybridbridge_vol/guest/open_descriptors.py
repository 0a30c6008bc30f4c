"""What the descriptors of many processes lead to, and system calls on them, asked together
(bridge/run/descriptor_loop.py, descriptor_calls.py)."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

from hybridbridge_vol.bridge.run import descriptor_calls, descriptor_listing, descriptor_loop
from hybridbridge_vol.bridge.run.descriptor_calls import Called, DescriptorCall
from hybridbridge_vol.bridge.run.descriptor_listing import (
    MOST_PROCESSES,
    NEXT_FUNCTIONS,
    Listed,
    list_descriptors,
)
from hybridbridge_vol.bridge.run.descriptor_loop import (
    MOST_DESCRIPTORS,
    FileFields,
    Followed,
    Functions,
    OwnDescriptor,
    follow,
)
from hybridbridge_vol.errors import BootError, CallRolledBack
from hybridbridge_vol.guest.abi import parse_stat
from hybridbridge_vol.guest.proxy_calls import BUFFER_SIZE, ProxyCalls
from hybridbridge_vol.guest.struct_file import find_fields, open_own
from hybridbridge_vol.guest.values import OpenDescriptor
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.units import U64

T = TypeVar("T")
A = TypeVar("A")

_MOST_FAILURES = 16
"""Programs of a kind that may be rolled back, one after the other, before no more of it are tried until more
code is proven: each costs some milliseconds."""
_MOST_PROOFS = 16
"""How often a program is run again after what stopped it was proven."""
_MOST_LEFT_OUT = 32
"""How often a program is run again without what ended it."""
MAX_DESCRIPTORS = 1 << 20
"""Of one process: the limit that Linux begins with (sysctl_nr_open, fs/file.c). More are listed by their
files."""
_CALLS = "calls"
"""The kind of programs that make system calls; the others are named by the function that they ask."""
_UNKNOWN = (LookupError, OSError, CallRolledBack, UnmappedVirtual)
"""The kernel is not made as expected."""


@dataclass(frozen=True)
class _Program(Generic[T, A]):
    """A program that asks about many things together, of a `kind` that has failures of its own."""

    kind: str
    run: Callable[[Sequence[T]], Sequence[A] | None]
    """The answers, or None if it was rolled back."""
    reached: Callable[[int], int]
    """After a roll-back: of so many things, the number of the last one that it came to."""
    prove: Callable[[T], bool]
    """Do singly what it does for one of them; whether that could be done."""


class OpenDescriptors:
    """Answers `guest.kernel.Files.descriptors`, `programs` and `descriptor_numbers`."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy
        self._fields: FileFields | None = None
        self._own: OwnDescriptor | None = None
        self._generation = -1
        """The one that `_own` was opened in."""
        self._failures: Counter[str] = Counter()
        """Programs of each kind that were rolled back since one was not."""
        self._proven = 0
        """Bytes of code that were proven when `_failures` was last looked at."""

    def descriptors(self, wanted: Iterable[tuple[int, int]]) -> dict[tuple[int, int], OpenDescriptor]:
        """What each `(process, descriptor)` leads to, as far as it can be asked so."""
        return dict(self._found("fget_task", wanted))

    def programs(self, pids: Iterable[int]) -> dict[int, OpenDescriptor]:
        """What /proc/PID/exe of these processes leads to, as far as it can be asked so."""
        wanted = ((pid, 0) for pid in pids)  # the descriptor of none
        return {pid: seen for (pid, _fd), seen in self._found("get_task_exe_file", wanted)}

    def numbers(self, pids: Iterable[int]) -> dict[int, list[int]]:
        """The descriptors of these processes, ascending, as far as they can be asked so."""
        found: dict[int, list[int]] = {}
        waiting = [(pid, 0) for pid in pids]
        while waiting:
            part, waiting = waiting[:MOST_PROCESSES], waiting[MOST_PROCESSES:]
            for (pid, _first), answer in zip(part, self._listed(part), strict=True):
                numbers = found.pop(pid, []) + (answer.numbers if answer else [])
                if answer is None or len(numbers) > MAX_DESCRIPTORS:
                    continue
                found[pid] = numbers
                if not answer.complete:
                    waiting.append((pid, numbers[-1] + 1 if numbers else 0))
        return found

    def _listed(self, wanted: Sequence[tuple[int, int]]) -> Sequence[Listed | None]:
        """None for each whose program was rolled back, or cannot be made."""
        symbols, resolve = self._proxy.bridge.kernel.symbols, self._proxy.bridge.snapshot
        name = next((name for name in NEXT_FUNCTIONS if name in symbols), None)
        if name is None or "find_task_by_vpid" not in symbols:
            return [None] * len(wanted)
        memory, functions = self._proxy.program_memory, (resolve("find_task_by_vpid"), resolve(name))
        program = _Program[tuple[int, int], Listed | None](
            name,
            partial(list_descriptors, memory, *functions),
            partial(descriptor_listing.reached, memory),
            lambda one: self._prove_next(name, one[0]),
        )
        return self._answers(wanted, program)

    def _prove_next(self, name: str, pid: int) -> bool:
        """As `_prove`, of the function that finds the next descriptor."""
        try:
            task = self._proxy.function("find_task_by_vpid", pid) & U64
            if task:
                self._proxy.function(name, task, self._proxy.buffer(bytes(8)))
        except _UNKNOWN:
            return False
        return bool(task)

    def _found(
        self, take: str, wanted: Iterable[tuple[int, int]]
    ) -> Iterator[tuple[tuple[int, int], OpenDescriptor]]:
        """What is known of the files that the function `take` takes from a process."""
        program = _Program[tuple[int, int], Followed | None](
            take,
            partial(self._followed, take),
            partial(descriptor_loop.reached, self._proxy.program_memory),
            lambda one: self._prove(take, *one),
        )
        waiting = iter(wanted)
        while part := list(islice(waiting, MOST_DESCRIPTORS)):
            for key, answer in zip(part, self._answers(part, program), strict=True):
                if answer is not None and self._proxy.bridge.may_be_snapshot(answer.file_vaddr):
                    seen = _described(answer)
                    if seen is not None:
                        yield key, seen

    def call_each(
        self, calls: Sequence[DescriptorCall], room: int, prove: Callable[[DescriptorCall], bool]
    ) -> list[Called | None]:
        """Make system calls, each with so many bytes of room; None for one that is to be made singly. `prove`
        makes one singly, so that its code is proven, and says whether it could."""
        found: list[Called | None] = []
        most, memory = descriptor_calls.most_calls(room), self._proxy.program_memory
        program = _Program[DescriptorCall, Called | None](
            _CALLS,
            partial(self._called, room),
            lambda count: descriptor_calls.reached(memory, count, room),
            prove,
        )
        for start in range(0, len(calls), most):
            found += self._answers(calls[start : start + most], program)
        return found

    def _called(self, room: int, calls: Sequence[DescriptorCall]) -> list[Called | None] | None:
        """None if the program was rolled back, or cannot be made."""
        resolve = self._proxy.bridge.snapshot
        try:
            functions = resolve("find_task_by_vpid"), resolve("fget_task")
            entries = {name: self._proxy.caller.entry(name, "twin") for name in {call.name for call in calls}}
            _fields, own = self._known()
        except (*_UNKNOWN, BootError):
            self._failures[_CALLS] = _MOST_FAILURES
            return None
        return descriptor_calls.call_each(self._proxy.program_memory, functions, entries, own, calls, room)

    def _followed(self, take: str, wanted: Sequence[tuple[int, int]]) -> list[Followed | None] | None:
        """None if the program was rolled back, or cannot be made."""
        try:
            functions = self._functions(take)
            fields, own = self._known()
        except _UNKNOWN:
            self._failures[take] = _MOST_FAILURES
            return None
        return follow(self._proxy.program_memory, functions, fields, own, wanted)

    def _may_try(self, kind: str) -> bool:
        proven = len(self._proxy.bridge.memo)
        if proven != self._proven:  # what failed may succeed now
            self._proven = proven
            self._failures.clear()
        return self._failures[kind] < _MOST_FAILURES

    def _run(self, program: _Program[T, A], things: Sequence[T]) -> Sequence[A] | None:
        """The answers of a program; None if it was rolled back, or too many of its kind were."""
        if not self._may_try(program.kind):
            return None
        answers = program.run(things)
        self._failures[program.kind] = self._failures[program.kind] + 1 if answers is None else 0
        return answers

    def _answers(self, things: Sequence[T], program: _Program[T, A]) -> list[A | None]:
        """The answers of a program about some things. Where one ends the program and cannot be asked about
        singly either, the others are asked about without it; None for all that have no answer."""
        left = dict(enumerate(things))
        for _ in range(_MOST_LEFT_OUT):
            answers, refused = self._with_proofs(list(left.values()), program)
            if answers is not None:
                by_number = dict(zip(left, answers, strict=True))
                return [by_number.get(number) for number in range(len(things))]
            left = {number: one for place, (number, one) in enumerate(left.items()) if place not in refused}
            if not refused or not left:
                break
        return [None] * len(things)

    def _with_proofs(
        self, things: Sequence[T], program: _Program[T, A]
    ) -> tuple[Sequence[A] | None, set[int]]:
        """The answers of a program about some things. Where it is rolled back, what it does is done singly
        for the thing that it had reached and the one behind it; then it is run again. And the places of those
        for which that fails, or with which the program ends all the same."""
        answers, before, refused = self._run(program, things), -1, set[int]()
        for _ in range(_MOST_PROOFS):
            if answers is not None or not self._may_try(program.kind):
                break
            number = program.reached(len(things))
            places = range(number, min(number + 2, len(things)))
            failed = {place for place in places if number <= before or not program.prove(things[place])}
            refused |= failed
            if len(failed) == len(places):
                break
            before = number
            answers = self._run(program, things)
        return answers, refused

    def _functions(self, take: str) -> Functions:
        names = ("find_task_by_vpid", take, "file_path", "__x64_sys_newfstat")
        return Functions(*map(self._proxy.bridge.snapshot, names))

    def inode_offset(self) -> int:
        """Where a struct file points to its inode, in bytes. OSError if that cannot be told."""
        try:
            return self._known()[0].inode
        except _UNKNOWN as error:
            raise OSError(errno.EOPNOTSUPP, f"struct file has an unknown form: {error}") from None

    def _known(self) -> tuple[FileFields, OwnDescriptor]:
        if self._own is None or self._generation != self._proxy.caller.generation:
            self._generation, self._own = self._proxy.caller.generation, open_own(self._proxy)
        if self._fields is None:
            self._fields = find_fields(self._proxy, self._own)
        return self._fields, self._own

    def _prove(self, take: str, pid: int, fd: int) -> bool:
        """Call singly what the program calls, so that its code is proven; False if that fails too."""
        ask = self._proxy.function
        try:
            task = ask("find_task_by_vpid", pid) & U64
            file = ask(take, task, fd) & U64 if task else 0
            if not self._proxy.bridge.may_be_snapshot(file):
                return False
            ask("file_path", file, self._proxy.buffer(), BUFFER_SIZE)
            _fields, own = self._known()
            machine = self._proxy.bridge.machine
            machine.write_u64(own.slot_vaddr, file)
            # if that is rolled back, so is the slot
            self._proxy.raw("newfstat", own.number, self._proxy.buffer(), side="twin")
            machine.write_u64(own.slot_vaddr, own.file_vaddr)
        except _UNKNOWN:
            return False
        return True


def _described(answer: Followed) -> OpenDescriptor | None:
    if answer.path is None or answer.stat is None:
        return None
    position = answer.position - (1 << 64) if answer.position >> 63 else answer.position
    target, stat = os.fsdecode(answer.path), parse_stat(answer.stat)
    return OpenDescriptor(target, stat, position, answer.flags, bool(answer.locks))
