"""Sockets that one of the kernel's views shows and another does not.

Shown by descriptors, missing in the tables of /proc/net: the socket was taken out of the hash tables of its
protocol; it works on. (A socket that was never bound looks the same.)
Shown by the tables, missing in the descriptors of all listed processes: the process is hidden. (The kernel's
own sockets, those of NFS for example, look the same.)
Counted as `inuse` in /proc/net/sockstat, more than there are lines: taken out without being counted out.

Sources: net/core/sock.c, net/ipv4/proc.c, net/ipv4/inet_hashtables.c (Linux 5.10 to 6.12). A patched
`seq_show` of the machine itself is not run here, so tables show what it hid: `hb run DUMP check` finds the
patch.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.net import TIME_WAIT, parse_inet_socket, parse_packet_socket
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.cross_view.comparison import Finding
from hybridbridge_vol.tools.network.socket_names import SocketNames
from hybridbridge_vol.tools.network.socket_owners import SocketOwners
from hybridbridge_vol.tools.network.table_lines import table_lines
from hybridbridge_vol.tools.process.listing import numbers

_NEW_SYN_RECV = (3, 12)
"""Half open connections: the file shows SYN_RECV for both."""
_COUNTED = {
    "tcp": ("sockstat", "TCP"),
    "tcp6": ("sockstat6", "TCP6"),
    "udp": ("sockstat", "UDP"),
    "udp6": ("sockstat6", "UDP6"),
    "raw": ("sockstat", "RAW"),
    "raw6": ("sockstat6", "RAW6"),
}
_FDS = "/proc/PID/fd"


def hidden_sockets(kernel: GuestKernel) -> Iterator[Finding | Unavailable]:
    """What disagrees, in every network namespace that a listed process is in."""
    owners = SocketOwners(kernel)
    names = SocketNames(kernel)
    yield from _unlisted(owners, names)
    for pid in _namespaces(kernel):
        for table in (*_COUNTED, "packet"):
            yield from _of_table(kernel, f"/proc/{pid}/net", table, owners)
    if owners.gap:
        yield owners.gap


def _unlisted(owners: SocketOwners, names: SocketNames) -> Iterator[Finding | Unavailable]:
    for inode, holders in sorted(owners.all().items()):
        holder = holders[0]
        found = names.find(holder.pid, inode)
        if isinstance(found, Unavailable):
            yield found
        elif found is None:
            seen = f"{_FDS}: {', '.join(f'{h.pid}/{h.fd}' for h in holders[:8])}"
            yield Finding(
                "socket", f"inode {inode}", owners.name(holder.pid), seen, "/proc/net", (holder.source,)
            )


def _namespaces(kernel: GuestKernel) -> list[int]:
    """One process of each network namespace."""
    found: dict[str, int] = {}
    for pid in numbers(kernel.files.listdir("/proc")):
        try:
            found.setdefault(kernel.files.readlink(f"/proc/{pid}/ns/net"), pid)
        except UNREADABLE:
            continue  # a zombie has left its namespaces
    return list(found.values())


def _of_table(
    kernel: GuestKernel, folder: str, table: str, owners: SocketOwners
) -> Iterator[Finding | Unavailable]:
    path = f"{folder}/{table}"
    lines, whole = 0, True
    for line in table_lines(kernel, path):
        if isinstance(line, Unavailable):
            whole = False
            yield line
            continue
        text, source = line
        try:
            if table == "packet":
                inode, name = parse_packet_socket(text).inode, "packet"
            else:
                socket = parse_inet_socket(text)
                inode, name = socket.inode, f"{table} {socket.local.address}:{socket.local.port}"
                lines += table[:3] != "tcp" or socket.state not in (TIME_WAIT, *_NEW_SYN_RECV)
        except ParseError as error:
            whole = False
            yield Unavailable(f"{path}: {error}")
            continue
        if inode and not owners.of(inode) and not owners.gap:
            yield Finding("socket", f"inode {inode}", name, path, _FDS, (source,))
    if whole and table in _COUNTED:
        yield from _count(kernel, folder, table, lines)


def _count(kernel: GuestKernel, folder: str, table: str, lines: int) -> Iterator[Finding | Unavailable]:
    file, key = _COUNTED[table]
    path = f"{folder}/{file}"
    try:
        data = kernel.files.read(path)
    except UNREADABLE as error:
        if not isinstance(error, FileNotFoundError):
            yield why(path, error)
        return
    for line in data.decode("ascii", "replace").splitlines():
        words = line.replace(":", "").split()
        if words[:2] == [key, "inuse"] and len(words) > 2 and words[2].isdigit() and int(words[2]) > lines:
            yield Finding(
                "socket",
                f"{int(words[2]) - lines} of {words[2]}",
                table,
                path,
                f"{folder}/{table}",
                (Source(path),),
            )
