"""The rows of yara: memory is shared out into units, each searched once; what is found gets its owners."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Row
from hybridbridge_vol.tools.physical_memory import scan_units
from hybridbridge_vol.tools.physical_memory.cached_files import cached_files
from hybridbridge_vol.tools.physical_memory.page_kind import flags_of, kind_of
from hybridbridge_vol.tools.physical_memory.process_frames import ProcessFrames, frames_of, owners_of
from hybridbridge_vol.tools.physical_memory.scan_units import Seen, Unit
from hybridbridge_vol.tools.physical_memory.yara_rules import Match, YaraRules
from hybridbridge_vol.units import PAGE_SIZE

_BATCH = 32 << 20
"""Bytes that one worker searches before it takes the next."""
MAX_ROWS = 100_000
_OWNERS_NAMED = 32


@dataclass
class _Subject:
    """Whose memory a unit is: of a process, or of the file `path`; of neither: the rest."""

    kind: str
    process: ProcessFrames | None = None
    path: str = ""


@dataclass
class Scan:
    """What is to be searched: `scopes` are processes, files, kernel, free."""

    kernel: GuestKernel
    rules: YaraRules
    scopes: frozenset[str]
    pids: Sequence[int]
    _subjects: list[_Subject] = field(default_factory=list)
    _processes: list[ProcessFrames] = field(default_factory=list)
    _errors: list[Unavailable] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        """The matches; then what could not be searched."""
        units = self._units()
        batches = list(_batches(units))
        image = self.kernel.bridge.image
        number = 0

        def answer(batch: list[Unit]) -> list[tuple[Unit, list[Match] | str]]:
            found = [(unit, self.rules.search(unit.content(image))) for unit in batch]
            return [(unit, matches) for unit, matches in found if matches]

        for done, found in enumerate(self.kernel.workers.map(answer, batches), 1):
            self.kernel.progress(done / len(batches) * 0.99, "searching memory")
            owners = self._owners(found)
            for unit, matches in found:
                for row in self._of_unit(unit, matches, owners):
                    number += 1
                    if number > MAX_ROWS:
                        yield _unread(Unavailable(f"given up after {MAX_ROWS:,} matches"))
                        return
                    yield row
        self.kernel.progress(1, "searching memory")
        for error in self._errors:
            yield _unread(error)

    def _units(self) -> list[Unit]:
        image = self.kernel.bridge.image
        units: list[Unit] = []
        seen = Seen(image.end_paddr)
        for process in frames_of(self.kernel, list(self.pids)):
            self._processes.append(process)
            if process.read_error:
                self._errors.append(process.read_error)
            for mapped in process.mapped:
                subject = self._subject(_Subject("process", process, mapped.mapping.path))
                for run in mapped.runs:
                    units += scan_units.of_run(subject, run, seen)
        if self.scopes != {"processes"}:
            units += self._files(seen)
        if "processes" not in self.scopes:
            units = [unit for unit in units if self._subjects[unit.subject].kind != "process"]
        if self.scopes & {"kernel", "free"}:
            rest = self._subject(_Subject("rest"))
            units += scan_units.of_rest(rest, image.ranges, seen)
        return units

    def _files(self, seen: Seen) -> list[Unit]:
        """Units of files that no process has mapped, or in part."""
        units: list[Unit] = []
        try:
            for file in cached_files(self.kernel):
                if isinstance(file, Unavailable):
                    if "files" in self.scopes:
                        self._errors.append(file)
                    continue
                subject = self._subject(_Subject("file", path=file.path))
                units += scan_units.of_file(subject, file.ranges, seen)
        except UNREADABLE as error:
            self._errors.append(why("the kernel's list of inodes", error))
        return units if "files" in self.scopes else []

    def _subject(self, subject: _Subject) -> int:
        self._subjects.append(subject)
        return len(self._subjects) - 1

    def _owners(self, found: list[tuple[Unit, list[Match] | str]]) -> dict[int, list[tuple[int, str, int]]]:
        """Who has the pages of the matches mapped: of all matches together, as all pages of all processes are
        looked through for it."""
        frames = {
            unit.paddr(unit.start + match.offset) // PAGE_SIZE
            for unit, matches in found
            if not isinstance(matches, str) and self._subjects[unit.subject].kind != "rest"
            for match in matches
        }
        return owners_of(self._processes, frames) if frames else {}

    def _of_unit(
        self, unit: Unit, matches: list[Match] | str, all_owners: dict[int, list[tuple[int, str, int]]]
    ) -> Iterator[Row]:
        subject = self._subjects[unit.subject]
        if isinstance(matches, str):
            yield _unread(Unavailable(f"{unit.size >> 10} KiB at {unit.start:#x}: {matches}"))
            return
        owners = all_owners if subject.kind != "rest" else {}
        for match in matches:
            address = unit.start + match.offset
            if not unit.is_fresh(address, match.size):
                continue
            paddr = unit.paddr(address)
            kind: Cell = subject.kind
            if subject.kind == "rest":
                kind = kind_of(flags_of(self.kernel.files, paddr // PAGE_SIZE))
                if not self._is_wanted(kind):
                    continue
            yield self._row(subject, match, kind, address, paddr, owners.get(paddr // PAGE_SIZE, []))

    def _is_wanted(self, kind: Cell) -> bool:
        return isinstance(kind, Unavailable) or ("free" if kind == "free" else "kernel") in self.scopes

    def _row(
        self, subject: _Subject, match: Match, kind: Cell, address: int, paddr: int,
        owners: list[tuple[int, str, int]],
    ) -> Row:  # fmt: skip
        process = subject.process
        others = [
            f"{pid}/{comm} at {vaddr + address % PAGE_SIZE:#x}"
            for pid, comm, vaddr in owners
            if process is None or (pid, vaddr) != (process.pid, address & -PAGE_SIZE)
        ]
        named = ", ".join(others[:_OWNERS_NAMED])
        if len(others) > _OWNERS_NAMED:
            named += f" and {len(others) - _OWNERS_NAMED} more"
        cells: tuple[Cell, ...] = (
            match.rule, match.pattern or None, kind, process.pid if process else None,
            process.comm if process else None, address if subject.kind != "rest" else None, paddr,
            self.kernel.bridge.image.offset_of(paddr), match.size, _shown(match.content),
            subject.path or None, named or None,
        )  # fmt: skip
        return Row(cells)


def _shown(content: bytes) -> str | None:
    """Bytes as text where they are, otherwise in hexadecimal."""
    if not content:
        return None
    text = content.decode("ascii", "replace")
    return text if text.isprintable() and "\ufffd" not in text else content.hex()


def _unread(reason: Unavailable) -> Row:
    return Row((reason,) * 12)


def _batches(units: list[Unit]) -> Iterator[list[Unit]]:
    batch: list[Unit] = []
    size = 0
    for unit in units:
        batch.append(unit)
        size += unit.size
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
