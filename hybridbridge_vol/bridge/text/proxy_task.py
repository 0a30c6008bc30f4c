"""The task whose system calls we make, and where its structures point to namespaces."""

from __future__ import annotations

from dataclasses import dataclass

from hybridbridge_vol.machine.machine import GS_BASE_MSR, Machine, UnmappedVirtual
from hybridbridge_vol.trust.placement import START_KERNEL_MAP, Layout
from hybridbridge_vol.trust.stored_kernel import StoredKernel
from hybridbridge_vol.units import U64

_MAX_TASK_SIZE = 16384


MAX_OBJECT = 512


@dataclass(frozen=True)
class ProxyTask:
    """Where the proxy task's task and what hangs on it point to namespaces: byte offsets into the structures.

    `task` is the proxy task's `task_struct` (virtual address); `pid` its `struct pid`, `cred` its `struct
    cred`.
    """

    task: int
    task_nsproxy: int
    pid: int
    pid_namespace: int
    cred: int
    cred_user_namespace: int


def find_proxy_task(machine: Machine, kernel: StoredKernel, layout: Layout) -> ProxyTask:
    """The proxy task (the task that was about to execve init) and its pointers to the initial namespaces.

    LookupError names what is not where it should be.
    """

    delta = layout.kernel_delta

    def static(name: str) -> int:
        return kernel.symbols.address(name) + delta

    task = current_task(machine, kernel, delta)
    words = read_words(machine, task, _MAX_TASK_SIZE)
    nsproxy = _index_of(words, static("init_nsproxy"), "nsproxy of the proxy task") * 8
    pid, pid_namespace = _pointing_to(
        machine, layout, words, static("init_pid_ns"), "struct pid of the proxy task"
    )
    cred, user_namespace = _pointing_to(
        machine, layout, words, static("init_user_ns"), "struct cred of the proxy task"
    )
    return ProxyTask(task, nsproxy, pid, pid_namespace, cred, user_namespace)


def current_task(machine: Machine, kernel: StoredKernel, delta: int) -> int:
    """The per-CPU `current_task`, which kernels from 6.2 to 6.13 keep first in `pcpu_hot`."""
    for name in ("current_task", "pcpu_hot"):
        place = kernel.symbols.get(name)
        if place is not None:
            place += delta if place >= START_KERNEL_MAP else 0
            return machine.read_u64((machine.read_msr(GS_BASE_MSR) + place) & U64)
    raise LookupError("no current_task")


def read_words(machine: Machine, vaddr: int, size: int) -> list[int]:
    """64-bit words from `vaddr` on, as many as are mapped."""
    words: list[int] = []
    for offset in range(0, size, 8):
        try:
            words.append(machine.read_u64(vaddr + offset))
        except UnmappedVirtual:
            break
    return words


def _index_of(words: list[int], value: int, what: str) -> int:
    if value not in words:
        raise LookupError(f"{what} not found")
    return words.index(value)


def _pointing_to(
    machine: Machine, layout: Layout, words: list[int], value: int, what: str
) -> tuple[int, int]:
    """The object that one of `words` points to and that holds `value`; and at which offset."""
    for word in words:
        if word in layout:  # the trusted kernel's direct map, vmalloc area or memmap
            inner = read_words(machine, word, MAX_OBJECT // 2)
            if value in inner:
                return word, inner.index(value) * 8
    raise LookupError(f"{what} not found")
