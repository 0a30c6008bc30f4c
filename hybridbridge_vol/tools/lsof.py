"""lsof: what files processes have open, mapped, or stand in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.sources import LSTAT_UID, Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.file_system.accounts import USER, Accounts
from hybridbridge_vol.tools.file_system.open_files import (
    File,
    Known,
    MappedFiles,
    expect_files,
    files_beside_descriptors,
    open_file,
)
from hybridbridge_vol.tools.network.socket_names import SocketNames
from hybridbridge_vol.tools.process.descriptors import Share, in_shares
from hybridbridge_vol.tools.process.listing import PID, chosen, comm_of, numbers, owner_of

_TASK = (Column("TID", "int", "thread id"), Column("TASKCMD", "str", "name of the thread"))
_NO_DESCRIPTORS = "NOFD"
"""In FD: the descriptors cannot be listed."""


class Lsof(Tool):
    name = "lsof"
    help = "Open files of processes, as `lsof -nP` shows them"
    notes = (
        "Reads the links of /proc/PID and /proc/PID/fd and the files they lead to, fdinfo, maps, and for "
        "sockets the tables of /proc/net in the network namespace of the process. USER is the name of UID "
        "in the guest's own /etc/passwd, as far as its memory holds that. With several options a row must "
        "fulfil all of them (as with lsof -a)."
    )
    example = "-p 1"
    options = (
        PID,
        Option("uid", int, "only processes of these users", many=True, short="u"),
        Option("inet", bool, "only TCP and UDP sockets", short="i"),
        Option("port", int, "only TCP and UDP sockets with one of these ports (lsof -i :PORT)", many=True),
        Option("unlinked", bool, "only files that are deleted (lsof +L1)", short="L"),
        Option("tasks", bool, "also the files of each thread", short="K"),
    )
    columns = (
        Column("COMMAND", "str", "name of the executable, as the kernel stores it"),
        Column("PID", "int", "process id"),
        Column("UID", "int", "effective user id"),
        USER,
        Column(
            "FD",
            "str",
            "number with r read, w write, u both, and the letter of a lock (W, R the whole file, w, r a "
            "part); cwd, rtd root directory, txt program, mem mapped file, DEL mapped file that is deleted",
        ),
        Column(
            "TYPE", "str", "REG, DIR, CHR, BLK, FIFO, IPv4, IPv6, unix, a_inode (an anonymous inode), ..."
        ),
        Column("DEVICE", "str", "major,minor; for a socket its inode number or address", left=False),
        Column("SIZE/OFF", "str", "bytes; where there is no size, 0t and the position", left=False),
        Column("POS", "int", "offset of the next read or write, in bytes"),
        Column("NODE", "str", "inode number; for a socket the protocol", left=False),
        Column("NAME", "str", "path as the process sees it; for a socket its ends and state"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return (*self.columns[:2], *_TASK, *self.columns[2:]) if options["tasks"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        sockets = SocketNames(kernel)
        shares = in_shares(kernel, chosen(kernel, options))
        if len(shares) > 1:
            sockets.prepare(shares[0][0].pid)
        accounts = Accounts(kernel.files)
        accounts.read_users()
        answer = partial(_rows, kernel.files, options, sockets, accounts, {})
        return chain.from_iterable(kernel.workers.map(answer, shares))


_Thread = tuple[Cell, ...]
"""TID and TASKCMD where threads are listed; both None in the rows of the process."""


def _rows(
    files: Files,
    options: Options,
    sockets: SocketNames,
    accounts: Accounts,
    mapped: MappedFiles,
    shares: list[Share],
) -> list[Row]:
    known = expect_files(files, shares, mapped)
    rows = []
    for share in shares:
        folder = f"/proc/{share.pid}"
        uid = owner_of(files, folder)
        if options["uid"] and uid not in options["uid"] and not isinstance(uid, Unavailable):
            continue
        name, user = comm_of(files, folder), accounts.user_cell(uid)
        own = (Source(f"{folder}/comm"), Source(f"lstat {folder}", *LSTAT_UID))
        found = _of_share(files, share, known, sockets, options["tasks"])
        rows += [
            Row((name, share.pid, *thread, uid, user, *file.cells), sources=(*own, *file.sources))
            for thread, file in found
            if _is_wanted(file, options)
        ]
    return rows


def _of_share(
    files: Files, share: Share, known: Known, sockets: SocketNames, tasks: bool
) -> Iterator[tuple[_Thread, File]]:
    """The files of a share of a process, and after the last share those of its other threads."""
    process: _Thread = (None, None) if tasks else ()
    pid, folder = share.pid, f"/proc/{share.pid}"
    if share.first:
        yield from ((process, file) for file in files_beside_descriptors(files, folder, pid, known))
    if share.read_error:
        yield process, File.unreadable(_NO_DESCRIPTORS, share.read_error)
    for number in share.descriptors:
        yield process, open_file(files, folder, pid, number, sockets, known.descriptors.get((pid, number)))
    if share.last and tasks:
        yield from _of_threads(files, pid, known, sockets)


def _of_threads(files: Files, pid: int, known: Known, sockets: SocketNames) -> Iterator[tuple[_Thread, File]]:
    """The files of a process's threads but the first."""
    try:
        tids = numbers(files.listdir(f"/proc/{pid}/task"))
    except UNREADABLE:
        return  # its files cannot be read either, and say so
    for tid in tids:
        if tid == pid:
            continue
        folder = f"/proc/{pid}/task/{tid}"
        thread = tid, comm_of(files, folder)
        yield from ((thread, file) for file in files_beside_descriptors(files, folder, pid, known))
        try:
            descriptors = numbers(files.listdir(f"{folder}/fd"))
        except UNREADABLE as error:
            yield thread, File.unreadable(_NO_DESCRIPTORS, why(f"{folder}/fd", error))
            continue
        for number in descriptors:
            yield thread, open_file(files, folder, pid, number, sockets)


def _is_wanted(file: File, options: Options) -> bool:
    if isinstance(file.name, Unavailable):
        return True
    if options["unlinked"] and not file.unlinked:
        return False
    if not (options["inet"] or options["port"]):
        return True
    ports = file.socket.ports if file.socket else ()
    return bool(ports) and (not options["port"] or not set(ports).isdisjoint(options["port"]))


TOOL = Lsof()
