"""One difference between the snapshot's kernel and the trusted one."""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One thing in the guest's kernel that is not as the trusted kernel has it.

    `what`: text, traced (changed by the function tracer or by a tracepoint's probe), kprobe, livepatch,
    rodata, syscall, data, idt, module, register (of a CPU), mapping (page tables that lead elsewhere),
    missing (cannot be checked, and why). `vaddr` is the guest's (None: a register), `offset` the image file's
    (None: not in the file); `leads` is where the code or pointer that was found leads. `doubt`: why it may be
    none, since it rests on what the image has not; empty if nothing speaks for that.
    """

    what: str
    vaddr: int | None
    offset: int | None
    symbol: str
    expected: str | None
    found: str | None
    leads: str | None = None
    doubt: str = ""
