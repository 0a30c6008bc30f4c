"""ps: the processes (or threads) of the snapshot, read the way procps reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool
from hybridbridge_vol.toolkit.tree import as_tree
from hybridbridge_vol.tools.process.listing import PID, chosen
from hybridbridge_vol.tools.process.machine import Machine
from hybridbridge_vol.tools.process.ps_columns import FIELDS, Field, fields_named
from hybridbridge_vol.tools.process.ps_rows import Listed, listed, rows_of

_DEFAULT = (
    FIELDS["pid"],
    FIELDS["ppid"],
    FIELDS["euid"].renamed("UID"),
    FIELDS["tty"],
    FIELDS["stat"],
    FIELDS["lstart"].renamed("START"),
    *(FIELDS[name] for name in ("time", "pcpu", "pmem", "vsz", "rss", "nlwp", "comm", "args")),
)
_LWP = FIELDS["tid"].renamed("LWP")


class Ps(Tool):
    name = "ps"
    help = "Processes, as `ps -ef` and `ps aux` show them"
    notes = (
        "Reads /proc/PID/stat, status and cmdline, as procps does. UID is the number of the effective user; "
        "`-o user,group` are names of the guest's own /etc/passwd and /etc/group, as far as its memory holds "
        "them. A process that cannot be read is listed with the reason."
    )
    example = "--tree"
    options = (
        PID,
        Option("threads", bool, "one row for each thread (as `ps -eLf`)", short="L"),
        Option("tree", bool, "children below their parents (as `ps -ef --forest`)", short="H"),
        Option("every", bool, "all processes (the default)", short="e"),
        Option("full", bool, "whole command lines (the default)", short="f"),
        Option(
            "columns", str, f"these columns instead, separated by commas: {' '.join(FIELDS)}", short="o",
            examples=(",".join(FIELDS),),
        ),
    )  # fmt: skip
    columns = tuple(field.column for field in _DEFAULT)
    tree_column = "CMD"
    moments = (Moment("START", "created", "process started"),)
    moment_text = ("PID", "PPID", "UID", "COMM", "CMD")

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return tuple(field.column for field in _fields(options))

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        if options["columns"] and options["tree"]:
            raise OptionError("--tree and --columns: give one of them")
        pids, fields, threads = chosen(kernel, options), _fields(options), options["threads"]
        machine = Machine(kernel)
        if options["columns"]:
            return rows_of(machine, pids, fields, threads)
        processes = listed(machine, pids, fields, threads)
        if options["tree"]:
            return _as_tree(processes)
        return (row for process in processes for _tid, row in process.rows)


def _fields(options: Options) -> list[Field]:
    if options["columns"]:
        return fields_named(options["columns"])
    return [_DEFAULT[0], _LWP, *_DEFAULT[1:]] if options["threads"] else list(_DEFAULT)


def _as_tree(processes: Iterable[Listed]) -> Iterator[Row]:
    """Children below their parents, and threads below the first thread of their process."""
    found = {process.pid: process for process in processes}
    for pid, depth in as_tree({pid: process.ppid for pid, process in found.items()}):
        for tid, row in found[pid].rows:
            yield row._replace(depth=depth + (tid != pid))


TOOL = Ps()
