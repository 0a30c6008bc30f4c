"""What the open files and sockets of processes are worked with, whatever their inodes and protocols say.

Sources: include/linux/fs.h, include/linux/fdtable.h, include/linux/net.h, include/net/sock.h (Linux 5.10 to
7.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, Lost, Operations, each

MAX_DESCRIPTORS = 1 << 20
"""Of one process (sysctl_nr_open, fs/file.c): a larger table is not followed beyond."""
MAX_OPEN = 1 << 30
"""sysctl_nr_open_max (fs/file.c): what systemd sets fs.nr_open to."""
MOST_LOST = 64
"""Descriptors of one process that are followed to no file: then its table is none."""
_SOCKET_FILES = "socket_file_ops"
_CALLS = (
    "sk_state_change", "sk_data_ready", "sk_write_space", "sk_error_report", "sk_backlog_rcv", "sk_destruct",
)  # fmt: skip
"""What the network calls of a socket by pointers in it."""


def is_table_size(count: int) -> bool:
    """Whether the kernel makes tables for so many descriptors: 64 in the structure itself, else a power of
    two, or with fs.nr_open a multiple of 64 (`alloc_fdtable`, fs/file.c). A task that ended while the image
    was taken has left other words there."""
    if count & (count - 1) == 0:
        return 0 < count <= MAX_OPEN
    return count % 64 == 0 and count <= MAX_DESCRIPTORS


class OpenFiles:
    """Of one snapshot."""

    def __init__(self, memory: TypedMemory, names: KernelNames) -> None:
        self._memory = memory
        self._names = names
        self._seen: set[tuple[str, int]] = set()

    def all(self) -> Iterator[Found]:
        """Each table, and each function of a socket, once: with the first descriptor that has it."""
        self._seen = set()
        memory = self._memory
        head = memory.at(memory.symbol("init_task"), "task_struct", "tasks")
        return each(memory.list(head, "task_struct", "tasks"), self._process)

    def _process(self, task: int) -> Iterator[Found]:
        memory = self._memory
        files = memory.get(task, "task_struct", "files")
        if not files:
            return
        owner = f"{memory.get(task, 'task_struct', 'pid')} {memory.name(task, 'task_struct', 'comm')}"
        table = memory.get(files, "files_struct", "fdt")
        count = memory.get(table, "fdtable", "max_fds")
        if not is_table_size(count):
            yield Lost(f"the descriptors of {owner}: a table of {count} is none of the kernel's")
            return
        count = min(count, MAX_DESCRIPTORS)
        descriptors = enumerate(memory.pointers(memory.get(table, "fdtable", "fd"), count))
        places = {file: f"descriptor {number} of {owner}" for number, file in descriptors if file}
        lost = 0
        for found in each(places, lambda file: self._file(places[file], file)):
            lost += isinstance(found, Lost)
            if lost > MOST_LOST:
                yield Lost(f"the descriptors of {owner}: more than {MOST_LOST} lead to no files")
                return
            yield found

    def _file(self, what: str, file: int) -> Iterator[Found]:
        memory = self._memory
        operations = memory.get(file, "file", "f_op")
        yield from self._table(what, "file_operations", operations, file)
        if self._names.function(operations) == _SOCKET_FILES:
            yield from self._socket(what, memory.get(file, "file", "private_data"))

    def _socket(self, what: str, socket: int) -> Iterator[Found]:
        memory = self._memory
        yield from self._table(what, "proto_ops", memory.get(socket, "socket", "ops"), socket)
        sock = memory.get(socket, "socket", "sk")
        if not sock:
            return
        yield from self._table(what, "proto", memory.get(sock, "sock", "__sk_common.skc_prot"), sock)
        for field in _CALLS:
            function = memory.get(sock, "sock", field)
            if function and self._is_new(field, function):
                yield Hook(f"{what} ({field})", function, sock)

    def _table(self, what: str, struct_name: str, table: int, vaddr: int) -> Iterator[Found]:
        if table and self._is_new(struct_name, table):
            yield Operations(what, struct_name, table, vaddr)

    def _is_new(self, kind: str, vaddr: int) -> bool:
        is_new = (kind, vaddr) not in self._seen
        self._seen.add((kind, vaddr))
        return is_new
