"""Events as other programs take them.

- the body file of The Sleuth Kit 3 and later, which mactime and Plaso's `bodyfile` parser read:
  `MD5|name|inode|mode_as_string|UID|GID|size|atime|mtime|ctime|crtime`;
- CSV and JSON lines for Timesketch, which asks for `message`, `datetime` (ISO 8601), `timestamp`
  (microseconds) and `timestamp_desc`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator

from hybridbridge_vol.toolkit.cells import Unavailable, as_text, utc, without_surrogates
from hybridbridge_vol.toolkit.printable import printable
from hybridbridge_vol.toolkit.tool import MomentKind
from hybridbridge_vol.tools.events.collect import Event

_BODY_TIMES: tuple[MomentKind, ...] = ("accessed", "modified", "changed", "created")
_LAST = 253402300800
"""The year 10000: a time beyond it is none that these programs take."""
FIELDS = (
    "message", "datetime", "timestamp", "timestamp_desc", "source_short", "source_long", "user", "filename",
    "inode", "mode", "uid", "gid", "size", "macb",
)  # fmt: skip


def _is_time(event: Event) -> bool:
    return isinstance(event.time, int | float) and 0 <= event.time < _LAST


def _seconds(event: Event) -> float:
    assert isinstance(event.time, int | float)
    return event.time


def body(events: Iterable[Event]) -> Iterator[bytes | Unavailable]:
    """Lines of a body file: one for each file with its four times, one for each other event."""
    files: dict[object, list[Event]] = {}
    for event in events:
        if not _is_time(event):
            yield lack_of(event)
        elif event.file is not None:
            files.setdefault(event.file, []).append(event)
        else:
            yield _body_line(f"[{event.source}] {event.event}: {event.text}", [event])
    for same in files.values():
        assert same[0].file is not None
        yield _body_line(same[0].file.path, same)


def _body_line(name: str, events: list[Event]) -> bytes:
    file = events[0].file
    times = {kind: int(_seconds(event)) for event in events for kind in event.kinds}
    facts = (file.inode, file.mode, file.uid, file.gid, file.size) if file is not None else (0, "", 0, 0, 0)
    shown = printable(name).replace("|", "\\x7c")
    fields = (0, shown, *facts, *(times.get(kind, 0) for kind in _BODY_TIMES))
    return "|".join(map(str, fields)).encode() + b"\n"


def record(event: Event) -> dict[str, object]:
    """An event with a time, by the names in `FIELDS`."""
    seconds = _seconds(event)
    moment = utc(seconds, 6).rstrip("Z").replace(" ", "T") + "+00:00"
    file = event.file
    text = event.text if file is None else f"{event.event}: {event.text}"
    made: dict[str, object] = {
        "message": f"[{event.source}] {without_surrogates(text)}",
        "datetime": moment,
        "timestamp": round(seconds * 1_000_000),
        "timestamp_desc": event.event,
        "source_short": event.source.upper(),
        "source_long": f"HybridBridge {event.source}",
        "macb": event.letters,
    }
    if isinstance(event.user, str):
        made["user"] = without_surrogates(event.user)
    if file is not None:
        made |= {
            "filename": without_surrogates(file.path), "inode": file.inode, "mode": file.mode,
            "uid": file.uid, "gid": file.gid, "size": file.size,
        }  # fmt: skip
    return made


def json_lines(events: Iterable[Event]) -> Iterator[bytes | Unavailable]:
    """One object a line."""
    for event in events:
        yield json.dumps(record(event)).encode() + b"\n" if _is_time(event) else lack_of(event)


def csv_lines(events: Iterable[Event]) -> Iterator[bytes | Unavailable]:
    """A line of names, then one for each event; control characters are escaped."""
    yield ",".join(FIELDS).encode() + b"\n"
    for event in events:
        if not _is_time(event):
            yield lack_of(event)
            continue
        made = record(event)
        line = io.StringIO()
        values = (made.get(name, "") for name in FIELDS)
        csv.writer(line, lineterminator="\n").writerow(
            [printable(value) if isinstance(value, str) else value for value in values]
        )
        yield line.getvalue().encode()


def lack_of(event: Event) -> Unavailable:
    """Why an event has no time."""
    if isinstance(event.time, Unavailable):
        return event.time
    return Unavailable(
        f"{event.source}: not a time: {as_text(event.time, 'float')}: {printable(event.text[:80])}"
    )
