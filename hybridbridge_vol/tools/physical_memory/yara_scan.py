"""The rows of yara: memory is shared out into units, each searched once; what is found gets its owners."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Row
from hybridbridge_vol.tools.physical_memory import scan_units
from hybridbridge_vol.tools.physical_memory.cached_files import cached_files
from hybridbridge_vol.tools.physical_memory.page_kind import flags_of, kind_of
from hybridbridge_vol.tools.physical_memory.process_frames import ProcessFrames, frames_of, owners_of
from hybridbridge_vol.tools.physical_memory.scan_units import Seen, Unit
from hybridbridge_vol.tools.physical_memory.search_journal import Found, SearchJournal
from hybridbridge_vol.tools.physical_memory.yara_rules import Match, YaraRules
from hybridbridge_vol.units import PAGE_SIZE, short_size

_BATCH = 32 << 20
"""Bytes that one worker searches before it takes the next."""
MAX_ROWS = 100_000
_OWNERS_NAMED = 32


Matched = tuple[Unit, list[Match] | str]
"""A unit, and what was found in it or why it was given up."""


@dataclass
class _Subject:
    """Whose memory a unit is: of a process, or of the file `path`; of neither: the rest."""

    kind: str
    process: ProcessFrames | None = None
    path: str = ""


@dataclass
class Scan:
    """What is to be searched: `scopes` are processes, files, kernel, free. `jobs`: by at most so many
    processors; `journal`: the file of this machine from which an interrupted search goes on."""

    kernel: GuestKernel
    rules: YaraRules
    scopes: frozenset[str]
    pids: Sequence[int]
    jobs: int | None = None
    journal: str | None = None
    _subjects: list[_Subject] = field(default_factory=list)
    _processes: list[ProcessFrames] = field(default_factory=list)
    _errors: list[Unavailable] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        """The matches; then what could not be searched."""
        batches = list(_batches(self._units()))
        numbers = count(1)
        with self._journal(batches) or nullcontext() as journal:
            for found in self._searched(batches, journal):
                owners = self._owners(found)
                for unit, matches in found:
                    for row in self._of_unit(unit, matches, owners):
                        if next(numbers) > MAX_ROWS:
                            yield _unread(Unavailable(f"given up after {MAX_ROWS:,} matches"))
                            return
                        yield row
        self.kernel.progress(1, "searching memory")
        for error in self._errors:
            yield _unread(error)

    def _searched(
        self, batches: Sequence[list[Unit]], journal: SearchJournal | None
    ) -> Iterator[list[Matched]]:
        """What was found in each batch, in their order."""
        image = self.kernel.bridge.image
        known = journal.done if journal else {}
        left = [batch for number, batch in enumerate(batches) if number not in known]
        sizes = [sum(unit.size for unit in batch) for batch in batches]
        whole, done = sum(sizes), 0

        def answer(batch: list[Unit]) -> list[tuple[int, list[Match] | str]]:
            found = [(index, self.rules.search(unit.content(image))) for index, unit in enumerate(batch)]
            return [(index, matches) for index, matches in found if matches]

        answers = self.kernel.workers.map(answer, left, self.jobs)
        for number, batch in enumerate(batches):
            if journal is None or number not in known:
                found = next(answers)
                if journal is not None:
                    journal.add(number, _as_json(found))
            else:
                found = _of_json(known[number], len(batch), str(self.journal))
            done += sizes[number]
            words = f"searching memory: {short_size(done)} of {short_size(whole)}"
            self.kernel.progress(done / whole * 0.99, words)
            yield [(batch[index], matches) for index, matches in found]

    def _journal(self, batches: Sequence[list[Unit]]) -> SearchJournal | None:
        """The file to go on from: of this image, these rules, and the same memory in the same order.
        OptionError."""
        if self.journal is None:
            return None
        image = self.kernel.bridge.image
        seen = os.fstat(image.fileno())
        units = hashlib.sha256()
        for batch in batches:
            for unit in batch:
                units.update(repr((self._subjects[unit.subject].kind, *unit)).encode())
        search = (str(image.path), seen.st_size, seen.st_mtime_ns, self.rules.digest(), units.hexdigest())
        return SearchJournal(self.journal, search, len(batches))

    def _units(self) -> list[Unit]:
        image = self.kernel.bridge.image
        units: list[Unit] = []
        seen = Seen(image.end_paddr)
        for process in frames_of(self.kernel, list(self.pids), self.jobs):
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
            for file in cached_files(self.kernel, self.jobs):
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

    def _owners(self, found: list[Matched]) -> dict[int, list[tuple[int, str, int]]]:
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


def _as_json(found: list[tuple[int, list[Match] | str]]) -> Found:
    return [
        (index, matches if isinstance(matches, str) else [(*it[:-1], it.content.hex()) for it in matches])
        for index, matches in found
    ]


def _of_json(found: Found, units: int, path: str) -> list[tuple[int, list[Match] | str]]:
    """What `_as_json` was given, of a batch of so many units. OptionError."""
    try:
        made = [
            (
                range(units)[index],
                matches if isinstance(matches, str) else [
                    Match(str(rule), str(pattern), int(offset), int(size), bytes.fromhex(content))
                    for rule, pattern, offset, size, content in matches
                ],
            )
            for index, matches in found
        ]  # fmt: skip
    except (TypeError, ValueError, IndexError):
        raise OptionError(f"{path}: damaged: what it says of a batch cannot be read") from None
    return made


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
