"""The worker: a process that has everything loaded and forks a child for each image.

`python -m hybridbridge_vol.lab.batch.worker.process` reads orders from standard input and answers them on
standard output (see `orders`). It has one thread, so that forking is sound. It ends its child and itself when
its standard input ends: whoever started it may be killed at any time.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from hybridbridge_vol import tools
from hybridbridge_vol.lab.batch.assembly import Assembly, Examination
from hybridbridge_vol.lab.batch.dataset import ToolRun, ToolStatus
from hybridbridge_vol.lab.batch.events import (
    HASHING,
    IDENTIFYING,
    OPENING,
    Event,
    Facts,
    Failed,
    Identified,
    Learned,
    NeedsBoot,
    Step,
    ToolDone,
    Used,
    decode,
    encode,
)
from hybridbridge_vol.lab.batch.examine import events
from hybridbridge_vol.lab.batch.identify import Identity, identify
from hybridbridge_vol.lab.batch.request import PAPER_TOOLS, Request
from hybridbridge_vol.lab.batch.worker.confined import confined, keep_learned, root_of
from hybridbridge_vol.lab.batch.worker.orders import Examine, Examined, Identify, Order
from hybridbridge_vol.lab.batch.worker.supervised_child import Abandoned, Ended, Limits, Work, supervise
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.boot_again import boot_again

HASH_RATE = 8 << 20
"""Bytes a second that any storage delivers: hashing a large image may take longer than a tool."""

_STDIN = 0


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever else prints must not be taken for an answer
    warnings.showwarning = lambda message, *_place: print(f"hb: {message}", file=sys.stderr)
    _warm_up()

    def answer(message: msgspec.Struct) -> None:
        answers.write(encode(message))

    try:
        while line := _read_line():
            order: Order = decode(line, Order)
            if isinstance(order, Examine):
                answer(Examined(_examine(order.request, answer)))
            else:
                answer(Identified(_identify(order)))
    except (Abandoned, BrokenPipeError, KeyboardInterrupt):
        os._exit(1)


def _read_line() -> bytes:
    """A line of standard input; empty at its end. Read byte by byte: a buffered reader would hide the end of
    the input from the supervisor."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(_STDIN, 1)
        if not byte:
            return b""
        line += byte
    return line


def _warm_up() -> None:
    """Load in this process what every child needs."""
    for name in PAPER_TOOLS:
        tools.load(name)
    for optional in ("pyarrow", "pyarrow.parquet"):
        with contextlib.suppress(ImportError):
            importlib.import_module(optional)
    gc.collect()
    gc.freeze()  # collecting these objects in a child would copy their pages


def _identify(order: Identify) -> Identity:
    answers: list[Identity] = []

    def work() -> Iterator[Event]:
        yield Step(IDENTIFYING)
        yield Identified(identify(order.path, order.store, order.kernel_at))

    def take(event: Event) -> None:
        if isinstance(event, Identified):
            answers.append(event.identity)
        elif isinstance(event, Failed):
            answers.append(Identity(order.path, error=f"{order.path}: {event.reason}", is_image=True))

    limits = Limits(lambda _step: order.seconds, order.memory, time.monotonic() + order.seconds)
    ended = supervise(confined(work, order.path, order.store, None), take, limits, _STDIN)
    if answers:
        return answers[0]
    return Identity(order.path, error=f"{order.path}: {IDENTIFYING}: {ended.reason}", is_image=True)


def _boot_again(request: Request, needed: NeedsBoot) -> bool:
    store = Store(root_of(request.store))
    return boot_again(store, needed.kernel, needed.start_vaddr, needed.end_vaddr, needed.levels)


def _examine(request: Request, report: Callable[[Step], None]) -> Examination:
    """Run a request's tools, in one child for as long as none has to be ended, then in another one."""
    assembly = Assembly(request)
    limits = _limits(request, assembly.fingerprint.size)
    needed: list[NeedsBoot] = []

    def take(event: Event) -> None:
        match event:
            case Step():
                report(event)
            case Learned():
                keep_learned(event, request.store)
            case NeedsBoot():
                needed.append(event)
        assembly.take(event)

    while True:
        hashing = request.sha256 and assembly.facts.sha256 is None
        left = replace(request, tools=assembly.missing(), sha256=hashing)
        Path(request.staging).mkdir(parents=True, exist_ok=True)
        work: Work = partial(events, left)
        if not request.programs:  # which are confined by themselves, by a supervisor that cannot be
            work = confined(work, request.path, request.store, request.staging)
        ended = supervise(work, take, limits, _STDIN)
        if len(needed) == 1 and _boot_again(request, needed[0]):
            needed.append(needed[0])  # once
            assembly.begin_again()
            continue
        assembly.take(Used(ended.cpu_seconds, ended.peak_rss))
        if ended.how != "finished":
            assembly.take(_loss(request, assembly, ended, limits))
        if ended.how == "finished" or assembly.error is not None or not assembly.missing():
            break
        if time.monotonic() > limits.until:
            break
    if assembly.has_runs():  # the other tools say why they were not run; without any the image says it
        status: ToolStatus = "timeout" if time.monotonic() > limits.until else "failed"
        reason = assembly.error or "the image's time was over"
        for name in assembly.missing():
            assembly.take(ToolDone(ToolRun(name, status, error=reason)))
    return assembly.examination()


def _limits(request: Request, size: int) -> Limits:
    def seconds(step: str) -> float:
        return max(request.tool_seconds, size / HASH_RATE) if step == HASHING else request.tool_seconds

    until = time.monotonic() + (request.image_seconds or float("inf"))
    return Limits(seconds, request.memory, until)


def _loss(request: Request, assembly: Assembly, ended: Ended, limits: Limits) -> Event:
    """What is lost if a child does not finish: the tool that it was running; if none, all that are left."""
    if ended.step in assembly.missing():
        if ended.how == "timeout":
            seconds = limits.step_seconds(ended.step)
            return ToolDone(ToolRun(ended.step, "timeout", seconds=seconds, error=ended.reason))
        return ToolDone(ToolRun(ended.step, "failed", error=ended.reason))
    if assembly.missing():
        return Failed(f"{request.path}: {ended.step or OPENING}: {ended.reason}")
    return Facts()  # every tool had its answer


if __name__ == "__main__":
    main()
