"""The process in which images are examined: it loads what that takes once, and forks a child for each image.

`python -m hybridbridge_vol.lab.batch.worker.process` reads requests, one JSON object a line, from standard input and
answers each on standard output with lines `{"step": NAME}` and a last one with the answer. It has one thread,
so forking is sound, and it ends its child and itself when its standard input ends: whoever started it may be
killed at any time.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from hybridbridge_vol.lab.batch import identify
from hybridbridge_vol.lab.batch.dataset import ToolRun
from hybridbridge_vol.lab.batch.examine import HASHING, OPENING, Gathered, Request, events
from hybridbridge_vol.lab.batch.worker import supervised_child as keeper

Say = Callable[[dict[str, Any]], None]

HASH_RATE = 8 << 20
"""Bytes a second that any storage delivers: hashing a large image may take longer than a tool."""


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # a unattributed print must not be taken for an answer
    warnings.showwarning = lambda message, *_place: print(f"hb: {message}", file=sys.stderr)
    _warm()

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        # by hand: a buffered reader would take the end of input away from the keeper
        while line := _line():
            order = json.loads(line)
            if "identify" in order:
                say(
                    {
                        "identity": _identify(
                            order["identify"], order["store"], order["seconds"], order["memory"]
                        ).as_dict()
                    }
                )
            else:
                say({"examination": _examine(Request.from_dict(order["examine"]), say)})
    except (keeper.Abandoned, BrokenPipeError, KeyboardInterrupt):
        os._exit(1)


def _line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


def _warm() -> None:
    """Load here what every child needs."""
    import importlib

    from hybridbridge_vol import tools
    from hybridbridge_vol.lab.batch.examine import PAPER_TOOLS

    for name in PAPER_TOOLS:
        tools.load(name)
    for module in (
        "hybridbridge_vol.guest.session",
        "hybridbridge_vol.guest.no_kernel",
        "pyarrow",
        "pyarrow.parquet",
    ):
        try:
            importlib.import_module(module)
        except ImportError:
            continue
    gc.collect()
    gc.freeze()  # what is here is never collected: collecting would copy its pages into every child


def _identify(path: str, store: str | None, seconds: float, memory: int) -> identify.Identity:
    answers: list[identify.Identity] = []

    def work() -> keeper.Events:
        yield "step", identify.STEP
        yield "identity", identify.identify(path, store).as_dict()

    def take(event: tuple[str, Any]) -> None:
        if event[0] == "identity":
            answers.append(identify.Identity(**event[1]))
        elif event[0] == "error":
            answers.append(identify.Identity(path, error=f"{path}: {event[1]}", is_image=True))

    ended = keeper.keep(work, take, lambda _step: seconds, memory, time.monotonic() + seconds, 0)
    return (
        answers[0] if answers else identify.Identity(path, error=f"{path}: {identify.STEP}: {ended.reason}")
    )


def _examine(request: Request, say: Say) -> dict[str, Any]:
    """Run a request's tools in one child after the other, each for as long as no tool has to be cut off."""
    gathered = Gathered(request)
    until = time.monotonic() + (request.image_seconds or float("inf"))
    gathered.cpu_seconds, gathered.peak_rss = 0.0, 0

    def take(event: tuple[str, Any]) -> None:
        if event[0] == "step":
            say({"step": event[1]})
        gathered.take(event)

    def limit(step: str) -> float:
        if step == HASHING:
            return max(request.tool_seconds, float(gathered.asked["size"]) / HASH_RATE)
        return request.tool_seconds

    while True:
        left = gathered.left()
        again = replace(request, sha256=request.sha256 and "sha256" not in gathered.facts)
        ended = keeper.keep(partial(events, again, left), take, limit, request.memory, until, 0)
        gathered.cpu_seconds += ended.cpu_seconds
        gathered.peak_rss = max(gathered.peak_rss, ended.peak_rss)
        if ended.how == "finished":
            break
        if ended.step in gathered.left():
            status: Any = "timeout" if ended.how == "timeout" else "failed"
            gathered.take(
                (
                    "tool",
                    (
                        asdict(
                            ToolRun(
                                ended.step,
                                status,
                                seconds=limit(ended.step) if status == "timeout" else 0.0,
                                error=ended.reason,
                            )
                        ),
                        None,
                    ),
                )
            )
        elif gathered.left():
            gathered.error = f"{request.path}: {ended.step or OPENING}: {ended.reason}"
            break
        if not gathered.left() or time.monotonic() > until:
            break
    _give_up(gathered, "timeout" if time.monotonic() > until else "failed")
    examination = gathered.examination()
    return {"record": asdict(examination.record), "tables": examination.tables}


def _give_up(gathered: Gathered, status: Any) -> None:
    """The tools that were not run, if others were, say why; if none was, the image does."""
    if gathered.runs:
        reason = gathered.error or "the image's time was over"
        for name in gathered.left():
            gathered.take(("tool", (asdict(ToolRun(name, status, error=reason)), None)))


if __name__ == "__main__":
    main()
