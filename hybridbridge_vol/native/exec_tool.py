"""A native program's output as a table of lines: the plugin hb.exec. (`hb exec` gives it the terminal.)"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from hybridbridge_vol.allowance import LONG_ANSWER_MEMORY, LONG_ANSWER_SECONDS
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

if TYPE_CHECKING:
    from hybridbridge_vol.guest.session import Session
    from hybridbridge_vol.native.capture import Completed
    from hybridbridge_vol.native.typed_output import TypedOutput


class Exec(Tool):
    name = "exec"
    seconds, memory = LONG_ANSWER_SECONDS, LONG_ANSWER_MEMORY
    help = "What an unmodified program of this machine prints about the image"
    notes = (
        "Runs the program confined; what it asks about the system is answered by the image's kernel. The "
        "words of the command are split as a shell does, but no shell is run: name one if pipes are wanted. "
        "A question that could not be answered, and a status other than 0, are rows of their own. With "
        "`--typed` the output of a program that the library jc knows has a column for each field instead."
    )
    options = (
        Option("command", str, "program and arguments, as one text", positional=True),
        Option("tools", str, "look in this directory for programs first"),
        Option("seconds", int, "end the program after so many seconds"),
        Option(
            "user-mode", str, "native (the default), or emulated: where this machine cannot confine programs"
        ),
        Option("typed", bool, "a column for each field of what the program prints, where jc knows it"),
    )
    columns = (
        Column("LINE", "int", "its number in this stream, from 1"),
        Column("STREAM", "str", "stdout or stderr, or status"),
        Column("TEXT", "str", "the line"),
    )

    def answering(self, kernel: GuestKernel, options: Options) -> Tool:
        if not options["typed"]:
            return self
        from hybridbridge_vol.native.typed_output import parser_of, typed

        words = _words(options["command"])
        parser = parser_of(words)
        if parser is None:
            raise OptionError(f"{words[0]}: jc has no parser for what this prints; ask without --typed")
        done = _run(kernel, words, options)
        try:
            return _Typed(typed(parser, os.fsdecode(done.stdout)), done)
        except ValueError as error:
            return _Lines(done, str(error))

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        return _lines(_run(kernel, _words(options["command"]), options))


def _words(command: str) -> list[str]:
    """OptionError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise OptionError(f"{command}: {error}") from None
    if not words:
        raise OptionError("the command is empty")
    return words


def _run(kernel: GuestKernel, words: list[str], options: Options) -> Completed:
    from hybridbridge_vol.native.capture import capture  # plugins are all imported at every start
    from hybridbridge_vol.native.run import NATIVE, USER_MODES
    from hybridbridge_vol.native.run import Options as ProgramOptions

    seconds, user_mode = options["seconds"], options["user-mode"] or NATIVE
    if user_mode not in USER_MODES:
        raise OptionError(f"--user-mode {user_mode}: one of {', '.join(USER_MODES)}")
    chosen = ProgramOptions(
        options["tools"], {}, None if seconds is None else float(seconds), user_mode=user_mode
    )
    return capture(cast("Session", kernel), words, b"", chosen)


def _lines(done: Completed) -> Iterator[Row]:
    for stream, output in (("stdout", done.stdout), ("stderr", done.stderr)):
        for number, line in enumerate(output.removesuffix(b"\n").split(b"\n") if output else (), 1):
            yield Row((number, stream, os.fsdecode(line)))
    for asked, reason in done.failures.items():
        yield Row((None, "status", Unavailable(f"{asked}: {reason}")))
    if done.status:
        yield Row((None, "status", f"exit status {done.status}"))


class _Lines(Tool):
    """What a program has printed, which its parser could not read."""

    name, columns = Exec.name, Exec.columns

    def __init__(self, done: Completed, why: str) -> None:
        self._done = done
        self._why = why

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        yield from _lines(self._done)
        yield Row((None, "status", Unavailable(self._why)))


class _Typed(Tool):
    """What a program has printed, field by field. What it wrote to standard error, what could not be
    answered and a status other than 0 are rows all of whose cells say so."""

    name = Exec.name

    def __init__(self, output: TypedOutput, done: Completed) -> None:
        self.columns = output.columns  # type: ignore[misc]
        self._output = output
        self._done = done

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for cells in self._output.rows:
            yield Row(cells)
        said = [*os.fsdecode(self._done.stderr).splitlines()]
        said += [f"{asked}: {reason}" for asked, reason in self._done.failures.items()]
        said += [f"exit status {self._done.status}"] if self._done.status else []
        for line in said if self.columns else ():
            yield Row((Unavailable(line),) * len(self.columns))


class NamedProgram(Tool):
    """The same for one command, under a name of its own: a table of a batch."""

    columns = Exec.columns
    seconds, memory = Exec.seconds, Exec.memory

    def __init__(self, name: str, command: str, seconds: float) -> None:
        self.name = name  # type: ignore[misc]
        self.help = command  # type: ignore[misc]
        self._command = command
        self._seconds = seconds

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        given = {"command": self._command, "tools": None, "seconds": self._seconds, "user-mode": None}
        return TOOL.rows(kernel, given)


TOOL = Exec()
