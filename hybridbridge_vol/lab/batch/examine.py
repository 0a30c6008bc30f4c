"""The examination of one image: its tools are run in one session, and each one's rows become a table.

`examine` does so in this process. `hybridbridge_vol.lab.batch.batch.worker.process` does it in a child with
limits: the child runs `events`, and its keeper puts them together as `examine` does.
`hybridbridge_vol.lab.batch.batch.worker.client` is how to reach it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridbridge_vol import __version__, tools
from hybridbridge_vol.errors import CallRolledBack, HybridBridgeError
from hybridbridge_vol.lab.batch.dataset import Format, ImageStatus, Record, ToolRun
from hybridbridge_vol.lab.batch.tables import Counts, write_table
from hybridbridge_vol.toolkit.tool import Tool, error_text

if TYPE_CHECKING:
    from hybridbridge_vol.guest.session import Session

PAPER_TOOLS = (
    "getpid", "gettime", "hostname", "uname", "arp", "uptime", "free", "lsmod", "netstat", "vmstat", "iostat", "dmesg",
    "mpstat", "ps", "pidstat",
)  # fmt: skip
"""The 15 tools of HYBRID-BRIDGE's evaluation (NDSS 2014, table 1)."""

OPTIONS: dict[str, dict[str, Any]] = {"netstat": {"all": True, "program": True}}
"""What tools are asked for beyond their defaults: the questions that come later want all sockets, with their
owners."""

TOOL_SECONDS = 120.0
MEMORY = 2 << 30
OPENING, HASHING, CLOSING = "opening", "sha256", "closing"
"""Steps that are no tool."""
_HASH_CHUNK = 1 << 20

Event = tuple[str, Any]
"""("step", name) something begins; ("facts", some fields of a Record); ("tool", a ToolRun's fields and its
table's path or None); ("error", one line) no tool can be run."""


@dataclass(frozen=True)
class Request:
    """One image and what is to be done with it. Paths are absolute; `staging` is a folder for its tables,
    made if need be; `store` the trust store's (None: the user's). `tool_seconds` is the wall time of each
    tool (and of opening the image), `image_seconds` of all together, `kernel` its entry there if it is known,
    `memory` the bytes of private memory of a child that examines it."""

    id: str
    path: str
    staging: str
    tools: tuple[str, ...] = PAPER_TOOLS
    format: Format = "parquet"
    store: str | None = None
    kernel: str | None = None
    sha256: bool = False
    tool_seconds: float = TOOL_SECONDS
    image_seconds: float | None = None
    memory: int = MEMORY

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Request:
        """The opposite of `dataclasses.asdict`, also after a trip through JSON."""
        return cls(**{**fields, "tools": tuple(fields["tools"])})


def fingerprint(request: Request) -> dict[str, Any]:
    """What must be the same for an image to count as done: the file as it is now, what is asked, and this
    program."""
    try:
        info = os.stat(request.path)
        file = {"size": info.st_size, "mtime_ns": info.st_mtime_ns}
    except OSError:
        file = {"size": 0, "mtime_ns": 0}
    asked = {
        "tools": list(request.tools),
        "format": request.format,
        "sha256": request.sha256,
        "version": __version__,
    }
    return file | asked | {"tool_seconds": request.tool_seconds}


@dataclass(frozen=True)
class Examination:
    """A finished image: its record, and the paths of its tables by tool, to be given to `dataset.commit`."""

    record: Record
    tables: dict[str, str]


def examine(request: Request) -> Examination:
    """Examine one image in this process, without limits. An image that cannot be read is an Examination
    too."""
    gathered = Gathered(request)
    for event in events(request):
        gathered.take(event)
    return gathered.examination()


@dataclass
class Gathered:
    """Puts the events of an examination together."""

    request: Request
    started: float = field(default_factory=time.monotonic)
    facts: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, ToolRun] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    cpu_seconds: float | None = None
    peak_rss: int | None = None
    asked: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        # the file as it is before it is read: one that is changed meanwhile is not done
        self.asked = fingerprint(self.request)

    def take(self, event: Event) -> None:
        """One event."""
        kind, what = event
        if kind == "facts":
            self.facts |= what
        elif kind == "error":
            self.error = what
        elif kind == "tool":
            fields, table = what
            run = ToolRun(**fields)
            self.runs[run.tool] = run
            if table is not None:
                self.tables[run.tool] = table

    def left(self) -> tuple[str, ...]:
        """The tools that were not run yet."""
        return tuple(name for name in self.request.tools if name not in self.runs)

    def examination(self) -> Examination:
        """What it comes to."""
        request = self.request
        runs = tuple(self.runs[name] for name in request.tools if name in self.runs)
        failed = self.error is not None and not runs
        status: ImageStatus = (
            "failed" if failed else "ok" if all(run.status == "ok" for run in runs) else "partial"
        )
        known: dict[str, Any] = dict.fromkeys(
            ("sha256", "format", "kernel", "release", "banner", "captured", "cpus")
        )
        cpu_seconds, peak_rss = (
            used_here() if self.cpu_seconds is None else (self.cpu_seconds, self.peak_rss or 0)
        )
        return Examination(
            Record(
                id=request.id, path=request.path, size=self.asked["size"], **(known | self.facts), tools=runs,
                seconds=round(time.monotonic() - self.started, 3), cpu_seconds=round(cpu_seconds, 3), peak_rss=peak_rss,
                status=status, error=self.error, version=__version__, asked=self.asked,
            ),
            dict(self.tables),
        )  # fmt: skip


def used_here() -> tuple[float, int]:
    """Seconds of CPU and peak of resident bytes of this process."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10


def events(request: Request, names: Sequence[str] | None = None) -> Iterator[Event]:
    """What happens while `names` (by default all tools of the request) are run; never raises for what is the
    image's."""
    from hybridbridge_vol.guest.session import open_session

    yield "step", OPENING
    try:
        session = open_session(
            request.path,
            Path(request.store) if request.store else None,
            processors=1,  # the others have images of their own
        )
    except (HybridBridgeError, OSError) as error:
        yield "error", error_text(error, request.path)
        return
    with session:
        yield "facts", facts_of(session)
        if request.sha256:
            yield "step", HASHING
            yield "facts", {"sha256": sha256_of(request.path)}
        Path(request.staging).mkdir(parents=True, exist_ok=True)
        for name in request.tools if names is None else names:
            yield "step", name
            yield "tool", run_tool(session, tools.load(name), request)
            session.keep_learned()  # the next tool may be cut off
        yield "step", CLOSING


def facts_of(session: Session) -> dict[str, Any]:
    """What the record says of the image, of all that an open session tells."""
    bridge = session.bridge
    try:
        captured: float | None = session.clocks.realtime()
    except (CallRolledBack, OSError):
        captured = None
    return {
        "format": bridge.image.format_name, "kernel": bridge.kernel.name, "release": bridge.kernel.release,
        "banner": bridge.kernel.banner.strip(), "captured": captured, "cpus": bridge.layout.cpus,
    }  # fmt: skip


def run_tool(session: Session, tool: Tool, request: Request) -> tuple[dict[str, Any], str | None]:
    """Run one tool with its default options and `OPTIONS`: the fields of its ToolRun, and its table's path if
    it has one."""
    started, before, rolled_back = time.monotonic(), session.statistics.total.traps, session.rolled_back
    path = Path(request.staging) / f"{tool.name}.{request.format}"
    path.unlink(missing_ok=True)
    options = {option.name: option.default for option in tool.options} | OPTIONS.get(tool.name, {})
    counts = write_table(path, request.format, tool, tool.columns_for(options), tool.rows(session, options))
    error = None if counts.error is None else reason(counts.error)
    failed = error is not None and not counts.rows
    run = ToolRun(
        tool.name, "failed" if failed else _status(counts), counts.rows, counts.incomplete,
        round(time.monotonic() - started, 3), session.statistics.total.traps - before, session.rolled_back - rolled_back, error,
    )  # fmt: skip
    return asdict(run), None if failed else str(path)


def _status(counts: Counts) -> Any:
    return "partial" if counts.error is not None or counts.incomplete else "ok"


def reason(error: Exception) -> str:
    """One line for what ended a tool; what is a bug says so."""
    text = error_text(error, None)
    return (
        text if isinstance(error, (HybridBridgeError, OSError)) else f"{text} ({type(error).__name__}, a bug)"
    )


def sha256_of(path: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
