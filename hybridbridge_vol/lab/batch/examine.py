"""The examination of one image: its tools are run in one session, and each one's rows become a table.

`events` does it in this process, without limits. `worker.process` runs it in a child with limits;
`worker.client` is how to reach that.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

from hybridbridge_vol import tools
from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.errors import BootNeeded, CallRolledBack, HybridBridgeError, error_text
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.lab.batch.dataset import ToolRun
from hybridbridge_vol.lab.batch.events import (
    CLOSING,
    HASHING,
    OPENING,
    Event,
    Facts,
    Failed,
    Learned,
    NeedsBoot,
    Step,
    ToolDone,
)
from hybridbridge_vol.lab.batch.hashing import sha256_of
from hybridbridge_vol.lab.batch.request import OPTIONS, Request
from hybridbridge_vol.lab.batch.tables import write_table
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.toolkit.tool import Tool

_OF_THE_LIMIT = 0.9


def events(request: Request) -> Iterator[Event]:
    """Run the request's tools and report what happens. What is wrong with the image is an event, not an
    exception."""
    yield Step(OPENING)
    try:
        session = open_session(
            request.path,
            Path(request.store) if request.store else None,
            processors=1,  # the others work on other images
            kernel_at=request.kernel_at,
        )
    except BootNeeded as error:
        yield NeedsBoot(error.kernel, error.start_vaddr, error.end_vaddr, error.levels)
        yield Failed(error_text(error, request.path))
        return
    except (HybridBridgeError, OSError) as error:
        yield Failed(error_text(error, request.path))
        return
    with session:
        # a little less than the supervisor's limits: a tool that ends by itself keeps its rows
        session.allowance.most_seconds = request.tool_seconds * _OF_THE_LIMIT
        session.allowance.most_memory = int(request.memory * _OF_THE_LIMIT)
        yield facts_of(session)
        if request.sha256:
            yield Step(HASHING)
            yield Facts(sha256=sha256_of(request.path))
        Path(request.staging).mkdir(parents=True, exist_ok=True)
        for name in request.tools:
            yield Step(name)
            yield run_tool(session, tool_of(request, name), request)
            yield from _learned(session)  # the next tool may not come to its end
        yield Step(CLOSING)


def _learned(session: Session) -> Iterator[Event]:
    """What was proven and not stored: the store is this process's own, or a supervisor's."""
    session.keep_learned()
    memo = session.bridge.memo
    if memo.changed:
        yield Learned(base64.b64encode(memo_file.dump(memo)).decode())
        memo.mark_stored()


def facts_of(session: Session) -> Facts:
    """What an open session knows about its image."""
    bridge = session.bridge
    try:
        captured: float | None = session.clocks.realtime()
    except (CallRolledBack, OSError):
        captured = None
    return Facts(
        bridge.image.format_name, bridge.kernel.name, bridge.kernel.release, bridge.kernel.banner.strip(),
        captured, bridge.layout.cpus, notes="; ".join(session.notes) or None,
    )  # fmt: skip


def tool_of(request: Request, name: str) -> Tool:
    """The tool of that name, or the native program that the request gives it to."""
    command = dict(request.programs).get(name)
    if command is None:
        return tools.load(name)
    from hybridbridge_vol.native.exec_tool import NamedProgram  # most batches run none

    return NamedProgram(name, command, request.tool_seconds)


def run_tool(session: Session, tool: Tool, request: Request) -> ToolDone:
    """Run one tool with its default options and those of `OPTIONS`, and write its table. A tool that failed
    without a row has no table."""
    started, before, rolled_back = time.monotonic(), session.statistics.total.traps, session.rolled_back
    path = Path(request.staging) / f"{tool.name}.{request.format}"
    path.unlink(missing_ok=True)
    options = tool.defaults() | OPTIONS.get(tool.name, {})
    rows = limited_rows(tool, session, options)
    written = write_table(path, request.format, tool, tool.columns_for(options), rows)
    error = None if written.error is None else _reason(written.error)
    failed = error is not None and not written.rows
    run = ToolRun(
        tool.name,
        "failed" if failed else "partial" if error is not None or written.incomplete else "ok",
        written.rows,
        written.incomplete,
        seconds=round(time.monotonic() - started, 3),
        traps=session.statistics.total.traps - before,
        rolled_back=session.rolled_back - rolled_back,
        error=error,
    )
    return ToolDone(run, None if failed else str(path))


def _reason(error: Exception) -> str:
    """One line for what ended a tool; a bug says that it is one."""
    text = error_text(error, None)
    if isinstance(error, (HybridBridgeError, OSError)):
        return text
    return f"{text} ({type(error).__name__}, a bug)"
