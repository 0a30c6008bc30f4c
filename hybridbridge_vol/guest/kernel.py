"""What can be asked about a guest's kernel, as types: one protocol per facility.

`GuestKernel` is all of them together. Two things implement it: a session on a memory snapshot
(`guest.session`), and, in the tests, the machine that the tests run on. A function that needs one facility
takes that facility.

A call that the guest's kernel refuses raises `OSError` with the guest's errno, and the path as its
`filename`. A call that did not end well and was thrown away raises `errors.CallRolledBack`. After either the
next call works as if the failed one had never been made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:  # every tool has this module for its annotations: it loads nothing
    from hybridbridge_vol.allowance import Allowance
    from hybridbridge_vol.bridge.attachment import Bridge
    from hybridbridge_vol.bridge.objects.inode_cache import BrokenList, CachedInode
    from hybridbridge_vol.errors import CallRolledBack
    from hybridbridge_vol.guest.answer_labels import AnswerLabels
    from hybridbridge_vol.guest.file_attributes import FileAttributes
    from hybridbridge_vol.guest.file_content import Piece
    from hybridbridge_vol.guest.file_extents import Extent
    from hybridbridge_vol.guest.kernel_network import Netlink, PacketTables, RouteTables, SocketTables
    from hybridbridge_vol.guest.kernel_objects import BpfObjects, DeviceMapper, Keyrings, Queues
    from hybridbridge_vol.guest.values import (
        OpenDescriptor,
        Question,
        Registers,
        Running,
        Stat,
        Sysinfo,
        TaskList,
        Uname,
        Unmounted,
    )

P = TypeVar("P")
T = TypeVar("T")


class KernelFiles(Protocol):
    """/proc, /sys and the unified control groups as the guest's kernel makes them, whatever the guest has
    mounted over them."""

    def read(self, path: str) -> bytes:
        """See `Files`."""

    def listdir(self, path: str) -> list[str]:
        """See `Files`."""

    def stat(self, path: str, follow: bool = False) -> Stat:
        """See `Files`."""

    def expect(self, questions: Iterable[Question]) -> None:
        """See `Files`."""


class Files(Protocol):
    """The files of the guest, by absolute paths: /proc and /sys, and its own file systems as a process sees
    them. Of those, memory may hold a part only: IncompleteFile and IncompleteDirectory are
    OSErrors that have that part."""

    @property
    def process(self) -> str:
        """The folder in /proc of the process at whose root directory paths begin."""

    @property
    def of_the_kernel(self) -> KernelFiles:
        """/proc, /sys and the unified control groups as the kernel makes them."""

    def read(self, path: str) -> bytes:
        """The whole content of a file. EndlessFile if it does not end; MissingRecords if it is a list of
        which the kernel cannot write all records. Both have what there is."""

    def read_at(self, path: str, offset: int, size: int) -> bytes:
        """`pread(2)`: up to `size` bytes, at most a MiB, from `offset` of a file."""

    def listdir(self, path: str) -> list[str]:
        """The names in a directory, without `.` and `..`, in the kernel's order."""

    def readlink(self, path: str) -> str:
        """The target of a symbolic link, as `readlink(2)` reports it."""

    def stat(self, path: str, follow: bool = False) -> Stat:
        """`lstat(2)`: a symbolic link itself, not its target; with `follow` `stat(2)`. The target of
        `/proc/PID/fd/N` and its like is found whatever the path says."""

    def pieces(self, path: str) -> Iterator[Piece]:
        """The content of a file in ascending order: data, holes, and what memory does not hold."""

    def window(self, path: str, offset: int, size: int) -> Iterator[Piece]:
        """The same of its bytes from `offset` on, `size` at most: also of files that do not end. A page that
        cannot be read is missing, with its reason, and no other."""

    def attributes(self, path: str, follow: bool = False) -> FileAttributes:
        """`statx(2)`: all four times, and blocks."""

    def has_size(self, path: str) -> bool:
        """Whether the size of a file says how much can be read of it: not in /proc, /sys and their like."""

    def attributes_in(self, path: str, names: Iterable[str]) -> dict[str, FileAttributes]:
        """Those of entries of a directory, asked together, which is faster; those that are left out are to be
        asked for by `attributes`."""

    def whole_in(self, path: str, sizes: Mapping[str, int]) -> set[str]:
        """Those of the regular files of these sizes in a directory that memory holds as a whole, asked
        together; of the others `cached_bytes` says how much of them it holds."""

    def cached_bytes(self, path: str, size: int | None = None, by_reading: bool = False) -> int:
        """How many bytes of a regular file memory holds, in whole pages; holes count. `size` is the file's,
        if it is known; `by_reading`: it is in a file system that is stacked on another one."""

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """Bytes of a file, holes as zeros; fewer at its end. OSError if memory lacks any of them."""

    def extents(self, path: str) -> list[Extent]:
        """Where a file lies on the device of its file system, as far as that says (FIEMAP)."""

    def xattrs(self, path: str) -> dict[str, bytes]:
        """The extended attributes of a file by their names."""

    def unmounted(self, path: str) -> Unmounted | None:
        """The pseudo file system that a path leads into and that the guest had not mounted there; None for
        all other paths."""

    def all_unmounted(self) -> list[Unmounted]:
        """Pseudo file systems of the kinds that the guest's kernel has, which it had not mounted at their
        usual places."""

    def expect(self, questions: Iterable[Question]) -> None:
        """Announce what will be asked next: it may then be asked together, which is faster. No answer
        changes. Announce some hundreds at a time: answers are kept for a while only."""

    def descriptors(self, wanted: Iterable[tuple[int, int]]) -> Mapping[tuple[int, int], OpenDescriptor]:
        """What each `(process, descriptor)` leads to, asked together, which is much faster. What is missing
        in the answer, whatever the reason, is asked by its files in /proc/PID/fd and fdinfo."""

    def programs(self, pids: Iterable[int]) -> Mapping[int, OpenDescriptor]:
        """What /proc/PID/exe of these processes leads to, likewise."""

    def descriptor_numbers(self, pids: Iterable[int]) -> Mapping[int, list[int]]:
        """The descriptors of these processes, ascending, asked together, likewise. What is missing in the
        answer is asked by listing /proc/PID/fd."""


class Inodes(Protocol):
    """The inodes that the kernel holds, whether a path leads to them or not."""

    def cached(self) -> tuple[list[CachedInode], list[BrokenList]]:
        """Those of all file systems but the ones whose files the kernel makes up; and the lists that break
        off. `guest.inode_paths.path_of` gives a path by which one can be asked for and read. OSError if they
        cannot be found."""

    def name(self, inode: CachedInode) -> str:
        """The path of an inode that has a dentry, as /proc/PID/fd would show it: ` (deleted)` behind a name
        that was removed."""


class System(Protocol):
    """System calls that report about the whole machine."""

    def uname(self) -> Uname:
        """The names of the system, from the guest's own UTS namespace."""

    def sysinfo(self) -> Sysinfo:
        """Memory, load and uptime."""

    def syslog(self, action: int, size: int) -> bytes:
        """`syslog(2)`: what `action` (3: read all) puts into a buffer of `size` bytes."""


class Clocks(Protocol):
    """The guest's clocks at capture time, in seconds."""

    def realtime(self) -> float:
        """CLOCK_REALTIME: since the epoch, by the guest's own clock."""

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC: since boot, without time asleep."""

    def boottime(self) -> float:
        """CLOCK_BOOTTIME: since boot."""


class Tasks(Protocol):
    """Searches for processes that do not go through /proc."""

    def listed(self) -> TaskList:
        """Every process on the kernel's own list of tasks."""

    def in_memory(self, listed_vaddrs: Iterable[int]) -> list[int]:
        """Ids of the processes whose task_struct lies in the kernel's memory for task_structs but is none of
        `listed_vaddrs` (virtual addresses of known task_structs; some are needed to find the others). Freed
        ones are left out."""

    def groups(self, pids: Iterable[int]) -> dict[int, int]:
        """The process (thread group) that each of these process ids is one of, as far as it can be asked
        together."""


class Cpus(Protocol):
    """The guest's processors."""

    def running(self) -> list[Running | CallRolledBack]:
        """What each online CPU was running, in the order of their numbers, or why that is not known."""


class Threads(Protocol):
    """The registers of threads."""

    def registers(self, tid: int) -> Registers | None:
        """A thread's registers as it entered the kernel; None if they cannot be had."""


class Addresses(Protocol):
    """What lies at an address of the guest."""

    def in_image(self, paddr: int, size: int) -> bool:
        """Whether the image holds these bytes of physical memory."""

    @property
    def has_modules(self) -> bool:
        """Whether the kernel can have modules at all."""

    @property
    def modules_area(self) -> range:
        """The virtual addresses that the kernel's modules may have."""

    def module_pages(self) -> Iterator[int]:
        """Virtual addresses of the pages that are mapped in the kernel's area for modules."""

    def symbol(self, vaddr: int) -> str:
        """An address as the kernel prints it in its messages: `name+0x0/0x10 [module]`, or the number if
        nothing is there."""

    def expect(self, vaddrs: Iterable[int]) -> None:
        """`symbol` will be asked for these addresses: an opportunity to find out together. Nothing is asked
        under taint, and while a file is open."""

    def modules_in_memory(self) -> Iterable[str]:
        """The names of the modules whose `struct module` lies in the area for modules, listed or not.
        LookupError or StoreError if they cannot be looked for."""

    def vmalloc_areas(self) -> Iterable[tuple[int, int, str]]:
        """Address, bytes and the function that asked for it, of each area of vmalloc. LookupError or
        StoreError if they cannot be followed."""

    def interrupt(self, number: int) -> int:
        """The address of an interrupt's `struct irq_desc`; 0 if there is none. CallRolledBack; LookupError if
        the kernel has no function for it."""


class Devices(Protocol):
    """Registers of devices, which no image has."""

    def answer(self) -> bool:
        """If a call was rolled back because it read a register: from now on they read as zeros, and the call
        may be made again. Whether that is so. Whoever shows an answer then says what it rests on, and ends it
        with `refuse`."""

    def refuse(self) -> None:
        """From now on a call that reads a register is rolled back; it is what a session begins with."""


class Workers(Protocol):
    """Several processors at one question."""

    def map(
        self, answer: Callable[[P], T], parts: Sequence[P], most: int | None = None, least: int = 0
    ) -> Iterator[T]:
        """`answer` of each part, in their order; several at once, in forked copies of this process, where
        that is faster and there are at least `least` parts; at most `most` processors. An answer is made of
        plain data and reads nothing that another one writes."""


class GuestKernel(Protocol):
    """The kernel of the guest at capture time, by facility."""

    @property
    def files(self) -> Files: ...
    @property
    def inodes(self) -> Inodes: ...
    @property
    def system(self) -> System: ...
    @property
    def clocks(self) -> Clocks: ...
    @property
    def tasks(self) -> Tasks: ...
    @property
    def cpus(self) -> Cpus: ...
    @property
    def threads(self) -> Threads: ...
    @property
    def addresses(self) -> Addresses: ...
    @property
    def devices(self) -> Devices: ...
    @property
    def routes(self) -> RouteTables: ...
    @property
    def sockets(self) -> SocketTables: ...
    @property
    def netlink(self) -> Netlink: ...
    @property
    def packet_tables(self) -> PacketTables: ...
    @property
    def bpf(self) -> BpfObjects: ...
    @property
    def keyrings(self) -> Keyrings: ...
    @property
    def device_mapper(self) -> DeviceMapper: ...
    @property
    def queues(self) -> Queues: ...
    @property
    def workers(self) -> Workers: ...

    @property
    def answer_labels(self) -> AnswerLabels:
        """Where the bytes of answers come from."""

    @property
    def allowance(self) -> Allowance:
        """What the answer that is being made may take of this machine."""

    @property
    def bridge(self) -> Bridge:
        """The trusted kernel attached to the image, for what compares one with the other."""

    def progress(self, fraction: float, text: str) -> None:
        """Show how far a long answer has come; 1 ends it."""
