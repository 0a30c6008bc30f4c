"""One mutant: the tools on it, in a child that is watched from outside."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pickle
import random
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.hostile.places import TRACED, options_of, text_of
from hybridbridge_vol import tools
from hybridbridge_vol.allowance import ANSWER_SECONDS, SLOWER_UNDER_TAINT
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.child_process import die_with, fork
from hybridbridge_vol.errors import HybridBridgeError, error_text
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.lab.batch.worker.supervised_child import private_bytes
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.toolkit.provenance import with_provenance
from hybridbridge_vol.toolkit.render import Answer, write_csv, write_json, write_text
from hybridbridge_vol.toolkit.tool import Row, Tool

T = TypeVar("T")

WAITING_SECONDS = 300.0
"""A child that takes no processor time for so long waits for something that never comes."""
_POLL_SECONDS = 0.05
_TELLING_SECONDS = 2.0
_FRAMES = 8

ALL_TOOLS = tuple(
    name for name in tools.NAMES if not any(option.positional for option in tools.load(name).options)
)
"""Those that need no arguments."""
DEAR = ("check", "hidden", "hooks", "queues", "timeline", "malfind", "files")
"""Each takes as long as all others together."""
DEAR_SHARE, OTHER_SHARE, TRACED_SHARE = 0.03, 0.08, 0.2
"""A tool that reads no changed byte on the good image would answer as before: it is run on these parts of the
mutants (the dear ones, all others, those whose rows are compared)."""
DEAR_TOUCHED_SHARE = 0.3
"""The part of those mutants of which a dear one reads a changed byte on which it is run."""
SLOW_SHARE = 0.02
"""Of the mutants, those on which all is run under taint and the provenance of the rows is looked at."""
MOST_SECONDS = 20.0
"""Processor time that a tool may take here, six times as much under taint: the way to its end is the same as
with the 60 s or the hour that it may take otherwise."""
SLOW_TOOLS = ("ps", "lsmod", "netstat", "uname", "maps", "lsof")


@dataclass
class Outcome:
    """What became of one mutant. `results`: of each tool its status, seconds, rows. `signal`: what ended the
    child; `hung`: where it was when it had to be ended. Seconds of processor time, bytes of memory that is
    of no file, beyond what the child was forked with; `largest`: the tool that ran then."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    opening: str = ""
    signal: int = 0
    hung: str = ""
    seconds: float = 0.0
    memory: int = 0
    largest: str = ""


def chosen_tools(rng: random.Random, touched: Collection[str]) -> tuple[list[str], bool]:
    """The tools for one mutant, in any order, and whether they are run under taint: those that read a
    changed byte on the good image (`touched`), and a part of the others."""
    if rng.random() < SLOW_SHARE:
        return [name for name in SLOW_TOOLS if name in touched] or [rng.choice(SLOW_TOOLS)], True
    shares = dict.fromkeys(ALL_TOOLS, OTHER_SHARE) | dict.fromkeys(DEAR, DEAR_SHARE)
    shares |= dict.fromkeys(TRACED, TRACED_SHARE)
    shares |= {name: DEAR_TOUCHED_SHARE if name in DEAR else 1.0 for name in touched}
    names = [name for name, share in shares.items() if rng.random() < share]
    rng.shuffle(names)
    return names, False


def seconds_for(slow: bool) -> float:
    """Processor time that one tool may take."""
    return MOST_SECONDS * (SLOWER_UNDER_TAINT if slow else 1)


def examine(image: Path, store: Path, names: Sequence[str], slow: bool, processors: int) -> Outcome:
    """Run the tools on an image, in a child."""
    read_end, write_end = os.pipe()
    parent = os.getpid()
    inherited = private_bytes(parent)
    pid = fork()
    if not pid:
        die_with(parent)
        os.close(read_end)
        _child(image, store, names, slow, processors, write_end)
    os.close(write_end)
    outcome, data = Outcome(), b""
    most = seconds_for(slow) * (len(names) + 1) + ANSWER_SECONDS
    used, since = 0.0, time.monotonic()
    while not outcome.hung:
        if select.select([read_end], [], [], _POLL_SECONDS)[0]:
            part = os.read(read_end, 1 << 20)
            if not part:
                break
            data += part
        memory = private_bytes(pid) - inherited
        if memory > outcome.memory:
            at = data.count(b"\n")
            outcome.memory, outcome.largest = memory, names[at] if at < len(names) else ""
        now = _processor_seconds(pid)
        if now > used:
            used, since = now, time.monotonic()
        if used > most or time.monotonic() - since > WAITING_SECONDS:
            outcome.hung = _where(pid, read_end)
            os.kill(pid, signal.SIGKILL)
    os.close(read_end)
    _pid, status, usage = os.wait4(pid, 0)
    outcome.seconds = usage.ru_utime + usage.ru_stime
    if os.WIFSIGNALED(status) and not outcome.hung:
        outcome.signal = os.WTERMSIG(status)
    for line in data.splitlines():
        with contextlib.suppress(ValueError):  # the child was ended in the middle of a line
            record = json.loads(line)
            if "opening" in record:
                outcome.opening = record["opening"]
            else:
                outcome.results[record.pop("tool")] = record
    return outcome


def _where(pid: int, read_end: int) -> str:
    """The innermost functions of a child that does not end, as it tells them itself (faulthandler)."""
    os.kill(pid, signal.SIGUSR1)
    data = b""
    while select.select([read_end], [], [], _TELLING_SECONDS)[0] and (part := os.read(read_end, 1 << 20)):
        data += part
    frames = [
        line.strip() for line in data.decode(errors="replace").splitlines() if line.startswith("  File")
    ]
    return " < ".join(frames[:_FRAMES]) or "nowhere in Python"


def _processor_seconds(pid: int) -> float:
    """What a process has used so far, with its children that have ended (proc(5), stat); 0 without one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def in_child(ask: Callable[[], T]) -> T:
    """The answer of a function that is called in a child: what it takes of memory is let go."""
    read_end, write_end = os.pipe()
    pid = fork()
    if not pid:
        os.close(read_end)
        try:
            with os.fdopen(write_end, "wb") as out:
                pickle.dump(ask(), out)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        data = stream.read()
    _pid, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError("what was asked of the good image failed")
    answer: T = pickle.loads(data)
    return answer


def _child(
    image: Path, store: Path, names: Sequence[str], slow: bool, processors: int, write_end: int
) -> None:
    faulthandler.register(signal.SIGUSR1, write_end)
    sys.stderr = StringIO()
    warnings.simplefilter("ignore")
    status = 1
    try:
        with os.fdopen(write_end, "w") as out:
            for record in _records(image, store, names, slow, processors):
                print(json.dumps(record), file=out, flush=True)
        status = 0
    finally:
        os._exit(status)


def _records(
    image: Path, store: Path, names: Sequence[str], slow: bool, processors: int
) -> Iterator[dict[str, Any]]:
    mode = Mode.SLOW if slow else Mode.AUTO
    try:
        session = open_session(image, store, mode=mode, processors=processors)
    except HybridBridgeError as error:
        yield {"opening": error_text(error, str(image))}
        return
    except BaseException:  # noqa: BLE001  what it is, the campaign reports
        yield {"opening": f"traceback: {traceback.format_exc()[-2000:]}"}
        return
    session.allowance.most_seconds = seconds_for(slow)
    try:
        for name in names:
            yield {"tool": name} | _run(session, tools.load(name), slow)
        session.close()
    except BaseException:  # noqa: BLE001  as above
        yield {"opening": f"traceback: {traceback.format_exc()[-2000:]}"}


def _run(session: Session, tool: Tool, slow: bool) -> dict[str, Any]:
    """A tool's rows through its own front: text, JSON and CSV are written of them, too."""
    begun, trusted = time.process_time(), 0
    rows: list[Row] = []
    try:
        made = with_provenance(tool) if slow else tool
        options = options_of(tool)
        rows = list(limited_rows(made, session, options))
        columns = made.columns_for(options)
        complete = [write(Answer(columns, rows, tool.tree_column), StringIO()) for write in WRITERS]
        status = "complete" if all(complete) else "partial"
        if slow:
            trusted = sum("trusted" in str(row.cells[-1]) for row in rows)
            rows = [row._replace(cells=row.cells[:-1]) for row in rows]
        reached = session.allowance.reached
    except (HybridBridgeError, OSError) as error:
        status, reached = f"error: {error_text(error, None)}", ""
    except BaseException:  # noqa: BLE001  a bug: the campaign reports it
        status, reached = f"traceback: {traceback.format_exc()[-2000:]}", ""
    seconds = time.process_time() - begun
    return {
        "status": status, "seconds": seconds, "limit": reached, "rows": list(map(text_of, rows)),
        "trusted": trusted,
    }  # fmt: skip


WRITERS = (write_text, write_json, write_csv)
