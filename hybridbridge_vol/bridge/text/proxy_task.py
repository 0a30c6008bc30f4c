"""The task whose system calls we make, and where its structures point to namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hybridbridge_vol.bridge.text.first_field import first_field_of
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.machine.cpu import GS_BASE_MSR
from hybridbridge_vol.machine.machine import Machine
from hybridbridge_vol.machine.words import read_words
from hybridbridge_vol.trust.placement import Layout
from hybridbridge_vol.trust.stored_kernel import StoredKernel
from hybridbridge_vol.units import START_KERNEL_MAP, U64

_MAX_TASK_SIZE = 16384
"""Bytes of a `task_struct` that are searched; real ones have up to ten thousand."""

MAX_OBJECT = 512
"""Bytes of smaller structures that are searched."""


_SIGNAL_SIZE = 2048
"""Bytes of a signal_struct that are searched."""
NO_FIELD = 0xFFFF
_TAKES_SECURITY = "security_cred_free"
"""A function that begins by looking at `security` of its argument, a `struct cred` (security/security.c)."""


class ProxyTask(NamedTuple):
    """The proxy task's structures, and where in them the pointers to namespaces are.

    `task` is its `task_struct`, `pid` its `struct pid`, `cred` its `struct cred` (virtual addresses); the
    others are byte offsets into these; `cred_security` is `NO_FIELD` in a kernel without security modules.
    """

    task: int
    task_nsproxy: int
    pid: int
    pid_namespace: int
    cred: int
    cred_user_namespace: int
    cred_security: int


def find_proxy_task(machine: Machine, kernel: StoredKernel, layout: Layout, booted: memoryview) -> ProxyTask:
    """The proxy task (the task that was about to execve init) and its pointers to the initial namespaces.
    `booted` is the kernel's memory from `_text`.

    LookupError names what cannot be found.
    """
    delta = layout.kernel_delta

    def static(name: str) -> int:
        return kernel.symbols.address(name) + delta

    task = current_task(machine, kernel, delta)
    words = read_words(machine, task, task_size(kernel.symbols))
    nsproxy = _index_of(words, static("init_nsproxy"), "nsproxy of the proxy task") * 8
    inside = [word for word in dict.fromkeys(words) if word in layout]
    own = range(task, task + 8 * len(words))
    pid, pid_namespace = _pid(machine, inside, own, static("init_pid_ns"))
    creds = list(_pointing_to(machine, inside, static("init_user_ns")))
    if not creds:
        raise LookupError("struct cred of the proxy task not found")
    cred, user_namespace = creds[0]
    security = NO_FIELD
    if _TAKES_SECURITY in kernel.symbols:
        found = first_field_of(booted, kernel.symbols.address(_TAKES_SECURITY) - kernel.text_link_vaddr, 8)
        security = NO_FIELD if found is None else found
    return ProxyTask(task, nsproxy, pid, pid_namespace, cred, user_namespace, security)


def task_size(symbols: Symbols) -> int:
    """Bytes of a task_struct, or somewhat more: `init_task` is one."""
    known = symbols.size("init_task") if "init_task" in symbols else 0
    return min(known, _MAX_TASK_SIZE) or _MAX_TASK_SIZE


def current_task(machine: Machine, kernel: StoredKernel, delta: int) -> int:
    """The running task of a booted kernel (virtual address): the per-CPU `current_task`, which kernels from
    6.2 to 6.13 keep first in `pcpu_hot`. Without CONFIG_SMP it is a variable like any other."""
    for name in ("current_task", "pcpu_hot"):
        offset = kernel.symbols.get(name)
        if offset is not None:
            offset += delta if offset >= START_KERNEL_MAP else 0
            area = machine.read_msr(GS_BASE_MSR) if "__per_cpu_offset" in kernel.symbols else 0
            return machine.read_u64((area + offset) & U64)
    raise LookupError("no current_task")


def _index_of(words: list[int], value: int, what: str) -> int:
    if value not in words:
        raise LookupError(f"{what} not found")
    return words.index(value)


def _pid(machine: Machine, pointers: list[int], own: range, namespace: int) -> tuple[int, int]:
    """The `struct pid` among what the task at the addresses `own` points to, and at which byte offset it
    holds its namespace.

    A task also points into its `struct pid`, from the links of lists: the pointer to the whole is the one
    that another object has too, the group's signal_struct (`pids`, include/linux/sched/signal.h).
    """
    found = list(_pointing_to(machine, pointers, namespace))
    if not found:
        raise LookupError("struct pid of the proxy task not found")
    if len(found) > 1:
        wanted = {vaddr for vaddr, _offset in found}
        shared = {
            word
            for vaddr in pointers
            for word in read_words(machine, vaddr, _SIGNAL_SIZE)
            if word in wanted and vaddr not in wanted and vaddr not in own
        }
        found = [item for item in found if item[0] in shared] or found
    return found[0]


def _pointing_to(machine: Machine, pointers: list[int], value: int) -> Iterator[tuple[int, int]]:
    """The objects among `pointers` that hold `value`, and at which byte offset."""
    for vaddr in pointers:
        inner = read_words(machine, vaddr, MAX_OBJECT // 2)
        if value in inner:
            yield vaddr, inner.index(value) * 8
