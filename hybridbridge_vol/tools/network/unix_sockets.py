"""The unix sockets of a network namespace, whatever their names are.

A name may hold any byte, and /proc/net/unix shows it as it is: a newline in it, and what follows may look
like the line of another socket. So sock_diag is asked, whose answer holds names with their lengths. What it
does not say (the kernel's address, the number of references) is read from the file, with the names that are
known by then. If sock_diag cannot be asked, the lines of the file count only as far as they are as many as
the kernel counts sockets: else those that may be part of a name are shown as unreadable.

Sources: net/unix/af_unix.c (`unix_seq_show`), net/unix/diag.c, net/core/sock.c (`proto_seq_printf`; Linux
5.10 to 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import ENOENT
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import EndlessFile
from hybridbridge_vol.netlink import sock_diag
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.unix_diag import UnixDiag, parse_unix_diag
from hybridbridge_vol.procfs.net import (
    CLOSE,
    ESTABLISHED,
    LISTEN,
    UnixSocket,
    parse_unix_socket,
    unix_records,
)
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source, split_lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, read_lines, why
from hybridbridge_vol.tools.network.table_lines import table_lines

SS_UNCONNECTED, SS_CONNECTING, SS_CONNECTED, SS_DISCONNECTING = 1, 2, 3, 4
"""include/uapi/linux/net.h."""
_CONNECTED = (SS_CONNECTED, SS_CONNECTING)


class Unix(NamedTuple):
    """A unix socket; None in a field that neither answer has."""

    type: int
    """SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET."""
    state: int
    """TCP_ESTABLISHED, TCP_CLOSE or TCP_LISTEN (include/net/tcp_states.h)."""
    inode: int
    name: str
    """`@` first: an abstract one, in which NUL bytes are shown as `@`; empty: it has none."""
    pointer: int | None
    references: int | None
    diag: UnixDiag | None
    sources: tuple[Source, ...]

    @property
    def listens(self) -> bool:
        return self.state == LISTEN

    @property
    def socket_state(self) -> int:
        """SS_*, as /proc/net/unix derives it (`unix_seq_show`)."""
        connected = self.state == ESTABLISHED
        if self.inode:
            return SS_CONNECTED if connected else SS_UNCONNECTED
        return SS_CONNECTING if connected else SS_DISCONNECTING


def unix_sockets(kernel: GuestKernel, pid: int | None = None) -> Iterator[Unix | Unavailable]:
    """The unix sockets in the network namespace of a process, by default the session's; last, why some may be
    missing."""
    source = sock_diag.UNIX.source(pid)
    gap = None
    try:
        data = kernel.sockets.dump(sock_diag.UNIX, pid)
    except EndlessFile as error:
        data, gap = error.partial, Unavailable(f"{source}: the kernel's list leads back into itself")
    except UNREADABLE as error:
        yield from _by_text(kernel, _folder(pid), why(source, error))
        return
    found: dict[UnixDiag, Source] = {}
    for answer, place in parsed(source, (sock_diag.SOCK_DIAG_BY_FAMILY,), data, parse_unix_diag):
        if isinstance(answer, ParseError):
            yield Unavailable(str(answer))
        else:
            found.setdefault(answer, place)
    yield from _joined(kernel, f"{_folder(pid)}/unix", found)
    if gap:
        yield gap


def _folder(pid: int | None) -> str:
    return "/proc/net" if pid is None else f"/proc/{pid}/net"


def _joined(kernel: GuestKernel, path: str, found: dict[UnixDiag, Source]) -> Iterator[Unix | Unavailable]:
    names: dict[int, set[bytes]] = {}
    for answer in found:
        names.setdefault(answer.inode, set()).add(answer.shown_name)
    data, gap = read_lines(kernel.files, path, empty=ENOENT)
    records, agrees = unix_records(path, data, names)
    by_inode = {record.socket.inode: record for record in records}
    for answer, place in found.items():
        record = by_inode.get(answer.inode) if answer.inode else None
        yield Unix(
            answer.type, answer.state, answer.inode, text(answer.shown_name),
            record.socket.pointer if record else None, record.socket.references if record else None, answer,
            (place, record.source) if record else (place,),
        )  # fmt: skip
    # sock_diag leaves out what has no inode (sk_diag_fill)
    yield from (_of_line(record.socket, record.source) for record in records if not record.socket.inode)
    if gap or not agrees:
        yield gap or Unavailable(f"{path}: not what sock_diag says of the same sockets")


def _by_text(kernel: GuestKernel, folder: str, gap: Unavailable) -> Iterator[Unix | Unavailable]:
    """The lines of /proc/net/unix. A line that follows one with a name may be part of that name, unless there
    are as many lines as sockets."""
    path = f"{folder}/unix"
    lines = list(table_lines(kernel, path))
    count = counted(kernel, folder, b"UNIX", b"UNIX-STREAM")  # two protocols since 5.15
    exact = count == sum(not isinstance(line, Unavailable) for line in lines)
    if not exact and lines:
        sockets = "an unknown number of" if count is None else count
        yield Unavailable(f"{path}: {len(lines)} lines for {sockets} sockets; {gap.reason}")
    doubtful = False
    for item in lines:
        if isinstance(item, Unavailable):
            yield item
            continue
        line, source = item
        try:
            socket = parse_unix_socket(line)
        except ParseError as error:
            yield why(path, error)
            continue
        if doubtful and not exact:
            yield Unavailable(f"{path}: a line that may be part of a name: {line[:60]!r}")
            continue
        doubtful = bool(socket.path)
        yield _of_line(socket, source)


def _of_line(socket: UnixSocket, source: Source) -> Unix:
    state = LISTEN if socket.listens else ESTABLISHED if socket.state in _CONNECTED else CLOSE
    return Unix(
        socket.type, state, socket.inode, socket.path, socket.pointer, socket.references, None, (source,)
    )


def counted(kernel: GuestKernel, folder: str, *protocols: bytes) -> int | None:
    """How many sockets of some protocols the kernel counts in /proc/net/protocols; None if it does not say.
    The names there are the kernel's own."""
    try:
        words = [line.split() for line in split_lines(kernel.files.read(f"{folder}/protocols"))]
        return sum(int(fields[2]) for fields in words if fields and fields[0] in protocols)
    except (*UNREADABLE, ValueError, IndexError):
        return None
