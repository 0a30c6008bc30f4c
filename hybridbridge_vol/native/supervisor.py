"""The loop that answers a program's system calls from an image."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable

from hybridbridge_vol.errors import CallRolledBack, HybridBridgeError, TimedOut
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.native.abi import NAMES
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.attribute_calls import AttributeCalls
from hybridbridge_vol.native.bpf_calls import BpfCalls
from hybridbridge_vol.native.file_calls import FileCalls
from hybridbridge_vol.native.handle_calls import HandleCalls
from hybridbridge_vol.native.host_files import HostFiles
from hybridbridge_vol.native.namespace_calls import NamespaceCalls
from hybridbridge_vol.native.nodes import Nodes
from hybridbridge_vol.native.notifications import Answer, Call, CallSource
from hybridbridge_vol.native.places import Places
from hybridbridge_vol.native.process_calls import ProcessCalls
from hybridbridge_vol.native.processes import Processes
from hybridbridge_vol.native.socket_calls import SocketCalls
from hybridbridge_vol.native.system_calls import SystemCalls
from hybridbridge_vol.native.terminal_calls import TerminalCalls

Trace = Callable[[Call, Answer], None]


class Supervisor:
    """Answers one program. `terminals` are the paths of its terminal; `slept` is called once it asks to
    sleep; `processes` are the program's."""

    def __init__(
        self,
        session: Session,
        host: HostFiles,
        terminals: frozenset[str],
        slept: Callable[[], None],
        processes: Processes,
        trace: Trace | None = None,
    ) -> None:
        self._nodes = Nodes()
        self._processes = processes
        self._answers = Answers(session, self._nodes)
        self._trace = trace
        places = Places(self._answers, host, self._nodes, self._processes, terminals)
        namespaces = NamespaceCalls(session, self._answers, self._nodes)
        self._sockets = SocketCalls(self._answers, self._processes, namespaces)
        named = {
            **FileCalls(self._answers, self._nodes, places, host, self._processes).handlers,
            **AttributeCalls(self._answers, self._nodes, places, self._processes).handlers,
            **SystemCalls(self._answers, self._processes, slept).handlers,
            **ProcessCalls(self._answers, self._processes).handlers,
            **self._sockets.handlers,
            **HandleCalls(self._answers, places).handlers,
            **BpfCalls(self._answers, places).handlers,
            **TerminalCalls(self._processes).handlers,
        }
        self._handlers: dict[str, Callable[[Call], Answer]] = named

    @property
    def failures(self) -> dict[str, str]:
        """What could not be answered, and why."""
        return self._answers.failures

    def serve(self, listener: CallSource, ended: int, seconds: float | None = None) -> None:
        """Answer until the descriptor `ended` (a pidfd) shows that the program has. TimedOut after
        `seconds`."""
        poll = select.poll()
        poll.register(listener.fd, select.POLLIN)
        poll.register(ended, select.POLLIN)
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else max(end - time.monotonic(), 0.0)
            ready = dict(poll.poll(None if left is None else left * 1000))
            if left is not None and not left:
                raise TimedOut(f"the program did not end in {seconds:g} s")
            call = listener.receive() if ready.get(listener.fd, 0) & select.POLLIN else None
            if call is not None:
                self._answer(listener, call)
            elif ended in ready:
                return
            elif ready.get(listener.fd, 0) & ~select.POLLIN:  # nobody is left who could call
                poll.unregister(listener.fd)

    def _answer(self, listener: CallSource, call: Call) -> None:
        name = NAMES.get(call.number, "")
        answer: Answer
        try:
            answer = self._handlers[name](call)
        except OSError as error:
            answer = -(error.errno or errno.EIO)
        except CallRolledBack as error:
            self._answers.note(error.call, error.reason)
            answer = -errno.EIO
        except (HybridBridgeError, KeyError, ValueError) as error:
            self._answers.note(name, f"{type(error).__name__}: {error}")
            answer = -errno.ENOSYS
        if self._trace is not None:
            self._trace(call, answer)
        listener.answer(call, answer)

    def close(self) -> None:
        """End what is left of the program, and let everything go."""
        self._processes.end_all()
        self._sockets.close()
        self._nodes.close()
        self._answers.session.devices.refuse()


def own_terminals() -> frozenset[str]:
    """The paths of this process's terminals."""
    found = set()
    for number in range(3):
        try:
            found.add(os.ttyname(number))
        except OSError:
            continue
    return frozenset(found)
