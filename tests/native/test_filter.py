"""What the seccomp filter says about each system call."""

from __future__ import annotations

import errno

import pytest
from filter_verdicts import ALLOW, ERROR, I386, NOTIFY, PROGRAM, X32, verdict

from hybridbridge_vol.native.abi import FIRST_WINDOW, NUMBERS


def of(name: str, *arguments: int) -> int:
    return verdict(NUMBERS[name], *arguments)


def test_every_path_is_asked_of_the_supervisor_or_refused() -> None:
    by_path = (
        "open", "stat", "lstat", "access", "readlink", "openat", "newfstatat", "readlinkat", "faccessat",
        "faccessat2", "statx", "statfs", "chdir", "execve", "getxattr", "lgetxattr", "listxattr",
    )  # fmt: skip
    assert {of(name) for name in by_path} == {NOTIFY}


@pytest.mark.parametrize("name", ["mkdir", "unlinkat", "rename", "chmod", "truncate", "utimensat", "mknod"])
def test_names_and_modes_cannot_be_changed(name: str) -> None:
    assert of(name) == ERROR | errno.EROFS


@pytest.mark.parametrize(
    "number",
    [101, 165, 155, 161, 272, 308, 310, 311, 425, 426, 434, 435, 437, 438, 298, 323, 250, 175],
)
def test_what_is_not_on_the_list_fails(number: int) -> None:
    """ptrace, mount, pivot_root, chroot, unshare, setns, process_vm_*, io_uring, pidfd_*, clone3, openat2,
    perf_event_open, bpf, userfaultfd, keyctl, init_module."""
    assert verdict(number) == ERROR | errno.ENOSYS


def test_calls_of_other_kinds_fail() -> None:
    for number in range(500):
        assert verdict(number, arch=I386) == ERROR | errno.ENOSYS
        assert verdict(number | X32) == ERROR | errno.ENOSYS


def test_sockets_are_never_the_hosts() -> None:
    assert of("socket", 2, 1) == NOTIFY and of("connect", 3) == NOTIFY and of("sendmsg", 3) == NOTIFY
    assert of("socketpair", 1) == ALLOW and of("socketpair", 2) == ERROR | errno.EAFNOSUPPORT


def test_only_reads_of_windows_are_asked() -> None:
    assert of("read", 3) == ALLOW and of("read", FIRST_WINDOW) == NOTIFY and of("read", 0) == NOTIFY
    assert of("pread64", FIRST_WINDOW + 5) == NOTIFY and of("read", -1) == ALLOW
    assert of("dup2", FIRST_WINDOW, 5) == ERROR | errno.EOPNOTSUPP and of("dup2", 4, 1) == ALLOW
    assert of("dup2", FIRST_WINDOW, 0) == ALLOW and of("dup", FIRST_WINDOW) == ERROR | errno.EOPNOTSUPP
    assert of("fcntl", FIRST_WINDOW, 0) == ERROR | errno.EOPNOTSUPP and of("fcntl", 4, 1030) == ALLOW
    assert of("fcntl", 4, 8) == ERROR | errno.EINVAL  # F_SETOWN


def test_files_are_mapped_to_be_executed_only_with_leave() -> None:
    anonymous, private, executable = 0x22, 0x2, 0x4
    assert of("mmap", 0, 4096, 3, anonymous, -1) == ALLOW
    assert of("mmap", 0, 4096, 7, anonymous, -1) == ALLOW
    assert of("mmap", 0, 4096, 1, private, 4) == ALLOW
    assert of("mmap", 0, 4096, executable, private, 4) == NOTIFY
    assert of("mmap", 0, 4096, 1, private, FIRST_WINDOW) == ERROR | errno.ENODEV
    assert of("mmap", 0, 4096, 1, private, 0) == NOTIFY


def test_no_namespaces_and_every_process_is_counted() -> None:
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert of("clone", flag | 17) == ERROR | errno.EPERM
    assert of("clone", 17) == NOTIFY and of("fork") == NOTIFY and of("vfork") == NOTIFY


def test_a_terminal_cannot_be_typed_into() -> None:
    assert of("ioctl", 0, 0x5401) == ALLOW  # TCGETS
    assert of("ioctl", 0, 0x5412) == NOTIFY  # TIOCSTI, which the supervisor refuses
    assert of("ioctl", 0, 0x541C) == NOTIFY  # TIOCLINUX


def test_clocks_are_asked() -> None:
    assert {of("clock_gettime", number) for number in (0, 1, 4, 5, 6, 7, 8, 9, 11)} == {NOTIFY}
    assert of("clock_gettime", 2) == ALLOW  # the program's own CPU time


def test_the_program_is_root() -> None:
    assert {of(name) for name in ("getuid", "geteuid", "getgid", "getegid")} == {ERROR}


def test_the_filter_fits() -> None:
    assert len(PROGRAM) < 4096  # BPF_MAXINSNS
