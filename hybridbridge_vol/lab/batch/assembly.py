"""Events of an examination, assembled into the record of its image."""

from __future__ import annotations

import stat
import time
from dataclasses import dataclass
from pathlib import Path

from hybridbridge_vol import __version__
from hybridbridge_vol.lab.batch.dataset import ImageStatus, Record, ToolRun
from hybridbridge_vol.lab.batch.events import Event, Facts, Failed, ToolDone, Used
from hybridbridge_vol.lab.batch.request import Request, fingerprint


@dataclass(frozen=True)
class Examination:
    """A finished image: its record, and the paths of its tables by tool, for `dataset.commit`."""

    record: Record
    tables: dict[str, str]


class Assembly:
    """The state of one examination. Events are its only way in, so that whoever reports a failure does it in
    the same way."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._started = time.monotonic()
        # of the file before it is read: an image that is changed meanwhile does not count as done
        self.fingerprint = fingerprint(request)
        self.facts = Facts()
        self.error: str | None = None
        self._runs: dict[str, ToolRun] = {}
        self._tables: dict[str, str] = {}
        self._cpu_seconds, self._peak_rss = 0.0, 0

    def take(self, event: Event) -> None:
        """Take in one event. A `Step` changes nothing here: it is for those who wait; nor does what is for
        the supervisor."""
        match event:
            case Facts():
                self.facts = self.facts.updated(event)
            case ToolDone(run, table) if run.tool in self._request.tools:
                self._runs[run.tool] = run
                if table is not None and _is_own(table, self._request, run.tool):
                    self._tables[run.tool] = table
            case Failed(reason):
                self.error = reason
            case Used(cpu_seconds, peak_rss):
                self._cpu_seconds += cpu_seconds
                self._peak_rss = max(self._peak_rss, peak_rss)

    def begin_again(self) -> None:
        """What made it fail is mended."""
        self.error = None

    def has_runs(self) -> bool:
        """Whether any tool was run."""
        return bool(self._runs)

    def missing(self) -> tuple[str, ...]:
        """The tools of the request that were not run yet, in its order."""
        return tuple(name for name in self._request.tools if name not in self._runs)

    def examination(self) -> Examination:
        """What the events so far come to."""
        runs = tuple(self._runs[name] for name in self._request.tools if name in self._runs)
        status: ImageStatus = "ok" if all(run.status == "ok" for run in runs) else "partial"
        if self.error is not None and not runs:
            status = "failed"
        facts = self.facts
        record = Record(
            id=self._request.id, path=self._request.path, size=self.fingerprint.size, sha256=facts.sha256,
            format=facts.format, kernel=facts.kernel, release=facts.release, banner=facts.banner,
            captured=facts.captured, cpus=facts.cpus, tools=runs,
            seconds=round(time.monotonic() - self._started, 3), cpu_seconds=round(self._cpu_seconds, 3),
            peak_rss=self._peak_rss, status=status, error=self.error, version=__version__,
            asked=self.fingerprint, notes=facts.notes,
        )  # fmt: skip
        return Examination(record, dict(self._tables))


def _is_own(table: str, request: Request, tool: str) -> bool:
    """Whether that is the file that the tool's rows were to be written to: whoever commits it moves it, and
    an image may have made anything of the process that names it."""
    expected = Path(request.staging) / f"{tool}.{request.format}"
    try:
        return Path(table) == expected and stat.S_ISREG(expected.lstat().st_mode)
    except OSError:
        return False


def unexamined(request: Request, reason: str, facts: Facts | None = None) -> Examination:
    """The examination of an image on which no tool could be run; `reason` is one line that names the file."""
    assembly = Assembly(request)
    assembly.take(facts or Facts())
    assembly.take(Failed(reason))
    return assembly.examination()
