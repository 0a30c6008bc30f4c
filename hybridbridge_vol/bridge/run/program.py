"""Several system calls in one run of the emulator: a program of the proxy task's.

Entering the emulator and leaving it costs more than a short system call itself. A program is a list of steps
in the proxy task's memory, and a loop of ours that makes one call after the other; a step may take an earlier
step's answer (a descriptor, say) as its first argument. It runs on FAST-BRIDGE alone: where FAST traps, or
anything else goes wrong, the whole program is rolled back (so no file may be open), and its calls can be made
one by one.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hybridbridge_vol.bridge.physical_map import PROGRAM_PADDR
from hybridbridge_vol.bridge.run.user_memory import USER_AREA, USER_VADDR
from hybridbridge_vol.machine.memory import HostMapping
from hybridbridge_vol.machine.paging import ACCESSED, LARGE_SHIFT, NO_EXECUTE, USER, WRITABLE
from hybridbridge_vol.units import PAGE_SIZE, U64

if TYPE_CHECKING:
    from hybridbridge_vol.bridge.run.caller import Caller

PROGRAM_VADDR = USER_VADDR + USER_AREA // 2
PROGRAM_SIZE = 8 << 20
_LARGE = 1 << LARGE_SHIFT
_STEPS_OFFSET = _LARGE
DATA_OFFSET = 2 * _LARGE
"""From `PROGRAM_VADDR`: the loop is in the first large page, alone; the steps begin at the second, and their
data, paths and buffers, at the third."""
DATA_SIZE = PROGRAM_SIZE - DATA_OFFSET

# A step: the function to call, where its first argument is to be taken from (or 0), its answer, and its
# struct pt_regs (arch/x86/include/asm/ptrace.h), with the arguments in r10, r9, r8, dx, si, di.
_STEP = struct.Struct("<QQq56x3Q16x3Q48x")
_ANSWER_OFFSET = 16
_ANSWER = struct.Struct("<q")
MAX_STEPS = (DATA_OFFSET - _STEPS_OFFSET) // _STEP.size
_MAX_ARGUMENTS = 6
_CODE_OFFSET = 0x200
"""Of other code that runs instead of the loop, in its page."""


def loop_over(record_size: int, body: bytes) -> bytes:
    """Code that runs `body`, which finds a record's address in rbx, for one record after the other: the first
    one's address is its first argument, their number the second. ValueError if the body is too long."""
    step = bytes.fromhex("4881c3") + record_size.to_bytes(4, "little")  # add rbx, record_size
    step += bytes.fromhex("48ffcd")  # dec rbp
    back = -(len(body) + len(step) + _JUMP_SIZE)
    if back < -0x80:
        raise ValueError(f"{len(body)} bytes of a loop are too far for a short jump")
    return _ENTER + body + step + b"\x75" + back.to_bytes(1, "little", signed=True) + _LEAVE


_JUMP_SIZE = 2
_ENTER = bytes.fromhex(
    "53"  # push rbx
    "55"  # push rbp
    "4883ec08"  # sub rsp, 8       calls want a stack aligned to 16 bytes
    "4889fb"  # mov rbx, rdi       the first record
    "4889f5"  # mov rbp, rsi       how many there are
)
_LEAVE = bytes.fromhex(
    "4883c408"  # add rsp, 8
    "5d"  # pop rbp
    "5b"  # pop rbx
    "c3"  # ret
)
_LOOP = loop_over(
    _STEP.size,
    bytes.fromhex(
        "488b4308"  # mov rax, [rbx+8]
        "4885c0"  # test rax, rax
        "740a"  # jz +10
        "488b00"  # mov rax, [rax]
        "48898388000000"  # mov [rbx+24+112], rax
        "488d7b18"  # lea rdi, [rbx+24]
        "ff13"  # call [rbx]
        "48894310"  # mov [rbx+16], rax
    ),
)


class Step(NamedTuple):
    """One system call of up to six arguments. `takes` is the number of the earlier step whose answer is its
    first argument; `side` as for `Caller.syscall`."""

    name: str
    arguments: tuple[int, ...]
    takes: int | None = None
    side: str = "home"


class ProgramMemory:
    """The proxy task's memory for programs: the loop, the steps, and room for their data."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._memory = HostMapping.anonymous(PROGRAM_SIZE)
        self._memory.view[: len(_LOOP)] = _LOOP
        caller.bridge.machine.place(PROGRAM_PADDR, self._memory)
        map_page = caller.bridge.space.builder.map_page
        map_page(PROGRAM_VADDR, PROGRAM_PADDR, ACCESSED)
        for offset in range(_STEPS_OFFSET, PROGRAM_SIZE, _LARGE):
            flags = WRITABLE | USER | ACCESSED | NO_EXECUTE
            map_page(PROGRAM_VADDR + offset, PROGRAM_PADDR + offset, flags, LARGE_SHIFT)

    def put(self, offset: int, data: bytes) -> int:
        """Store bytes at an offset, `DATA_OFFSET` or beyond; their virtual address. ValueError if they do not
        fit."""
        if not DATA_OFFSET <= offset <= PROGRAM_SIZE - len(data):
            raise ValueError(f"{len(data)} bytes of a program's data do not fit at {offset:#x}")
        self._memory.view[offset : offset + len(data)] = data
        return PROGRAM_VADDR + offset

    def get(self, offset: int, size: int) -> bytes:
        """Bytes at an offset."""
        return bytes(self._memory.view[offset : offset + size])

    def run(self, steps: Sequence[Step]) -> list[int] | None:
        """Make the calls of up to `MAX_STEPS` steps; their answers, negative errno included. None if the
        program was rolled back. ValueError if there are too many steps, or one cannot be made so."""
        if len(steps) > MAX_STEPS:
            raise ValueError(f"a program of {len(steps)} steps; {MAX_STEPS} are possible")
        if not steps:
            return []
        for number, step in enumerate(steps):
            self._write(number, step)
        names = Counter(step.name for step in steps)
        if not self._caller.run_program(PROGRAM_VADDR, PROGRAM_VADDR + _STEPS_OFFSET, len(steps), names):
            return None
        return [self._answer(number) for number in range(len(steps))]

    def run_code(self, code: bytes, offset: int, count: int, names: Iterable[str]) -> bool:
        """Run other code of ours instead of the loop: it is given the address of the data at `offset`, and
        `count`, which is how often it makes each of the calls `names`. False if it was rolled back."""
        entry = PROGRAM_VADDR + _CODE_OFFSET
        if self._memory.view[_CODE_OFFSET : _CODE_OFFSET + len(code)] != code:
            if len(code) > PAGE_SIZE - _CODE_OFFSET:
                raise ValueError(f"{len(code)} bytes of code do not fit")
            self._memory.view[_CODE_OFFSET : _CODE_OFFSET + len(code)] = code
            self._caller.bridge.machine.uc.ctl_remove_cache(PROGRAM_VADDR, PROGRAM_VADDR + PAGE_SIZE)
        return self._caller.run_program(entry, PROGRAM_VADDR + offset, count, dict.fromkeys(names, count))

    def _write(self, number: int, step: Step) -> None:
        name, arguments, takes, side = step
        if len(arguments) > _MAX_ARGUMENTS or takes is not None and not 0 <= takes < number:
            raise ValueError(f"step {number} ({name}) of a program: {step}")
        padded = (*arguments, *(0,) * (_MAX_ARGUMENTS - len(arguments)))
        di, si, dx, r10, r8, r9 = (value & U64 for value in padded)
        source = 0 if takes is None else PROGRAM_VADDR + _step_offset(takes) + _ANSWER_OFFSET
        entry = self._caller.entry(name, side)
        view, offset = self._memory.view, _step_offset(number)
        _STEP.pack_into(view, offset, entry, source, 0, r10, r9, r8, dx, si, di)

    def _answer(self, number: int) -> int:
        answer: int = _ANSWER.unpack_from(self._memory.view, _step_offset(number) + _ANSWER_OFFSET)[0]
        return answer


def _step_offset(number: int) -> int:
    return _STEPS_OFFSET + number * _STEP.size
