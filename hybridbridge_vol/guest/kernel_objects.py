"""What can be asked about objects of a guest's kernel that are in no file, as types: eBPF, keys, the device
mapper, queues. `guest.kernel` has the other facilities, and says what the calls raise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from hybridbridge_vol.guest.values import BpfEvent, BpfInfo, QueuedMessage, QueueEnd, Target


class BpfObjects(Protocol):
    """The kernel's eBPF programs, maps, links and types, by bpf(2)."""

    def ids(self, kind: str) -> list[int]:
        """The ids of all "prog", "map", "link" or "btf", rising. OSError."""

    def info(self, kind: str, number: int) -> BpfInfo:
        """What the kernel says of one. OSError."""

    def elements(self, number: int) -> Iterator[tuple[bytes, bytes | OSError]]:
        """Keys of a map and their values, or why there is none. OSError, also where the list does not end."""

    def event(self, pid: int, fd: int) -> BpfEvent:
        """The program that a process's perf event runs. OSError, with ENOENT if it runs none."""

    def of_cgroup(self, path: str, attach_types: Iterable[int]) -> list[tuple[int, int]]:
        """Which programs are attached to a control group in one of these ways: the way (enum bpf_attach_type)
        and the program's id. A way that the kernel does not know is left out. OSError."""

    def pins(self, paths: Iterable[str], objects: Iterable[tuple[str, int]]) -> dict[str, tuple[str, int]]:
        """Which of the objects (kind and id) is at each of these paths of a bpf file system, if any."""


class Keyrings(Protocol):
    """The keys that the kernel keeps."""

    def as_user(self, uid: int) -> AbstractContextManager[None]:
        """What is asked inside of the block is asked with the rights of a user."""

    def describe(self, serial: int) -> tuple[str, str]:
        """The type and the description of a key. OSError."""

    def members(self, serial: int) -> list[int]:
        """The serial numbers of the keys in a keyring. OSError."""

    def payload(self, serial: int, kind: str) -> bytes:
        """What a key of a type holds, whoever may read it. OSError."""


class DeviceMapper(Protocol):
    """The tables of the device mapper."""

    def targets(self) -> Iterator[Target]:
        """The targets of all devices. OSError with ENOENT where there is no device mapper."""


class Queues(Protocol):
    """Data that nobody has read yet. None of it is taken away."""

    def expect(self, ends: Sequence[QueueEnd]) -> None:
        """Announce the ends that `of_descriptor` will be asked about, some thousands at a time: they are
        asked together, which is much faster. No answer changes."""

    def of_descriptor(self, pid: int, fd: int, is_socket: bool) -> list[QueuedMessage]:
        """What waits in the socket, or in the pipe or terminal, that a descriptor of a process leads to; of a
        socket that keeps messages apart each of them. OSError."""

    def system_v(self, identifier: int, count: int) -> list[QueuedMessage]:
        """The first messages of a System V queue. OSError."""

    def posix(self, path: str) -> list[QueuedMessage]:
        """The messages of a POSIX queue by its path, those of the highest priority first. OSError."""
