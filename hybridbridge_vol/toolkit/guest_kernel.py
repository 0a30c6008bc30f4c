"""What a tool may ask of a guest kernel: a handful of system calls, as typed Python.

A `GuestKernel` is whatever answers them: a session on a memory snapshot, or (in the tests) the machine we run
on. A call that the guest's kernel refuses raises `OSError` with the guest's errno and the path as its
`filename`; a call that did not end well and was thrown away raises `errors.CallRolledBack`. After either the
next call works as if the failed one had never been made.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

from hybridbridge_vol.errors import CallRolledBack

P = TypeVar("P")
T = TypeVar("T")


class Stat(NamedTuple):
    """What `lstat(2)` says of a path; the names are those of `struct stat` without its `st_`."""

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


class Uname(NamedTuple):
    """What `uname(2)` says (`struct new_utsname`)."""

    sysname: str
    nodename: str
    release: str
    version: str
    machine: str
    domainname: str


class Sysinfo(NamedTuple):
    """What `sysinfo(2)` says (`struct sysinfo`); amounts of memory count units of `mem_unit` bytes."""

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
    """The task that a CPU was at. `tgid` and `tid` are what getpid(2) and gettid(2) would have answered it;
    0: idle."""

    cpu: int
    tgid: int
    tid: int


class RegisterSet(NamedTuple):
    """Registers in the form that a core has them in: `kind` is the type of their note (NT_*,
    include/uapi/linux/elf.h)."""

    kind: int
    content: bytes


class Registers(NamedTuple):
    """A thread's registers. `machine` is whose: EM_X86_64, or EM_386 for a 32-bit program. The first of
    `sets` are the general ones (`struct user_regs_struct`); of a thread that was running there are no others,
    the processor had them."""

    machine: int
    sets: tuple[RegisterSet, ...]

    @property
    def general(self) -> bytes:
        return self.sets[0].content


class Difference(NamedTuple):
    """One thing in the guest's kernel that is not as the trusted kernel has it.

    `what`: text, traced (what the function tracer or a tracepoint's probe changed), kprobe, livepatch,
    rodata, syscall, data, idt, module, mapping (page tables that lead elsewhere), missing (what cannot be
    checked, and why), more (of this kind, not shown). `vaddr` is the guest's, `offset` the image file's
    (None: nowhere in it); `leads` tells where the code or pointer found leads.
    """

    what: str
    vaddr: int
    offset: int | None
    symbol: str
    expected: str | None
    found: str | None
    leads: str | None = None


class EndlessFile(OSError):
    """A file that does not end: a window on memory, or a list that leads back into itself. `partial` is what
    was read of it."""

    def __init__(self, path: str, partial: bytes) -> None:
        super().__init__(errno.EFBIG, f"does not end (given up after {len(partial)} bytes)", path)
        self.partial = partial


QuestionKind = Literal["read", "listdir", "readlink", "lstat", "stat"]
"""`read_file`, `listdir`, `readlink`, `stat`, and `stat` that follows."""


class Question(NamedTuple):
    """Something to be asked of a path."""

    kind: QuestionKind
    path: str


class GuestKernel(Protocol):
    """The kernel of the guest, frozen; paths are absolute and lead into its /proc and /sys."""

    def read_file(self, path: str) -> bytes:
        """The whole content: open, read to the end, close."""

    def expect(self, questions: Iterable[Question]) -> None:
        """These will be asked for next: an engine may ask them together, which is faster. Without effect on
        any answer. Some hundreds at a time: the answers are kept for a while only."""

    def each_part(self, parts: Sequence[P], answer: Callable[[P], T]) -> Iterator[T]:
        """`answer` of each of these, in their order; several at once, in copies of this process, where that
        is faster. An answer is made of plain data and reads nothing that another one writes."""

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """`pread(2)` of a file opened for it: up to `size` bytes from `offset`; at most a MiB."""

    def in_image(self, paddr: int, size: int) -> bool:
        """Whether the image holds these bytes of physical memory."""

    def registers(self, tid: int) -> Registers | None:
        """A thread's registers as it entered the kernel; None if they cannot be had."""

    def task_list(self) -> tuple[list[tuple[int, int]], str]:
        """`(pid, virtual address of the task_struct)` of every process on the kernel's own list, and why the
        list is not whole (empty if it is)."""

    def tasks_in_memory(self, listed: Iterable[int]) -> list[int]:
        """Process ids of the task_structs that are in the kernel's memory for such, but for those `listed`
        (virtual addresses, of some of which it must be told); those of one that was freed are not told."""

    def module_pages(self) -> Iterator[int]:
        """Virtual addresses of the pages that are mapped where modules lie."""

    def symbol(self, vaddr: int) -> str:
        """How the kernel names an address in its messages: `name+0x0/0x10 [module]`, or the number if nothing
        is there."""

    def progress(self, fraction: float, text: str) -> None:
        """Show how far a long answer has come; 1 ends it."""

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, without `.` and `..`, in the kernel's order."""

    def readlink(self, path: str) -> str:
        """Where a symbolic link points, as `readlink(2)` tells it."""

    def stat(self, path: str, follow: bool = False) -> Stat:
        """`lstat(2)`: a symbolic link is described, not followed; with `follow` `stat(2)`. What
        `/proc/PID/fd/N` and its like lead to is found whatever the path says."""

    def uname(self) -> Uname:
        """The names of the system, from the snapshot's own UTS namespace."""

    def sysinfo(self) -> Sysinfo:
        """Memory, load and uptime."""

    def syslog(self, action: int, size: int) -> bytes:
        """`syslog(2)`: what `action` (3: read all) puts into a buffer of `size` bytes."""

    def rtnetlink(self, kind: int, body: bytes) -> bytes:
        """What `rtnetlink(7)` answers to a request for all of a kind (RTM_GET*): its messages, one after the
        other."""

    def running(self) -> list[Running | CallRolledBack]:
        """What each CPU that was online was at, in the order of their numbers; why it is not known."""

    def monotonic(self) -> float:
        """Seconds on CLOCK_MONOTONIC at the freeze: since boot, without time asleep."""

    def differences(self) -> Iterable[Difference]:
        """What of the kernel itself differs from the trusted one, and nothing of its own patching
        explains."""

    def realtime(self) -> float:
        """Seconds since the epoch at the freeze, by the guest's own clock (CLOCK_REALTIME)."""

    def boottime(self) -> float:
        """Seconds since boot at the freeze (CLOCK_BOOTTIME)."""
