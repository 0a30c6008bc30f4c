"""The handle of one nursery: examinations one at a time, whatever becomes of the process that does them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import hybridbridge_vol
from hybridbridge_vol.lab.batch.dataset import Record, ToolRun
from hybridbridge_vol.lab.batch.examine import MEMORY, TOOL_SECONDS, Examination, Gathered, Request
from hybridbridge_vol.lab.batch.identify import Identity

PATIENCE = 2.0
"""Seconds in which a nursery ends its child and itself."""


class Cancelled(Exception):
    """The work was ended from outside."""


class Examiner:
    """Starts a nursery at the first order and a new one if that was killed. For one thread, but for
    `cancel`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def examine(self, request: Request, step: Callable[[str], None] = lambda _name: None) -> Examination:
        """Examine one image in a child with limits; `step` is told what it is at. Cancelled after
        `cancel`."""
        gathered = Gathered(request)
        answer = self._ask({"examine": asdict(request)}, step)
        if answer is None:
            gathered.error = f"{request.path}: the process that examined it was killed"
            gathered.cpu_seconds, gathered.peak_rss = 0.0, 0
            return gathered.examination()
        fields = answer["examination"]["record"]
        runs = tuple(ToolRun(**run) for run in fields["tools"])
        return Examination(Record(**{**fields, "tools": runs}), answer["examination"]["tables"])

    def identify(
        self, path: str, store: str | None, seconds: float = TOOL_SECONDS, memory: int = MEMORY
    ) -> Identity:
        """Identify one file in a child with limits. Cancelled after `cancel`."""
        answer = self._ask(
            {"identify": path, "store": store, "seconds": seconds, "memory": memory}, lambda _name: None
        )
        if answer is None:
            return Identity(path, error=f"{path}: the process that identified it was killed", is_image=True)
        return Identity(**answer["identity"])

    def _ask(self, order: dict[str, Any], step: Callable[[str], None]) -> dict[str, Any] | None:
        """The answer to an order; None if the nursery died over it."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            for line in process.stdout:
                answer = json.loads(line)
                if "step" not in answer:
                    return dict(answer)
                step(answer["step"])
        self.close()
        if self._cancelled:
            raise Cancelled
        return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._cancelled:
            raise Cancelled
        if self._process is None:
            root = str(Path(hybridbridge_vol.__file__).parents[1])
            path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
            # a session of its own: Ctrl-C on the terminal is for the batch, which ends its workers in order
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hybridbridge_vol.lab.batch.worker.process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
            )  # fmt: skip
        if self._cancelled:
            self._process.kill()
        return self._process

    def cancel(self) -> None:
        """End what is under way; from any thread. The examiner is of no use afterwards."""
        self._cancelled = True
        process = self._process
        if process is not None:
            process.kill()  # its child goes with it

    def close(self) -> None:
        """Let the nursery go."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def examine_in_child(request: Request, step: Callable[[str], None] = lambda _name: None) -> Examination:
    """One image in a nursery of its own (which costs half a second: keep an `Examiner` for several)."""
    with Examiner() as examiner:
        return examiner.examine(request, step)
