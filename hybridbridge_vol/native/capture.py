"""Running a program on an image, with what it prints as the answer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.native.run import Options, run_program


@dataclass(frozen=True)
class Completed:
    """A program that has ended. `status` is its exit status, or the negative number of the signal that ended
    it. `failures`: what it asked and the image could not answer, each with the reason."""

    arguments: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    failures: Mapping[str, str]


def capture(
    session: Session, arguments: Sequence[str], stdin: bytes = b"", options: Options | None = None
) -> Completed:
    """Run a program with this standard input. Errors as for `run.run_program`."""
    files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    try:
        view = memoryview(stdin)
        while view:
            view = view[os.write(files[0], view) :]
        os.lseek(files[0], 0, os.SEEK_SET)
        ended = run_program(session, arguments, files, options)
        return Completed(
            tuple(arguments), ended.status, _content(files[1]), _content(files[2]), ended.failures
        )
    finally:
        for fd in files:
            os.close(fd)


def _content(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        return file.read()
