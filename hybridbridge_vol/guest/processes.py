"""What tools that ask of every process share: which processes there are, and reading what does not end."""

from __future__ import annotations

from hybridbridge_vol.guest.kernel import EndlessFile, GuestKernel
from hybridbridge_vol.guest.proc_pid import text
from hybridbridge_vol.guest.tool import UNREADABLE, Cell, Option, Options, Unavailable, why

PID = Option("pid", int, "only these processes", many=True, short="p")


def numbers(names: list[str]) -> list[int]:
    """The names of a listing that are numbers, ascending: processes of /proc, threads, descriptors."""
    return sorted(int(name) for name in names if name.isdecimal() and name.isascii())


def chosen(kernel: GuestKernel, options: Options) -> list[int]:
    """The processes that `PID` names, in that order, or all. Raises OSError and CallUndone."""
    return list(dict.fromkeys(options["pid"])) or numbers(kernel.listdir("/proc"))


def name_of(kernel: GuestKernel, pid: int) -> Cell:
    """The name that the kernel keeps of a process."""
    path = f"/proc/{pid}/comm"
    try:
        return text(kernel.read_file(path).removesuffix(b"\n"))
    except UNREADABLE as error:
        return why(path, error)


def read_text(kernel: GuestKernel, path: str) -> tuple[bytes, Unavailable | None]:
    """A file's whole lines, and what is wrong if they are not all: it could not be read, or does not end."""
    try:
        return kernel.read_file(path), None
    except EndlessFile as error:
        return error.partial[: error.partial.rfind(b"\n") + 1], why(path, error)
    except UNREADABLE as error:
        return b"", why(path, error)
