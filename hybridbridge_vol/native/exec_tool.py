"""A native program's output as a table of lines: the plugin hb.exec. (`hb exec` gives it the terminal.)"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

if TYPE_CHECKING:
    from hybridbridge_vol.guest.session import Session


class Exec(Tool):
    name = "exec"
    help = "What an unmodified program of this machine prints about the image"
    notes = (
        "Runs the program confined; what it asks about the system is answered by the image's kernel. The "
        "words of the command are split as a shell does, but no shell is run: name one if pipes are wanted. "
        "A question that could not be answered, and a status other than 0, are rows of their own."
    )
    options = (
        Option("command", str, "program and arguments, as one text", positional=True),
        Option("tools", str, "look in this directory for programs first"),
        Option("seconds", int, "end the program after so many seconds"),
    )
    columns = (
        Column("LINE", "int", "its number in this stream, from 1"),
        Column("STREAM", "str", "stdout or stderr, or status"),
        Column("TEXT", "str", "the line"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        from hybridbridge_vol.native.capture import capture  # plugins are all imported at every start
        from hybridbridge_vol.native.run import Options as ProgramOptions

        try:
            words = shlex.split(options["command"])
        except ValueError as error:
            raise OptionError(f"{options['command']}: {error}") from None
        if not words:
            raise OptionError("the command is empty")
        seconds = options["seconds"]
        chosen = ProgramOptions(options["tools"], {}, None if seconds is None else float(seconds))
        done = capture(cast("Session", kernel), words, b"", chosen)
        for stream, output in (("stdout", done.stdout), ("stderr", done.stderr)):
            for number, line in enumerate(output.removesuffix(b"\n").split(b"\n") if output else (), 1):
                yield Row((number, stream, os.fsdecode(line)))
        for asked, reason in done.failures.items():
            yield Row((None, "status", Unavailable(f"{asked}: {reason}")))
        if done.status:
            yield Row((None, "status", f"exit status {done.status}"))


class NamedProgram(Tool):
    """The same for one command, under a name of its own: a table of a batch."""

    columns = Exec.columns

    def __init__(self, name: str, command: str, seconds: float) -> None:
        self.name = name  # type: ignore[misc]
        self.help = command  # type: ignore[misc]
        self._command = command
        self._seconds = seconds

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        given = {"command": self._command, "tools": None, "seconds": self._seconds}
        return TOOL.rows(kernel, given)


TOOL = Exec()
