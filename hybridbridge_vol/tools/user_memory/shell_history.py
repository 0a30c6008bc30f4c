"""The rows of bash: what was typed at each process that keeps a history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.maps import Mapping, entries
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Row
from hybridbridge_vol.tools.file_system.accounts import Accounts
from hybridbridge_vol.tools.process.listing import comm_of, expected, files_of, owner_of, read_maps
from hybridbridge_vol.tools.user_memory.dynamic_symbols import LoadedFile
from hybridbridge_vol.tools.user_memory.gnu_history import Entry, history_of
from hybridbridge_vol.tools.user_memory.memory_reader import MemoryReader
from hybridbridge_vol.tools.user_memory.typed_lines import SHELLS, command_names, lines_like_commands

_LIBRARIES = ("libreadline.so", "libhistory.so")
EXACT, SCANNED = "exact", "scanned"


class Shells:
    """The histories of processes. What is the same for many is read once."""

    def __init__(self, kernel: GuestKernel, scan: bool) -> None:
        self._files: Files = kernel.files
        self._scan = scan
        self._accounts = Accounts(kernel.files)
        self._without: set[tuple[str, int, str]] = set()
        """Files that have no GNU History in them: device, inode, path."""
        self._processes: dict[int, tuple[Cell, Cell]] = {}
        """Name and user."""
        self._names: set[bytes] | None = None
        self._accounts.read_users()

    def rows(self, pids: list[int]) -> list[Row]:
        """The rows about some processes."""
        return list(self._rows(pids))

    def _rows(self, pids: list[int]) -> Iterator[Row]:
        self._files.expect(files_of(pids, "exe", kind="readlink"))
        for pid in expected(self._files, pids, "maps", "comm"):
            yield from self._of_process(pid)

    def _of_process(self, pid: int) -> Iterator[Row]:
        path = f"/proc/{pid}/maps"
        data, read_error = read_maps(self._files, path)
        if read_error:
            yield self._row(pid, None, None, None, read_error, Source(path))
        mappings = [it.mapping for it in entries(path, data) if isinstance(it.mapping, Mapping)]
        if not mappings:
            return
        exe = self._program(pid)
        exact: set[bytes] = set()
        for entry in self._exact(pid, exe, mappings):
            if isinstance(entry.line, bytes):
                exact.add(entry.line)
                line: Cell = text(entry.line)
            else:
                line = Unavailable(f"/proc/{pid}/mem: {entry.line}")
            number = entry.number if entry.number >= 0 else None
            yield self._row(pid, number, entry.seconds, EXACT, line, Source(f"/proc/{pid}/mem"))
        if self._scan and SHELLS.fullmatch(exe.rpartition("/")[2]):
            yield from self._scanned(pid, mappings, exact)

    def _program(self, pid: int) -> str:
        try:
            return self._files.readlink(f"/proc/{pid}/exe")
        except UNREADABLE:
            return ""

    def _exact(self, pid: int, exe: str, mappings: Sequence[Mapping]) -> Iterator[Entry]:
        memory = MemoryReader(self._files, pid, mappings)
        for mapping in mappings:
            name = mapping.path.rpartition("/")[2]
            key = mapping.device, mapping.inode, mapping.path
            if mapping.offset or not mapping.inode or key in self._without:
                continue
            if mapping.path != exe and not name.startswith(_LIBRARIES):
                continue
            try:
                found = history_of(memory, LoadedFile(memory.read, mapping.start_vaddr))
            except ValueError as error:
                found = None
                if name.startswith(("bash", *_LIBRARIES)):
                    yield Entry(-1, None, f"{mapping.path}: {error}")
            except OSError as error:
                found = None
                if name.startswith(("bash", *_LIBRARIES)):
                    yield Entry(-1, None, f"{mapping.path}: {error.strerror}")
                continue
            if found is None:
                self._without.add(key)
            else:
                yield from found

    def _scanned(self, pid: int, mappings: Sequence[Mapping], exact: set[bytes]) -> Iterator[Row]:
        if self._names is None:
            self._names = command_names(self._files)
        source = Source(f"/proc/{pid}/mem")
        try:
            for line in lines_like_commands(self._files, pid, mappings, self._names):
                if line not in exact:
                    yield self._row(pid, None, None, SCANNED, text(line), source)
        except UNREADABLE as error:
            yield self._row(pid, None, None, SCANNED, why(source.path, error), source)

    def _row(self, pid: int, number: Cell, seconds: Cell, how: Cell, line: Cell, source: Source) -> Row:
        if pid not in self._processes:
            folder = f"/proc/{pid}"
            user = self._accounts.user_cell(owner_of(self._files, folder))
            self._processes[pid] = comm_of(self._files, folder), user
        return Row((pid, *self._processes[pid], number, seconds, how, line), sources=(source,))
