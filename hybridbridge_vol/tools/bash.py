"""bash: what was typed at shells, and at other programs with a history."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import PID, chosen, in_parts


class Bash(Tool):
    name = "bash"
    help = "Commands that were typed at shells, with their times, from the shells' memory"
    notes = (
        "HOW exact: from the list that GNU History keeps, which bash has built in and other programs (bc, "
        "gdb, python, psql ...) have by libreadline: it is what `history` would print. A history file is "
        "written when a shell ends, so these lines may be in no file. TIME is there also where "
        "HISTTIMEFORMAT is not set; lines of a history file without times have that of its reading. A shell "
        "that runs a script keeps no list. HOW scanned (--scan): lines in a shell's memory that begin with a "
        "command's name; they may come from a script, be cut, or never have been typed. They include lines "
        "that bash no longer lists."
    )
    options = (
        PID,
        Option("scan", bool, "also lines in the memory of shells that look like commands, in no order"),
    )
    columns = (
        Column("PID", "int", "process id"),
        Column("COMM", "str", "name of the executable, as the kernel stores it"),
        Column("USER", "str", "effective user, by the guest's own /etc/passwd"),
        Column("NUMBER", "int", "number of the line, as `history` shows it"),
        Column("TIME", "time", "when it was entered"),
        Column("HOW", "str", "exact or scanned: see above"),
        Column("LINE", "str", "what was typed"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.user_memory.shell_history import Shells

        parts = in_parts(chosen(kernel, options))
        return chain.from_iterable(kernel.workers.map(Shells(kernel, options["scan"]).rows, parts))


TOOL = Bash()
