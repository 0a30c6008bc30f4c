"""What processes have open, mapped, or stand in: the files behind the links of /proc/PID."""

from __future__ import annotations

import stat as modes
from collections.abc import Iterator
from collections.abc import Mapping as Map
from errno import ENOENT, ESRCH
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.guest.values import OpenDescriptor, Question, Stat
from hybridbridge_vol.procfs.fd import FdInfo, parse_fdinfo, socket_inode
from hybridbridge_vol.procfs.maps import DELETED, Entry, Mapping, entries
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, parsed, why
from hybridbridge_vol.tools.network.socket_names import SocketName, SocketNames
from hybridbridge_vol.tools.process.descriptors import Share
from hybridbridge_vol.tools.process.listing import files_of, read_maps

_PROGRAM = "exe"
_LINKS = (("cwd", "cwd"), ("root", "rtd"), (_PROGRAM, "txt"))
"""Links of /proc/PID, and what lsof calls them."""
_KINDS = {
    modes.S_IFREG: "REG", modes.S_IFDIR: "DIR", modes.S_IFCHR: "CHR", modes.S_IFBLK: "BLK",
    modes.S_IFIFO: "FIFO", modes.S_IFLNK: "LINK", modes.S_IFSOCK: "sock", 0: "a_inode",
}  # fmt: skip
_ANONYMOUS = "anon_inode:"
_WITH_SIZE = ("REG", "DIR", "LINK", "a_inode")


class File(NamedTuple):
    """One file of a process: a row of lsof but for the process."""

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
    def unreadable(cls, fd: str, reason: Unavailable) -> File:
        """A file about which nothing can be read."""
        return cls(fd, reason, reason, reason, reason, reason, reason)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """FD, TYPE, DEVICE, SIZE/OFF, POS, NODE, NAME."""
        return (self.fd, self.type, self.device, self.size, self.position, self.node, self.name)


_MappedKey = tuple[int, int, int, str]
MappedFiles = dict[_MappedKey, tuple[Stat, Source]]
"""What stat(2) says of mapped files, and of whose mapping it was asked, by device, inode and path: each is
asked once."""


class Known(NamedTuple):
    """What is known of some processes before their rows are made: what their descriptors lead to, by process
    and number, and their programs; their mappings, and why there may be more, by the path of maps; and the
    mapped files of all processes so far."""

    descriptors: Map[tuple[int, int], OpenDescriptor]
    programs: Map[int, OpenDescriptor]
    mappings: Map[str, tuple[list[Entry], Unavailable | None]]
    mapped: MappedFiles


def expect_files(files: Files, shares: list[Share], mapped: MappedFiles) -> Known:
    """Announce what will be asked about these processes (of their first threads); what is known of them."""
    pids, first = [share.pid for share in shares], [share.pid for share in shares if share.first]
    programs = files.programs(first)
    files.expect(_process_questions(pids, first, programs))
    descriptors = files.descriptors((share.pid, number) for share in shares for number in share.descriptors)
    mappings = {f"/proc/{pid}/maps": _mappings(files, f"/proc/{pid}/maps") for pid in first}
    known = Known(descriptors, programs, mappings, mapped)
    files.expect([*_descriptor_questions(shares, known), *_mapping_questions(first, known)])
    return known


def _process_questions(pids: list[int], first: list[int], programs: Map[int, object]) -> Iterator[Question]:
    yield from files_of(pids, "", kind="lstat")
    yield from files_of(pids, "comm")
    yield from files_of(first, "maps")
    for link, _fd in _LINKS:
        asked = [pid for pid in first if link != _PROGRAM or pid not in programs]
        yield from files_of(asked, link, kind="readlink")
        yield from files_of(asked, link, kind="stat")


def _mapping_questions(pids: list[int], known: Known) -> Iterator[Question]:
    asked = set(known.mapped)
    for pid in pids:
        for mapping, _sizes, _source in known.mappings[f"/proc/{pid}/maps"][0]:
            if isinstance(mapping, Mapping) and _is_file(mapping):
                key = _mapped_key(mapping)
                if key not in asked:
                    asked.add(key)
                    yield Question("stat", _mapped_link(pid, mapping))


def _mappings(files: Files, path: str) -> tuple[list[Entry], Unavailable | None]:
    data, read_error = read_maps(files, path)
    return list(entries(path, data)), read_error


def _descriptor_questions(shares: list[Share], known: Known) -> Iterator[Question]:
    for share in shares:
        for number in share.descriptors:
            seen = known.descriptors.get((share.pid, number))
            if seen is None or _info(seen) is None:
                yield Question("read", f"/proc/{share.pid}/fdinfo/{number}")
            if seen is None:
                link = f"/proc/{share.pid}/fd/{number}"
                yield Question("readlink", link)
                yield Question("stat", link)


def _info(seen: OpenDescriptor) -> FdInfo | None:
    """What /proc/PID/fdinfo/N says, as far as lsof needs it; None if it may say more: of locks, and of what
    an anonymous inode refers to."""
    if seen.may_be_locked or seen.target.startswith(_ANONYMOUS):
        return None
    return FdInfo(seen.position, seen.flags, "", "")


def files_beside_descriptors(files: Files, folder: str, pid: int, known: Known) -> Iterator[File]:
    """What a process or thread has beside its descriptors: directories, its program, mapped files. `folder`
    is that of the thread."""
    program = None
    for name, fd in _LINKS:
        link = f"{folder}/{name}"
        seen = known.programs.get(pid) if name == _PROGRAM and folder == f"/proc/{pid}" else None
        file = _described(fd, seen.target, seen.stat, None, _sources(link)) if seen else None
        file = file or _linked(files, link, fd)
        if file:
            yield file
            program = file
    yield from _mapped(files, folder, pid, program, known)


def _linked(files: Files, link: str, fd: str, position: Cell = None) -> File | None:
    """What a link of /proc leads to; None if there is no such link (a kernel thread has no program, a zombie
    no directory)."""
    try:
        target = files.readlink(link)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in (ENOENT, ESRCH):
            return None
        return File.unreadable(fd, why(link, error))
    seen = attempt(link, lambda: files.stat(link, follow=True))
    if isinstance(seen, Unavailable):
        return File(fd, seen, seen, seen, position, seen, target, (Source(f"readlink {link}"),))
    return _described(fd, target, seen, position, _sources(link))


def _sources(link: str) -> tuple[Source, ...]:
    return Source(f"readlink {link}"), Source(f"stat {link}")


def _described(fd: str, target: str, seen: Stat, position: Cell, sources: tuple[Source, ...]) -> File:
    kind = _KINDS.get(modes.S_IFMT(seen.mode), f"{modes.S_IFMT(seen.mode):06o}")
    device = seen.rdev if kind in ("CHR", "BLK") else seen.dev
    size: Cell = str(seen.size) if kind in _WITH_SIZE else position
    if isinstance(size, int):
        size = f"0t{size}"
    name = target.partition(":[")[0] if kind == "FIFO" else target.removeprefix(_ANONYMOUS)
    unlinked = seen.nlink == 0 and kind in ("REG", "DIR")
    return File(fd, kind, device_text(device), size, position, str(seen.ino), name, sources, unlinked)


def device_text(number: int) -> str:
    """`major,minor` of a device number of stat(2) (include/linux/kdev_t.h, new_encode_dev)."""
    return f"{(number >> 8) & 0xFFF},{(number & 0xFF) | ((number >> 12) & 0xFFF00)}"


def _is_file(mapping: Mapping) -> bool:
    return bool(mapping.inode) or mapping.path.startswith("/")


def _mapped_key(mapping: Mapping) -> _MappedKey:
    return mapping.major, mapping.minor, mapping.inode, mapping.path


def _mapped_link(pid: int, mapping: Mapping) -> str:
    return f"/proc/{pid}/map_files/{mapping.start_vaddr:x}-{mapping.end_vaddr:x}"


def _mapped(files: Files, folder: str, pid: int, program: File | None, known: Known) -> Iterator[File]:
    """Each file that is mapped, once, but for the program."""
    path = f"{folder}/maps"
    found, read_error = known.mappings.get(path) or _mappings(files, path)
    seen = {(program.device, program.node)} if program and program.fd == "txt" else set()
    for mapping, _sizes, source in found:
        if not isinstance(mapping, Mapping):
            read_error = Unavailable(f"{path}: {mapping}")
            continue
        key = (mapping.device.replace(":", ","), str(mapping.inode))
        if _is_file(mapping) and key not in seen:
            seen.add(key)
            file = _mapped_file(files, mapping, _mapped_link(pid, mapping), source, known.mapped)
            yield file._replace(device=key[0], node=key[1])
    if read_error:
        yield File.unreadable("mem", read_error)


def _mapped_file(files: Files, mapping: Mapping, link: str, source: Source, mapped: MappedFiles) -> File:
    is_deleted = mapping.path.endswith(DELETED)
    fd, name = "DEL" if is_deleted else "mem", mapping.path.removesuffix(DELETED)
    seen = mapped.get(_mapped_key(mapping))
    if seen is None:
        asked = attempt(link, lambda: files.stat(link, follow=True))
        if isinstance(asked, Unavailable):
            return File(fd, type=asked, size=asked, name=name, sources=(source,), unlinked=is_deleted)
        seen = mapped[_mapped_key(mapping)] = asked, Source(f"stat {link}")
    return _described(fd, name, seen[0], None, (source, seen[1]))._replace(unlinked=is_deleted)


def open_file(
    files: Files,
    folder: str,
    pid: int,
    number: int,
    sockets: SocketNames,
    seen: OpenDescriptor | None = None,
) -> File:
    """What a descriptor leads to. `folder` is that of the thread; `seen` what is known of it."""
    path, link = f"{folder}/fdinfo/{number}", f"{folder}/fd/{number}"
    info: FdInfo | Unavailable | None = _info(seen) if seen else None
    info = parsed(files, path, parse_fdinfo) if info is None else info
    position: Cell = info if isinstance(info, Unavailable) else info.position
    fd = str(number) if isinstance(info, Unavailable) else f"{number}{info.access}{info.lock}"
    file = _described(fd, seen.target, seen.stat, position, _sources(link)) if seen else None
    file = file or _linked(files, link, fd, position)
    if file is None:
        return File.unreadable(fd, Unavailable(f"{link}: it is listed, but does not exist"))
    file = file._replace(sources=(*file.sources, Source(path)))
    if not isinstance(file.name, str):
        return file
    inode = socket_inode(file.name)
    if inode is not None:
        return _socket(file, sockets.find(pid, inode, number))
    if file.type == "a_inode" and file.name.endswith("]") and isinstance(info, FdInfo) and info.detail:
        return file._replace(name=f"{file.name[:-1]}:{info.detail}]")
    return file


def _socket(file: File, found: SocketName | Unavailable | None) -> File:
    if isinstance(found, SocketName):
        return file._replace(
            type=found.type, device=found.device or None, node=found.node or None, name=found.name,
            sources=(*file.sources, found.source), socket=found,
        )  # fmt: skip
    return file if found is None else file._replace(name=found)
