"""The task whose system calls we make, and where its structures point to namespaces."""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.bridge.text.first_field import first_field_of
from hybridbridge_vol.machine.cpu import GS_BASE_MSR
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual
from hybridbridge_vol.trust.placement import Layout
from hybridbridge_vol.trust.stored_kernel import StoredKernel
from hybridbridge_vol.units import START_KERNEL_MAP, U64

_MAX_TASK_SIZE = 16384
"""Bytes of a `task_struct` that are searched; real ones have up to ten thousand."""

MAX_OBJECT = 512
"""Bytes of smaller structures that are searched."""


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
    words = read_words(machine, task, _MAX_TASK_SIZE)
    nsproxy = _index_of(words, static("init_nsproxy"), "nsproxy of the proxy task") * 8
    pid, pid_namespace = _pointing_to(
        machine, layout, words, static("init_pid_ns"), "struct pid of the proxy task"
    )
    cred, user_namespace = _pointing_to(
        machine, layout, words, static("init_user_ns"), "struct cred of the proxy task"
    )
    security = NO_FIELD
    if _TAKES_SECURITY in kernel.symbols:
        found = first_field_of(booted, kernel.symbols.address(_TAKES_SECURITY) - kernel.text_link_vaddr, 8)
        security = NO_FIELD if found is None else found
    return ProxyTask(task, nsproxy, pid, pid_namespace, cred, user_namespace, security)


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
    """The first object that one of `words` points to and that holds `value`, and at which byte offset."""
    for word in words:
        if word in layout:  # the trusted kernel's direct map, vmalloc area or memmap
            inner = read_words(machine, word, MAX_OBJECT // 2)
            if value in inner:
                return word, inner.index(value) * 8
    raise LookupError(f"{what} not found")
