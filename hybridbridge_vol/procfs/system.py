"""The formats of system-wide files: /proc/uptime, /proc/loadavg, /proc/modules.

Sources: fs/proc/uptime.c, fs/proc/loadavg.c, kernel/module/procfs.c (Linux 5.10 to 6.12).

Names of modules are not escaped: who may load a module may give it a name that looks like lines of others.
`hidden` compares the names with /sys/module, where each is one directory.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.pid import text

_MODULE = re.compile(
    rb"(.*) (\d{1,20}) (-|\d{1,20}) (\S+) (\w+) (0x[0-9a-f]+)(?: \(([^ ]*)\))?\s*", re.DOTALL
)


class Loadavg(NamedTuple):
    """/proc/loadavg."""

    load1: float
    load5: float
    load15: float
    running: int
    threads: int
    last_pid: int


def parse_loadavg(data: bytes) -> Loadavg:
    """`0.20 0.18 0.12 1/80 11206`. Raises ParseError."""
    try:
        load1, load5, load15, tasks, last_pid = data.split()
        running, threads = tasks.split(b"/")
        loads = float(load1), float(load5), float(load15)
        return Loadavg(*loads, running=int(running), threads=int(threads), last_pid=int(last_pid))
    except ValueError:
        raise ParseError(f"not in the form of /proc/loadavg: {data[:40]!r}") from None


def parse_uptime(data: bytes) -> tuple[float, float]:
    """/proc/uptime: seconds since boot, seconds of idleness summed over the CPUs. Raises ParseError."""
    try:
        uptime, idle = data.split()
        return float(uptime), float(idle)
    except ValueError:
        raise ParseError(f"not in the form of /proc/uptime: {data[:40]!r}") from None


class Module(NamedTuple):
    """One line of /proc/modules."""

    name: str
    size: int
    """Bytes of memory."""
    references: int | None
    """Number of references to it; None where the kernel cannot unload modules and does not count them."""
    users: tuple[str, ...]
    """The modules that use it."""
    permanent: bool
    state: str
    """Live, Loading or Unloading."""
    address_vaddr: int
    taints: str
    """Letters of Documentation/admin-guide/tainted-kernels.rst: O out of tree, E unsigned, P proprietary,
    ..."""


def parse_module(line: bytes) -> Module:
    """`name size references users state address [(taints)]`, users being `-` or each followed by a comma,
    with `[permanent],` among them for a module that cannot be unloaded. The name is what is in memory, which
    an attacker may have emptied, or given blanks. Raises ParseError."""
    found = _MODULE.fullmatch(line)
    if found is None:
        raise ParseError(f"not in the form of /proc/modules: {line[:60]!r}")
    name, size, references, users, state, address, taints = (text(field or b"") for field in found.groups())
    names = [user for user in users.split(",") if user not in ("", "-")]
    return Module(
        name=name,
        size=int(size),
        references=None if references == "-" else int(references),
        users=tuple(user for user in names if user != "[permanent]"),
        permanent="[permanent]" in names,
        state=state,
        address_vaddr=int(address, 16),
        taints=taints,
    )
