"""What a guest's kernel answers, as values: the names are those of the kernel's own structures."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Literal, NamedTuple


class HeldSocket(NamedTuple):
    """The state of a socket, as its protocol answers for a descriptor of it."""

    domain: int
    """AF_*."""
    type: int
    """SOCK_*."""
    protocol: int
    listens: bool
    state: int | None
    """TCP_* (include/net/tcp_states.h), of TCP and MPTCP; None of others."""
    port: int | None
    """0: it was never bound. None of a family without ports."""


class TlsAnswer(NamedTuple):
    """What the kernel keeps of one direction of a socket that it encrypts."""

    sends: bool
    """Whether it is what is sent, or what is received."""
    data: bytes
    """struct tls12_crypto_info_* (include/uapi/linux/tls.h); of a cipher that is not known here its head;
    empty where the kernel does not give it."""


class Stat(NamedTuple):
    """What `stat(2)` reports about a file; the names are those of `struct stat` without its `st_`."""

    mode: int
    ino: int
    dev: int
    nlink: int
    uid: int
    gid: int
    size: int
    """Bytes; 0 for most files of /proc, 4096 for most of /sys."""
    mtime: float
    """Seconds since the epoch."""
    rdev: int = 0


class Unmounted(NamedTuple):
    """A pseudo file system, such as tracefs, that the guest had not mounted at its usual place. `missing`
    says why it is not shown there; empty: it is. `device` is `major:minor`, empty where it is not known."""

    place: str
    kind: str
    device: str
    missing: str


class OpenDescriptor(NamedTuple):
    """What a descriptor of a process leads to."""

    target: str
    """As readlink(2) of /proc/PID/fd/N reports it."""
    stat: Stat
    """As stat(2) of it."""
    position: int
    """Bytes into the file."""
    flags: int
    """Those of open(2), but for O_CLOEXEC, which is the descriptor's."""
    may_be_locked: bool
    """Its file has locks, or once had: /proc/PID/fdinfo/N says of whom."""


class Uname(NamedTuple):
    """What `uname(2)` reports (`struct new_utsname`)."""

    sysname: str
    nodename: str
    release: str
    version: str
    machine: str
    domainname: str


class Sysinfo(NamedTuple):
    """What `sysinfo(2)` reports (`struct sysinfo`); amounts of memory count units of `mem_unit` bytes."""

    uptime: int
    """Seconds since boot, rounded up."""
    loads: tuple[int, int, int]
    """Load averages over 1, 5 and 15 minutes, times 65536."""
    totalram: int
    freeram: int
    sharedram: int
    bufferram: int
    totalswap: int
    freeswap: int
    procs: int
    totalhigh: int
    freehigh: int
    mem_unit: int


class Running(NamedTuple):
    """The task that a CPU was running. `tgid` and `tid` are what getpid(2) and gettid(2) would have returned
    to it; 0: the CPU was idle."""

    cpu: int
    tgid: int
    tid: int


class ListedTask(NamedTuple):
    """A process on the kernel's list of tasks."""

    pid: int
    """In the guest's first pid namespace; 0 where the task has no id."""
    task_vaddr: int
    """Its `task_struct`."""


class TaskList(NamedTuple):
    """The kernel's list of tasks, and why it could not be followed to its end (empty if it could)."""

    tasks: list[ListedTask]
    incomplete: str


class RegisterSet(NamedTuple):
    """Registers in the layout of a core file: `kind` is the type of their note (NT_*,
    include/uapi/linux/elf.h)."""

    kind: int
    content: bytes


class Registers(NamedTuple):
    """A thread's registers. `machine` is EM_X86_64, or EM_386 for a 32-bit program. The first of `sets` are
    the general registers (`struct user_regs_struct`). A thread that was running has no others: they were in
    the processor, not in memory."""

    machine: int
    sets: tuple[RegisterSet, ...]

    @property
    def general(self) -> bytes:
        return self.sets[0].content


class BpfInfo(NamedTuple):
    """What bpf(2) says of an object: `data` is its struct bpf_*_info, `arrays` what that points to by name
    (`code`, `maps`, `functions`; `name`, `data`; `where`), `fdinfo` what /proc/PID/fdinfo says of its
    descriptors."""

    data: bytes
    arrays: dict[str, bytes]
    fdinfo: bytes


class BpfEvent(NamedTuple):
    """The program that a perf event runs (BPF_TASK_FD_QUERY): its id, `kind` (enum bpf_task_fd_type), the
    name of what it is attached to, `offset` and `vaddr` in that."""

    program: int
    kind: int
    name: bytes
    offset: int
    vaddr: int


class Target(NamedTuple):
    """A target of a device of the device mapper: its type (`crypt`, `linear` ...), and its parameters."""

    device: str
    kind: str
    parameters: str


class QueueEnd(NamedTuple):
    """A descriptor of a process that may lead to data which waits: `kind` is `socket`, `pipe` or `terminal`,
    `target` what it leads to. Ends of one `queue` lead to the same data."""

    pid: int
    kind: Literal["socket", "pipe", "terminal"]
    fd: int
    target: str
    queue: str


class QueuedMessage(NamedTuple):
    """What waits to be read: a message, or what a stream holds. `kind` is the type of a System V message, or
    the priority of a POSIX one."""

    kind: int | None
    content: bytes


class PartialFile(OSError):
    """A file that the kernel makes up, of which only a part can be had: `partial`."""

    def __init__(self, number: int, reason: str, path: str, partial: bytes) -> None:
        super().__init__(number, reason, path)
        self.partial = partial


class EndlessFile(PartialFile):
    """A file that does not end: a window on memory, or a cyclic list."""

    def __init__(self, path: str, partial: bytes) -> None:
        reason = f"does not end (given up after {len(partial)} bytes; `cat --offset --length` reads a part)"
        super().__init__(errno.EFBIG, reason, path, partial)


class MissingRecords(PartialFile):
    """A list of which the kernel could not write some records; `partial` has all others, each as a whole.
    `behind`: for each missing one the number of the line that it would follow."""

    def __init__(self, path: str, partial: bytes, reason: str, behind: Sequence[int]) -> None:
        super().__init__(errno.EIO, reason, path, partial)
        self.behind = tuple(behind)


QuestionKind = Literal["read", "listdir", "readlink", "lstat", "stat"]
"""`Files.read`, `listdir`, `readlink`, `stat` without and with `follow`."""


class Question(NamedTuple):
    """A question about a path."""

    kind: QuestionKind
    path: str
