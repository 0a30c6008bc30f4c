"""hidden: what one of the kernel's views shows and another does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.cross_view.modules import hidden_modules
from hybridbridge_vol.tools.cross_view.processes import hidden_processes
from hybridbridge_vol.tools.cross_view.sockets import hidden_sockets
from hybridbridge_vol.tools.cross_view.views import Finding


class Hidden(Tool):
    name = "hidden"
    help = "Processes, modules and sockets that one view shows and another does not"
    notes = (
        "Processes: the listing of /proc, look-ups of /proc/PID, the kernel's list of tasks, the children of each parent, "
        "the control groups, the memory that all tasks are in, the count of threads. Modules: /proc/modules, /sys/module, the modules that addresses belong to, the memory that "
        "was allocated for them. Sockets: descriptors, the tables of /proc/net, the counts of /proc/net/sockstat; a "
        "socket that was never bound is in no table, and the kernel's own sockets have no descriptor. No row: all agree. "
        "What was hidden by patching the machine's code is not hidden from the trusted kernel's, and is in every view."
    )
    options = (
        Option(
            "probe",
            int,
            "look up each process id up to this, known or not (pid_max: /proc/sys/kernel/pid_max)",
        ),
    )
    columns = (
        Column("KIND", "str", "process, thread, module or socket"),
        Column("WHAT", "str", "process id, module, inode of the socket; or how many there are"),
        Column("NAME", "str", "its name, as far as it is known"),
        Column("SEEN", "str", "the views that show it"),
        Column("MISSING", "str", "the views that do not, and should"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        searches: list[tuple[str, Callable[[], Iterator[Finding | Unavailable]]]] = [
            ("process", lambda: hidden_processes(kernel, options["probe"] or 0)),
            ("module", lambda: hidden_modules(kernel)),
            ("socket", lambda: hidden_sockets(kernel)),
        ]
        return chain.from_iterable(kernel.workers.map(lambda search: list(self._found(*search)), searches))

    def _found(self, kind: str, search: Callable[[], Iterator[Finding | Unavailable]]) -> Iterator[Row]:
        try:
            for found in search():
                if isinstance(found, Unavailable):
                    yield Row((kind, *[found] * (len(self.columns) - 1)))
                else:
                    yield Row(found[:5], sources=found.sources)
        except UNREADABLE as error:
            yield Row((kind, *[Unavailable(str(error))] * (len(self.columns) - 1)))


TOOL = Hidden()
