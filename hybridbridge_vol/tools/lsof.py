"""lsof: what files processes have open, mapped, or stand in."""

from __future__ import annotations

import stat as modes
from collections.abc import Iterator
from errno import ENOENT, ESRCH
from functools import partial
from itertools import chain
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import Question, Stat
from hybridbridge_vol.procfs.fd import FdInfo, parse_fdinfo
from hybridbridge_vol.procfs.maps import DELETED, Mapping, entries
from hybridbridge_vol.procfs.sources import LSTAT_UID, Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.socket_names import SocketName, SocketNames, socket_inode
from hybridbridge_vol.tools.process.descriptors import Share, in_shares
from hybridbridge_vol.tools.process.listing import PID, chosen, files_of, name_of, numbers, read_maps

_PLACES = (("cwd", "cwd"), ("root", "rtd"), ("exe", "txt"))
_KINDS = {
    modes.S_IFREG: "REG", modes.S_IFDIR: "DIR", modes.S_IFCHR: "CHR", modes.S_IFBLK: "BLK", modes.S_IFIFO: "FIFO",
    modes.S_IFLNK: "LINK", modes.S_IFSOCK: "sock", 0: "a_inode",
}  # fmt: skip
_WITH_SIZE = ("REG", "DIR", "LINK", "a_inode")
_TASK = (Column("TID", "int", "thread id"), Column("TASKCMD", "str", "the thread's name"))


class Lsof(Tool):
    name = "lsof"
    help = "Open files of processes, as `lsof -nP` shows them"
    notes = (
        "Reads the links of /proc/PID and /proc/PID/fd and the files they lead to, fdinfo, maps, and for sockets the "
        "tables of /proc/net of the process's own network namespace. UID is a number: user names stand in /etc/passwd. "
        "Of several options a row must fulfil all (as with lsof -a)."
    )
    example = "-p 1"
    options = (
        PID,
        Option("uid", int, "only processes of these users", many=True, short="u"),
        Option("inet", bool, "only TCP and UDP sockets", short="i"),
        Option("port", int, "only TCP and UDP sockets with one of these ports (lsof -i :PORT)", many=True),
        Option("unlinked", bool, "only files that are deleted (lsof +L1)", short="L"),
        Option("tasks", bool, "the files of each thread too", short="K"),
    )
    columns = (
        Column("COMMAND", "str", "name of the executable, as the kernel keeps it"),
        Column("PID", "int", "process id"),
        Column("UID", "int", "effective user id"),
        Column(
            "FD",
            "str",
            "number with r read, w write, u both, and the letter of a lock (W, R the whole file, w, r a part); "
            "cwd, rtd root directory, txt program, mem mapped file, DEL mapped file that is deleted",
        ),
        Column(
            "TYPE", "str", "REG, DIR, CHR, BLK, FIFO, IPv4, IPv6, unix, a_inode (a file without a file), ..."
        ),
        Column("DEVICE", "str", "major,minor; of a socket its inode number or address", left=False),
        Column("SIZE/OFF", "str", "bytes; where there is no size 0t and the position", left=False),
        Column("POS", "int", "where the next read or write begins, in bytes"),
        Column("NODE", "str", "inode number; of a socket the protocol", left=False),
        Column("NAME", "str", "path as the process sees it; of a socket its ends and state"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return (*self.columns[:2], *_TASK, *self.columns[2:]) if options["tasks"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        sockets = SocketNames(kernel)
        shares = in_shares(kernel, chosen(kernel, options))
        return chain.from_iterable(kernel.workers.map(partial(_rows, kernel, options, sockets), shares))


def _rows(kernel: GuestKernel, options: Options, sockets: SocketNames, shares: list[Share]) -> list[Row]:
    _expect(kernel, shares)
    rows = []
    for share in shares:
        pid, folder = share.pid, f"/proc/{share.pid}"
        uid = _owner(kernel, folder)
        if options["uid"] and uid not in options["uid"] and not isinstance(uid, Unavailable):
            continue
        name = name_of(kernel, pid)
        own = (Source(f"{folder}/comm"), Source(f"lstat {folder}", *LSTAT_UID))
        files: list[tuple[tuple[Cell, ...], _File]] = []
        head: tuple[Cell, ...] = (None, None) if options["tasks"] else ()
        if share.first:
            files += ((head, file) for file in _beside(kernel, folder, pid))
        if share.gap:
            files.append((head, _File.unreadable("NOFD", share.gap)))
        files += ((head, _descriptor(kernel, folder, pid, number, sockets)) for number in share.descriptors)
        if share.last and options["tasks"]:
            files += _of_threads(kernel, pid, sockets)
        rows += [
            Row((name, pid, *thread, uid, *file.cells), sources=(*own, *file.sources))
            for thread, file in files if _wanted(file, options)
        ]  # fmt: skip
    return rows


def _of_threads(
    kernel: GuestKernel, pid: int, sockets: SocketNames
) -> Iterator[tuple[tuple[Cell, ...], _File]]:
    """The files of a process's threads but the first, with the thread's id and name."""
    try:
        tids = numbers(kernel.files.listdir(f"/proc/{pid}/task"))
    except UNREADABLE:
        return  # its files were not to be read either, and say so
    for tid in tids:
        if tid == pid:
            continue
        folder = f"/proc/{pid}/task/{tid}"
        head = tid, _task_name(kernel, folder)
        yield from ((head, file) for file in _beside(kernel, folder, pid))
        try:
            descriptors = numbers(kernel.files.listdir(f"{folder}/fd"))
        except UNREADABLE as error:
            yield head, _File.unreadable("NOFD", why(f"{folder}/fd", error))
            continue
        yield from ((head, _descriptor(kernel, folder, pid, number, sockets)) for number in descriptors)


def _expect(kernel: GuestKernel, shares: list[Share]) -> None:
    """Tell the kernel what will be asked of these processes (of their first threads)."""
    links = [link for link, _fd in _PLACES]
    pids, first = [share.pid for share in shares], [share.pid for share in shares if share.first]
    kernel.files.expect(
        [
            *files_of(pids, "", kind="lstat"), *files_of(pids, "comm"), *files_of(first, "maps"),
            *files_of(first, *links, kind="readlink"), *files_of(first, *links, kind="stat"),
        ]
    )  # fmt: skip
    files: list[Question] = []
    for share in shares:
        for number in share.descriptors:
            link = f"/proc/{share.pid}/fd/{number}"
            files += (
                Question("read", f"/proc/{share.pid}/fdinfo/{number}"),
                Question("readlink", link),
                Question("stat", link),
            )
    for pid in first:
        data, _gap = read_maps(kernel, f"/proc/{pid}/maps")
        seen: set[tuple[str, int]] = set()
        for mapping, _sizes, _source in entries("", data):
            if (
                isinstance(mapping, Mapping)
                and _is_file(mapping)
                and (key := (mapping.device, mapping.inode)) not in seen
            ):
                seen.add(key)
                files.append(Question("stat", _mapped_link(pid, mapping)))
    kernel.files.expect(files)


class _File(NamedTuple):
    """One row but for the process it belongs to."""

    fd: str
    type: Cell = None
    device: Cell = None
    size: Cell = None
    position: Cell = None
    node: Cell = None
    name: Cell = None
    sources: tuple[Source, ...] = ()
    unlinked: bool = False
    socket: SocketName | None = None

    @classmethod
    def unreadable(cls, fd: str, gap: Unavailable) -> _File:
        return cls(fd, gap, gap, gap, gap, gap, gap)

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.fd, self.type, self.device, self.size, self.position, self.node, self.name)


def _wanted(file: _File, options: Options) -> bool:
    if isinstance(file.name, Unavailable):
        return True
    if options["unlinked"] and not file.unlinked:
        return False
    if not (options["inet"] or options["port"]):
        return True
    ports = file.socket.ports if file.socket else ()
    return bool(ports) and (not options["port"] or not set(ports).isdisjoint(options["port"]))


def _owner(kernel: GuestKernel, folder: str) -> Cell:
    try:
        return kernel.files.stat(folder).uid
    except UNREADABLE as error:
        return why(folder, error)


def _task_name(kernel: GuestKernel, folder: str) -> Cell:
    try:
        return kernel.files.read(f"{folder}/comm").removesuffix(b"\n").decode("utf-8", "surrogateescape")
    except UNREADABLE as error:
        return why(f"{folder}/comm", error)


def _beside(kernel: GuestKernel, folder: str, pid: int) -> Iterator[_File]:
    """What a process or thread has beside its descriptors: directories, its program, mapped files."""
    program = None
    for link, fd in _PLACES:
        file = _linked(kernel, f"{folder}/{link}", fd)
        if file:
            yield file
            program = file
    yield from _mapped(kernel, folder, pid, program)


def _linked(kernel: GuestKernel, link: str, fd: str, position: Cell = None) -> _File | None:
    """What a link of /proc leads to; None if there is no such link (a kernel thread has no program, a zombie
    no directory)."""
    try:
        target = kernel.files.readlink(link)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in (ENOENT, ESRCH):
            return None
        return _File.unreadable(fd, why(link, error))
    try:
        seen = kernel.files.stat(link, follow=True)
    except UNREADABLE as error:
        gap = why(link, error)
        return _File(fd, gap, gap, gap, position, gap, target, (Source(f"readlink {link}"),))
    return _described(fd, target, seen, position, (Source(f"readlink {link}"), Source(f"stat {link}")))


def _described(fd: str, target: str, seen: Stat, position: Cell, sources: tuple[Source, ...]) -> _File:
    kind = _KINDS.get(modes.S_IFMT(seen.mode), f"{modes.S_IFMT(seen.mode):06o}")
    device = seen.rdev if kind in ("CHR", "BLK") else seen.dev
    size: Cell = str(seen.size) if kind in _WITH_SIZE else position
    if isinstance(size, int):
        size = f"0t{size}"
    name = target.partition(":[")[0] if kind == "FIFO" else target.removeprefix("anon_inode:")
    unlinked = seen.nlink == 0 and kind in ("REG", "DIR")
    return _File(fd, kind, device_text(device), size, position, str(seen.ino), name, sources, unlinked)


def device_text(number: int) -> str:
    """`major,minor` of a device number of stat(2) (include/linux/kdev_t.h, new_encode_dev)."""
    return f"{(number >> 8) & 0xFFF},{(number & 0xFF) | ((number >> 12) & 0xFFF00)}"


def _is_file(mapping: Mapping) -> bool:
    return bool(mapping.inode) or mapping.path.startswith("/")


def _mapped_link(pid: int, mapping: Mapping) -> str:
    return f"/proc/{pid}/map_files/{mapping.start_vaddr:x}-{mapping.end_vaddr:x}"


def _mapped(kernel: GuestKernel, folder: str, pid: int, program: _File | None) -> Iterator[_File]:
    """Each file that is mapped, once, but for the program."""
    path = f"{folder}/maps"
    data, gap = read_maps(kernel, path)
    seen = {(program.device, program.node)} if program and program.fd == "txt" else set()
    for mapping, _sizes, source in entries(path, data):
        if not isinstance(mapping, Mapping):
            gap = Unavailable(f"{path}: {mapping}")
            continue
        key = (mapping.device.replace(":", ","), str(mapping.inode))
        if not _is_file(mapping) or key in seen:
            continue
        seen.add(key)
        fd = "DEL" if mapping.path.endswith(DELETED) else "mem"
        link = _mapped_link(pid, mapping)
        name = mapping.path.removesuffix(DELETED)
        try:
            file = _described(
                fd, name, kernel.files.stat(link, follow=True), None, (source, Source(f"stat {link}"))
            )
        except UNREADABLE as error:
            file = _File(fd, why(link, error), key[0], why(link, error), None, key[1], name, (source,))
        yield file._replace(device=key[0], node=key[1], unlinked=fd == "DEL")
    if gap:
        yield _File.unreadable("mem", gap)


def _descriptor(kernel: GuestKernel, folder: str, pid: int, number: int, sockets: SocketNames) -> _File:
    path = f"{folder}/fdinfo/{number}"
    info: FdInfo | Unavailable
    try:
        info = parse_fdinfo(kernel.files.read(path))
    except UNREADABLE as error:
        info = why(path, error)
    position: Cell = info if isinstance(info, Unavailable) else info.position
    fd = str(number) if isinstance(info, Unavailable) else f"{number}{info.access}{info.lock}"
    link = f"{folder}/fd/{number}"
    file = _linked(kernel, link, fd, position)
    if file is None:
        return _File.unreadable(fd, Unavailable(f"{link}: it is listed, and not there"))
    file = file._replace(sources=(*file.sources, Source(path)))
    if not isinstance(file.name, str):
        return file
    inode = socket_inode(file.name)
    if inode is not None:
        return _socket(file, sockets.find(pid, inode))
    if file.type == "a_inode" and file.name.endswith("]") and isinstance(info, FdInfo) and info.detail:
        return file._replace(name=f"{file.name[:-1]}:{info.detail}]")
    return file


def _socket(file: _File, found: SocketName | Unavailable | None) -> _File:
    if isinstance(found, SocketName):
        return file._replace(
            type=found.type, device=found.device or None, node=found.node or None, name=found.name,
            sources=(*file.sources, found.source), socket=found,
        )  # fmt: skip
    return file if found is None else file._replace(name=found)


TOOL = Lsof()
