"""The credentials of processes, as the kernel keeps them."""

from __future__ import annotations

from typing import NamedTuple

CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip
"""By their numbers, without CAP_ (include/uapi/linux/capability.h)."""
NAMESPACES = ("uts", "ipc", "mnt", "pid", "net", "cgroup", "time", "user")
SECCOMP = ("off", "strict", "filter")
"""SECCOMP_MODE_*."""


class Credentials(NamedTuple):
    """A `struct cred`. Ids are the kernel's own, those of the first user namespace."""

    vaddr: int
    uid: int
    gid: int
    suid: int
    euid: int
    egid: int
    permitted: int
    effective: int
    ambient: int
    inheritable: int
    user_uid: int | None
    """Whose user_struct it refers to; None if that cannot be read."""
    prepared_for_kernel: bool
    """Whether new keys go to the thread's own keyring by default, as prepare_kernel_cred() sets it."""


class Process(NamedTuple):
    """A process of the kernel's list. `parent` is the address of its parent's task_struct; `namespaces` are
    addresses in the order of `NAMESPACES`, 0 where it has none."""

    task: int
    pid: int
    ppid: int
    parent: int
    name: str
    is_kernel_thread: bool
    is_setuid_root: bool
    """Whether its program's file is root's and has the set-user-ID bit."""
    login_uid: int | None
    real: Credentials
    subjective: int
    """The address of the credentials that it acts with, which may be others for a moment."""
    seccomp: str
    no_new_privileges: bool
    namespaces: tuple[int, ...]


def capability_names(mask: int, last: int) -> str:
    """The capabilities of a set in words; `last` is the number of the highest that the kernel has."""
    every = (1 << last + 1) - 1
    if mask & every == every:
        return "all"
    names = [
        CAPABILITIES[number] if number < len(CAPABILITIES) else str(number)
        for number in range(64)
        if mask >> number & 1
    ]
    return ",".join(names)
