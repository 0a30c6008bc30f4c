"""hidden: what one of the kernel's lists names and another does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING

from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

if TYPE_CHECKING:
    from hybridbridge_vol.tools.cross_view.comparison import Finding

_Search = Callable[[GuestKernel], "Iterator[Finding | Unavailable]"]


class Hidden(Tool):
    name = "hidden"
    help = "Processes, modules, code and sockets that one of the kernel's lists names and another does not"
    notes = (
        "Cross-view detection. Processes: the listing of /proc, look-ups of /proc/PID, the kernel's list of "
        "tasks, the children of each parent, the control groups, the memory of all tasks, the count of "
        "threads. Modules: /proc/modules, /sys/module, the modules that addresses belong to, the memory of "
        "all modules, the memory that was allocated for them. Code: what the page tables let the kernel "
        "execute, against the kernel image, the listed modules, programs of BPF and trampolines. Sockets: "
        "descriptors, the tables of /proc/net, the counts of /proc/net/sockstat; a socket that was never "
        "bound is in no table, and the kernel's own sockets have no descriptor. No row: all agree. What a "
        "rootkit hides by patching code is not hidden from the trusted kernel's code, and is on every list. "
        "In an image that was copied while the machine ran, lists disagree without intent: where the tasks "
        "that run, or the nodes of a list, contradict each other, each row says so."
    )
    options = (
        Option(
            "probe", int,
            "look up each process id up to this one, known or not (for all: /proc/sys/kernel/pid_max)",
        ),
    )  # fmt: skip
    columns = (
        Column("KIND", "str", "process, thread, module, code or socket"),
        Column(
            "WHAT", "str", "process id, module, where code is, inode of the socket; or how many there are"
        ),
        Column("NAME", "str", "its name, if it is known"),
        Column("SEEN", "str", "the lists that name it"),
        Column("MISSING", "str", "the lists that should name it and do not"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.cross_view.code import hidden_code
        from hybridbridge_vol.tools.cross_view.modules import hidden_modules
        from hybridbridge_vol.tools.cross_view.processes import hidden_processes
        from hybridbridge_vol.tools.cross_view.sockets import hidden_sockets

        searches: list[tuple[str, _Search]] = [
            ("process", partial(hidden_processes, probe=options["probe"] or 0)),
            ("module", hidden_modules),
            ("code", hidden_code),
            ("socket", hidden_sockets),
        ]

        @cache
        def doubt() -> str:
            """Why lists may disagree without intent: empty in an image of one moment."""
            from hybridbridge_vol.bridge.objects.moments import said_of  # Volatility loads all tools

            try:
                return said_of(kernel.bridge)
            except AttachError:  # a running machine: nothing of it was copied
                return ""

        def answer(search: tuple[str, _Search]) -> list[Row]:
            return list(self._found(kernel, *search, doubt))

        # not shared out: a worker's copies of pages and of translated code cost more than it would spare
        return chain.from_iterable(map(answer, searches))

    def _found(
        self, kernel: GuestKernel, kind: str, search: _Search, doubt: Callable[[], str]
    ) -> Iterator[Row]:
        rest = len(self.columns) - 1
        try:
            for found in search(kernel):
                if isinstance(found, Unavailable):
                    yield Row((kind, *[found] * rest))
                    continue
                doubts = [words for words in (found.doubt, doubt()) if words]
                missing = Unavailable("; ".join((found.missing, *doubts))) if doubts else found.missing
                yield Row((*found[:4], missing), sources=found.sources)
        except UNREADABLE as error:
            yield Row((kind, *[Unavailable(str(error))] * rest))


TOOL = Hidden()
