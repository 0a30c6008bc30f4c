"""The seccomp filter of a program that runs on an image: an allow-list of system calls.

* What concerns only the program itself (its memory, descriptors, signals, waiting) goes to the host's kernel.
* What asks for the system, or names a file, is handed to the supervisor (SECCOMP_RET_USER_NOTIF).
* Everything else fails: 32-bit and x32 calls, io_uring, ptrace, namespaces, new system calls, and every call
  that changes names, modes or mounts.

Only registers are looked at: what they point to may change while it is looked at.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Sequence

from hybridbridge_vol.native.abi import FIRST_WINDOW, GUEST_CLOCKS, NUMBERS, RUNNING_CLOCKS

AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000
RET_ERRNO, RET_NOTIFY, RET_ALLOW = 0x00050000, 0x7FC00000, 0x7FFF0000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # include/uapi/linux/filter.h
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ALLOWED = _names(
    "read write close poll lseek mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 "
    "pwrite64 readv writev pipe select sched_yield mremap msync mincore madvise pause getitimer alarm "
    "setitimer getpid exit wait4 flock fsync fdatasync umask getrlimit getrusage setpgid getppid getpgrp "
    "setsid rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack sched_get_priority_max "
    "sched_get_priority_min mlock munlock mlockall munlockall setrlimit gettid readahead futex "
    "epoll_create set_tid_address restart_syscall fadvise64 timer_create timer_settime timer_gettime "
    "timer_getoverrun timer_delete clock_getres exit_group epoll_wait epoll_ctl waitid pselect6 ppoll "
    "set_robust_list epoll_pwait signalfd timerfd_create eventfd timerfd_settime timerfd_gettime "
    "signalfd4 eventfd2 epoll_create1 pipe2 preadv pwritev getcpu getrandom memfd_create membarrier "
    "mlock2 preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free rseq close_range epoll_pwait2 futex_waitv "
    "shutdown"
)
NOTIFIED = _names(
    "open stat fstat lstat access nanosleep socket connect sendto recvfrom sendmsg recvmsg bind "
    "getsockname getpeername setsockopt getsockopt fork vfork execve kill uname getcwd chdir fchdir "
    "readlink gettimeofday sysinfo times getresuid getresgid getpgid syslog getsid capget statfs fstatfs "
    "getpriority sched_getparam sched_getscheduler sched_rr_get_interval tkill time sched_getaffinity "
    "getdents64 clock_nanosleep tgkill ioprio_get openat newfstatat readlinkat faccessat prlimit64 "
    "sched_getattr statx faccessat2 getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr "
    "name_to_handle_at open_by_handle_at bpf"
)
REFUSED = {
    errno.EROFS: _names(
        "truncate rename mkdir rmdir creat link unlink symlink chmod fchmod chown fchown lchown utime mknod "
        "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr utimes mkdirat mknodat fchownat "
        "futimesat unlinkat renameat linkat symlinkat fchmodat utimensat fallocate renameat2 fchmodat2"
    ),
    errno.EINVAL: ("sendfile", "copy_file_range"),  # those who call them then read and write
    0: ("getuid", "geteuid", "getgid", "getegid", "getgroups", "sync"),
}
"""By the error; 0 is no error: the program is root in the image, and only there."""
_TERMINAL_IOCTLS = (
    0x5401, 0x5402, 0x5403, 0x5404, 0x5405, 0x5406, 0x5407, 0x5408, 0x5409, 0x540A, 0x540B,
    0x540F, 0x5410, 0x5413, 0x5414, 0x541B, 0x5421, 0x5429, 0x5450, 0x5451, 0x5452,
    0x80045430,
)  # fmt: skip
"""TCGETS to TCFLSH, TIOCGPGRP, TIOCSPGRP, TIOCGWINSZ, TIOCSWINSZ, FIONREAD, FIONBIO, TIOCGSID, FIONCLEX,
FIOCLEX, FIOASYNC, TIOCGPTN. Not among them: TIOCSTI, which types; TIOCLINUX, TIOCSCTTY."""
_FCNTLS = (1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1032, 1034)
"""F_GETFD ... F_SETLKW, F_OFD_*, F_GETPIPE_SZ, F_GET_SEALS."""
_DUPLICATING_FCNTLS = (0, 1030)  # F_DUPFD, F_DUPFD_CLOEXEC
_PRCTLS = (1, 2, 3, 15, 16, 23, 29, 30, 36, 37, 38, 39, 0x53564D41)
"""PDEATHSIG, GET_DUMPABLE, NAME, CAPBSET_READ, TIMERSLACK, CHILD_SUBREAPER, NO_NEW_PRIVS, PR_SET_VMA."""
_CLONE_NEW = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_PROT_EXEC, _MAP_ANONYMOUS = 0x4, 0x20
_ARCH_SET_GS, _ARCH_SET_FS, _ARCH_GET_FS, _ARCH_GET_GS = 0x1001, 0x1002, 0x1003, 0x1004
_AF_UNIX = 1
_INPUT, _OUTPUT = (0,), (1, 2)
"""Standard input may be a window, too: `cat < file`."""

Code = list[bytes]


def _statement(code: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _return(action: int) -> Code:
    return [_statement(RETURN, action)]


def _error(number: int) -> Code:
    return _return(RET_ERRNO | number)


_ALLOW, _NOTIFY = _return(RET_ALLOW), _return(RET_NOTIFY)


def _when(test: int, argument: int, value: int, then: Code, otherwise: Code) -> Code:
    """Test the low half of an argument. Both branches end with a return."""
    load = _statement(LOAD, _ARGUMENTS_AT + 8 * argument)
    return [load, _jump(test, value, 0, len(then)), *then, *otherwise]


def _one_of(argument: int, values: Sequence[int], then: Code, otherwise: Code) -> Code:
    """The same: whether the argument is one of these values. `then` is repeated for each."""
    code = [_statement(LOAD, _ARGUMENTS_AT + 8 * argument)]
    for value in values:
        code += [_jump(EQUAL, value, 0, len(then)), *then]
    return code + otherwise


def _is_window(argument: int, then: Code, otherwise: Code) -> Code:
    """Whether an argument is the number of a window; -1 is none."""
    inner = _when(AT_LEAST, argument, 0x8000_0000, otherwise, then)
    return _when(AT_LEAST, argument, FIRST_WINDOW, inner, otherwise)


def _conditional(guarded: bool) -> dict[str, Code]:
    """The rules of those calls whose arguments decide."""
    output = _one_of(0, _OUTPUT, _NOTIFY, _ALLOW) if guarded else _ALLOW
    refused = _error(errno.EPERM)
    no_copy = _is_window(0, _error(errno.EOPNOTSUPP), _ALLOW)
    copy_to_input = _is_window(0, _one_of(1, _INPUT, _ALLOW, _error(errno.EOPNOTSUPP)), _ALLOW)
    not_window = _one_of(4, _INPUT, _NOTIFY, _is_window(4, _error(errno.ENODEV), _ALLOW))
    from_file = _when(ANY_BIT, 2, _PROT_EXEC, _NOTIFY, not_window)
    reads = ("read", "pread64", "readv", "preadv", "preadv2")
    return {
        **{name: _one_of(0, _INPUT, _NOTIFY, _is_window(0, _NOTIFY, _ALLOW)) for name in reads},
        "dup": no_copy,
        **{name: copy_to_input for name in ("dup2", "dup3")},
        **{name: output for name in ("write", "writev")},
        "fcntl": _one_of(1, _DUPLICATING_FCNTLS, no_copy, _one_of(1, _FCNTLS, _ALLOW, _error(errno.EINVAL))),
        "mmap": _when(ANY_BIT, 3, _MAP_ANONYMOUS, _ALLOW, from_file),
        "clone": _when(ANY_BIT, 0, _CLONE_NEW, refused, _NOTIFY),
        "ioctl": _one_of(1, _TERMINAL_IOCTLS, _ALLOW, _NOTIFY),
        "prctl": _one_of(0, _PRCTLS, _ALLOW, _error(errno.EINVAL)),
        "arch_prctl": _one_of(
            0, (_ARCH_SET_FS,), _NOTIFY,
            _one_of(0, (_ARCH_SET_GS, _ARCH_GET_FS, _ARCH_GET_GS), _ALLOW, _error(errno.EINVAL)),
        ),
        "clock_gettime": _one_of(0, GUEST_CLOCKS + RUNNING_CLOCKS, _NOTIFY, _ALLOW),
        "personality": _one_of(0, (0xFFFF_FFFF,), _ALLOW, refused),
        "sched_setaffinity": _one_of(0, (0,), _ALLOW, refused),
        "socketpair": _one_of(0, (_AF_UNIX,), _ALLOW, _error(errno.EAFNOSUPPORT)),
    }  # fmt: skip


def refusing(numbers: Iterable[int]) -> bytes:
    """A filter that refuses these system calls and those of other architectures, and allows all others."""
    code = [
        _statement(LOAD, _ARCH_AT),
        _jump(EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        *_error(errno.EPERM),
        _statement(LOAD, _NUMBER_AT),
        _jump(AT_LEAST, _X32_BIT, 0, 1),
        *_error(errno.EPERM),
    ]
    for number in numbers:
        code += [_jump(EQUAL, number, 0, 1), *_error(errno.EPERM)]
    return b"".join([*code, *_ALLOW])


def program(guarded: bool = False) -> bytes:
    """The whole filter: instructions of 8 bytes each. With `guarded` the supervisor sees what is written to
    standard output and error."""
    conditional = _conditional(guarded)
    answers = {name: _ALLOW for name in ALLOWED} | {name: _NOTIFY for name in NOTIFIED}
    for number, names in REFUSED.items():
        answers |= {name: _error(number) for name in names}
    answers |= conditional
    code = [
        _statement(LOAD, _ARCH_AT),
        _jump(EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        *_error(errno.ENOSYS),
        _statement(LOAD, _NUMBER_AT),
        _jump(AT_LEAST, _X32_BIT, 0, 1),
        *_error(errno.ENOSYS),
    ]
    for name, answer in sorted(answers.items(), key=lambda item: NUMBERS[item[0]]):
        code += [_jump(EQUAL, NUMBERS[name], 0, len(answer)), *answer]
    # what is not known fails as on a kernel without it
    return b"".join([*code, *_error(errno.ENOSYS)])
