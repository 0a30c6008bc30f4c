"""Recovering files: walk the guest's tree, store what memory holds of each file, and write the manifest."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridbridge_vol.errors import RecoverError
from hybridbridge_vol.guest.file_content import MissingRange
from hybridbridge_vol.guest.file_extents import Extent
from hybridbridge_vol.guest.inode_paths import vaddr_of
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.file_system.unreached import every_file
from hybridbridge_vol.tools.file_system.walk import Entry
from hybridbridge_vol.workflow.recover import manifest
from hybridbridge_vol.workflow.recover.content import RecoveredContent, spool
from hybridbridge_vol.workflow.recover.guest_disk import Disk, DiskRange, on_disk
from hybridbridge_vol.workflow.recover.manifest import Recovered
from hybridbridge_vol.workflow.recover.output import (
    DELETED,
    FILES,
    INCOMPLETE,
    INODES,
    FolderTarget,
    TarTarget,
    safe_name,
    target_for,
)

_JOURNAL = "manifest.jsonl"


@dataclass(frozen=True)
class Selection:
    """Which files: those that match one of the patterns, if there are any."""

    patterns: tuple[str, ...] = ()

    def wants(self, entry: Entry) -> bool:
        shown = entry.shown_as or entry.path
        return not self.patterns or any(fnmatch.fnmatchcase(shown, pattern) for pattern in self.patterns)


@dataclass
class Summary:
    """What a recovery came to."""

    files: int = 0
    complete: int = 0
    recovered_bytes: int = 0
    errors: int = 0
    parquet: bool = True

    def add(self, row: Recovered) -> None:
        self.files += 1
        self.complete += row.complete
        self.recovered_bytes += row.recovered_bytes
        self.errors += bool(row.error)


def recover(session: Session, out: Path, selection: Selection, disks: Sequence[Disk] = ()) -> Summary:
    """Recover the selected files of a snapshot into a folder, or an archive (`out` ends in `.tar`).

    The manifest lies in the folder, or beside the archive. A folder with the journal of an interrupted
    recovery is continued. RecoverError if the output cannot be written.
    """
    target = target_for(out)
    beside = target.folder if isinstance(target, FolderTarget) else out.parent
    prefix = "" if isinstance(target, FolderTarget) else out.name + "."
    journal = beside / (prefix + _JOURNAL)
    done = _journal_of(journal) if isinstance(target, FolderTarget) else {}
    rows = list(done.values())
    work = _Recovery(session, target, disks)
    try:
        with journal.open("a" if done else "w", encoding="ascii") as file:
            for row in work.rows(_entries(session, selection, done)):
                rows.append(row)
                file.write(row.dump() + "\n")
                file.flush()
        target.close()
    except BaseException:
        if isinstance(target, TarTarget):
            target.abandon()
        raise
    summary = Summary()
    for row in rows:
        summary.add(row)
    manifest.write_csv(beside / f"{prefix}manifest.csv", rows)
    summary.parquet = manifest.write_parquet(beside / f"{prefix}manifest.parquet", rows)
    journal.unlink()
    return summary


def _journal_of(path: Path) -> dict[str, Recovered]:
    """What an interrupted recovery has done, by what was read."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RecoverError(f"{path}: {error.strerror}") from None
    rows = (manifest.parse_line(line) for line in lines)
    return {row.read_from: row for row in rows if row is not None and not row.error}


def _entries(session: Session, selection: Selection, done: dict[str, Recovered]) -> list[Entry]:
    """The files to recover; entries that cannot be read among them."""
    found = []
    for number, entry in enumerate(every_file(session)):
        session.progress(0.0, f"listing files: {number:,}")
        wanted = entry.is_regular or entry.attributes is None
        if wanted and selection.wants(entry) and entry.path not in done:
            found.append(entry)
    return found


@dataclass(frozen=True)
class _Recovery:
    """One recovery: from where, to where."""

    session: Session
    target: FolderTarget | TarTarget
    disks: Sequence[Disk]

    def rows(self, entries: list[Entry]) -> Iterator[Recovered]:
        for number, entry in enumerate(entries):
            self.session.progress(number / len(entries), f"recovering {entry.shown_as or entry.path}")
            yield self._row(entry)
        self.session.progress(1.0, "")

    def _row(self, entry: Entry) -> Recovered:
        if entry.attributes is None:
            return self._record(entry, error=entry.error.reason if entry.error else "")
        try:
            pieces = self.session.files.pieces(entry.path, entry.attributes.size)
            content = spool(pieces, self.target.folder, self._filler(entry))
        except UNREADABLE as error:
            return self._record(entry, error=why(entry.path, error).reason)
        try:
            name = stored_name(entry, content.complete)
            stored = self.target.take(name, content, entry.attributes.mode, entry.attributes.mtime)
        except (OSError, RecoverError) as error:
            content.file.unlink(missing_ok=True)
            return self._record(entry, content, error=str(error))
        return self._record(entry, content, stored)

    def _record(
        self, entry: Entry, content: RecoveredContent | None = None, stored: str = "", error: str = ""
    ) -> Recovered:
        seen = entry.attributes
        return Recovered(
            path=entry.shown_as or entry.path,
            read_from=entry.path,
            state=entry.state,
            mode=seen.mode if seen else 0,
            uid=seen.uid if seen else 0,
            gid=seen.gid if seen else 0,
            size=seen.size if seen else 0,
            mtime=seen.mtime if seen else 0.0,
            stored_as=stored,
            complete=content is not None and content.complete and bool(stored),
            recovered_bytes=content.recovered_bytes if content and stored else 0,
            sha256=content.sha256 if content and stored else "",
            **self._places(content),
            error=error,
        )

    def _places(self, content: RecoveredContent | None) -> dict[str, str]:
        """What is missing of a file, where that lies on its disk, and where in the image the rest was."""
        if content is None:
            return {"missing": "", "on_disk": "", "pages": ""}
        return {
            "missing": manifest.ranges_text(content.missing),
            "on_disk": manifest.disk_text(content.on_disk),
            "pages": manifest.pages_text(content.pages, self.session.bridge.image.offset_of),
        }

    def _filler(self, entry: Entry) -> _Filler:
        path = entry.shown_as or entry.path
        fitting = [disk for disk in self.disks if path.startswith(disk.mount.rstrip("/") + "/")]
        return _Filler(self.session, entry.path, max(fitting, key=lambda disk: len(disk.mount), default=None))


def stored_name(entry: Entry, complete: bool) -> str:
    """The relative name of an entry's file in the output. RecoverError if it can have none."""
    if vaddr_of(entry.path) is not None:
        name = f"{INODES}/{entry.path.rpartition('/')[2]}"
    elif entry.shown_as:
        name = f"{DELETED}/{safe_name(entry.path.strip('/').replace('/', '_'))}"
    else:
        name = f"{FILES}/{safe_name(entry.path)}"
    return name if complete else f"{INCOMPLETE}/{name}"


class _Filler:
    """Finds what is missing of one file on its disk. The file's map is asked for once, when it is needed."""

    def __init__(self, session: Session, path: str, disk: Disk | None) -> None:
        self._session = session
        self._path = path
        self._disk = disk
        self._extents: list[Extent] | None = None

    def __call__(self, missing: MissingRange) -> tuple[list[DiskRange], list[tuple[int, bytes]]]:
        if self._extents is None:
            try:
                self._extents = self._session.files.extents(self._path)
            except UNREADABLE:
                self._extents = []
        ranges = list(on_disk([missing], self._extents))
        known = []
        if self._disk is not None:
            for item in ranges:
                data = self._disk.read(item)
                if data:
                    known.append((item.offset, data))
        return ranges, known
