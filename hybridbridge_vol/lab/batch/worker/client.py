"""The handle of one worker: examinations one at a time, whatever becomes of the process that does them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from typing import Self

from hybridbridge_vol.child_process import own_module
from hybridbridge_vol.lab.batch.assembly import Examination, unexamined
from hybridbridge_vol.lab.batch.events import Identified, Step, decode, encode
from hybridbridge_vol.lab.batch.identify import Identity
from hybridbridge_vol.lab.batch.request import MEMORY, TOOL_SECONDS, Request
from hybridbridge_vol.lab.batch.worker.orders import Answer, Examine, Examined, Identify, Order

PATIENCE = 2.0
"""Seconds in which a worker ends its child and itself."""

ReportStep = Callable[[str], None]


class Cancelled(Exception):
    """The work was ended from outside."""


class WorkerClient:
    """Starts a worker at the first order, and a new one if that was killed. For one thread, except for
    `cancel`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def examine(self, request: Request, report_step: ReportStep = lambda _name: None) -> Examination:
        """Examine one image in a child with limits; `report_step` is called with each step that begins.
        Cancelled after `cancel`."""
        answer = self._ask(Examine(request), report_step)
        if isinstance(answer, Examined):
            return answer.examination
        return unexamined(request, f"{request.path}: the process that examined it was killed")

    def identify(
        self,
        path: str,
        store: str | None,
        seconds: float = TOOL_SECONDS,
        kernel_at: int | None = None,
        memory: int = MEMORY,
    ) -> Identity:
        """Identify one file in a child with limits. Cancelled after `cancel`."""
        answer = self._ask(Identify(path, store, seconds, memory, kernel_at), lambda _name: None)
        if isinstance(answer, Identified):
            return answer.identity
        return Identity(path, error=f"{path}: the process that identified it was killed", is_image=True)

    def _ask(self, order: Order, report_step: ReportStep) -> Identified | Examined | None:
        """The answer to an order; None if the worker died over it."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(encode(order))
            process.stdin.flush()
            for line in process.stdout:
                answer: Answer = decode(line, Answer)
                if not isinstance(answer, Step):
                    return answer
                report_step(answer.name)
        self.close()
        if self._cancelled:
            raise Cancelled
        return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._cancelled:
            raise Cancelled
        if self._process is None:
            command, environment = own_module("hybridbridge_vol.lab.batch.worker.process")
            # a session of its own: Ctrl-C on the terminal is for the batch, which ends its workers in order
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        if self._cancelled:
            self._process.kill()
        return self._process

    def cancel(self) -> None:
        """End what is under way; from any thread. The client cannot be used afterwards."""
        self._cancelled = True
        process = self._process
        if process is not None:
            process.kill()  # its child dies with it

    def close(self) -> None:
        """Release the worker."""
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
