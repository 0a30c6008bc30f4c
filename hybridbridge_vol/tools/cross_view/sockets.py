"""Sockets that one of the kernel's views shows and another does not.

Shown by descriptors, missing in the tables of /proc/net and in sock_diag's answers: the socket was taken out
of the hash tables of its protocol; it works on. The protocol itself says whether a socket must be in its
tables: one of TCP in every state but CLOSE, one of UDP or for pings when it is bound, one of unix, raw and
packet sockets always. What a process opened and never used is in none of them.
Shown by the tables, missing in the descriptors of all listed processes: the process is hidden. The kernel's
own sockets (those of WireGuard, VXLAN, NFS) are known by having no open file at all, or by a module that
takes what arrives at them.
Counted as `inuse` in /proc/net/sockstat, more than there are lines: taken out without being counted out.

Sources: net/core/sock.c, net/ipv4/proc.c, net/ipv4/inet_hashtables.c, net/ipv4/udp.c, net/ipv4/raw.c,
net/unix/af_unix.c, net/packet/af_packet.c, net/netlink/af_netlink.c (Linux 5.10 to 7.2). A patched
`seq_show` of the machine itself is not run here, so tables show what it hid: `hb run DUMP check` finds the
patch.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import HeldSocket
from hybridbridge_vol.procfs.net import CLOSE, SOCK_RAW, TIME_WAIT, parse_inet_socket, parse_packet_socket
from hybridbridge_vol.procfs.sources import Source, split_lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.cross_view.comparison import Finding
from hybridbridge_vol.tools.network.socket_names import SocketNames
from hybridbridge_vol.tools.network.socket_owners import Holder, SocketOwners
from hybridbridge_vol.tools.network.table_lines import table_lines
from hybridbridge_vol.tools.process.listing import files_of, in_parts, processes

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
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _AF_PACKET = 1, 2, 10, 16, 17
_IPPROTO_TCP, _IPPROTO_MPTCP = 6, 262
_BY_PORT = (1, 17, 58, 136)
"""ICMP (for pings), UDP, ICMPv6, UDP-Lite: in their tables as soon as they are bound."""

_TABLES = {_AF_UNIX: "unix", _AF_PACKET: "packet", _AF_NETLINK: "netlink"}
_TABLES_OF_PROTOCOLS = {
    _IPPROTO_TCP: "tcp", _IPPROTO_MPTCP: "mptcp", 17: "udp", 136: "udplite", 1: "icmp", 58: "icmp",
    132: "sctp",
}  # fmt: skip


def hidden_sockets(kernel: GuestKernel) -> Iterator[Finding | Unavailable]:
    """What disagrees, in every network namespace that a listed process is in."""
    owners = SocketOwners(kernel)
    names = SocketNames(kernel)
    yield from _unlisted(kernel, owners, names)
    for pid in _namespaces(kernel):
        for table in (*_COUNTED, "packet"):
            yield from _of_table(kernel, f"/proc/{pid}/net", table, owners)
    if owners.gap:
        yield owners.gap


def _unlisted(
    kernel: GuestKernel, owners: SocketOwners, names: SocketNames
) -> Iterator[Finding | Unavailable]:
    for inode, holders in sorted(owners.all().items()):
        holder = holders[0]
        found = names.find(holder.pid, inode, holder.fd)
        if found is None or isinstance(found, Unavailable):
            yield from _if_hidden(kernel, owners, inode, holders, found, names.unread(holder.pid, inode))


def _if_hidden(
    kernel: GuestKernel,
    owners: SocketOwners,
    inode: int,
    holders: list[Holder],
    read_error: Unavailable | None,
    unread: set[str],
) -> Iterator[Finding | Unavailable]:
    """A socket that no table lists, if one should. With a read error some table could not be read: that of
    the socket's own protocol, if it is one of the `unread`, or if these are not known."""
    first = holders[0]
    source = f"socket {first.pid}/{first.fd}"
    try:
        held = kernel.sockets.held(first.pid, first.fd)
    except UNREADABLE as error:
        yield why(source, error)
        return
    if read_error and (not unread or table_of(held) in unread):
        yield read_error
    elif must_be_listed(held):
        seen = f"{_FDS}: {', '.join(f'{h.pid}/{h.fd}' for h in holders[:8])}"
        name = owners.name(first.pid)
        yield Finding("socket", f"inode {inode}", name, seen, "/proc/net", (first.source, Source(source)))


def must_be_listed(held: HeldSocket) -> bool:
    """Whether a socket in this state is in a table of its protocol, unless it was taken out. Families without
    a table are never missed."""
    if held.domain in (_AF_UNIX, _AF_PACKET):
        return True
    if held.domain == _AF_NETLINK:
        return bool(held.port)
    if held.domain not in (_AF_INET, _AF_INET6):
        return False
    if held.type == SOCK_RAW:
        return True
    if held.protocol in (_IPPROTO_TCP, _IPPROTO_MPTCP):
        return held.state not in (None, CLOSE)
    return bool(held.port) if held.protocol in _BY_PORT else held.listens


def table_of(held: HeldSocket) -> str:
    """The table of a socket's protocol; empty for one that has none."""
    if held.domain in _TABLES:
        return _TABLES[held.domain]
    name = "raw" if held.type == SOCK_RAW else _TABLES_OF_PROTOCOLS.get(held.protocol, "")
    return name and name + "6" * (held.domain == _AF_INET6)


def _namespaces(kernel: GuestKernel) -> list[int]:
    """One process of each network namespace."""
    found: dict[str, int] = {}
    for part in in_parts(processes(kernel)):
        kernel.files.expect(files_of(part, "ns/net", kind="readlink"))
        for pid in part:
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
    orphans: list[tuple[int, Finding]] = []
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
                inode, name = socket.inode, f"{table} {socket.local.text}"
                lines += table[:3] != "tcp" or socket.state not in (TIME_WAIT, *_NEW_SYN_RECV)
        except ParseError as error:
            whole = False
            yield Unavailable(f"{path}: {error}")
            continue
        if inode and not owners.of(inode) and not owners.gap:
            orphans.append((inode, Finding("socket", f"inode {inode}", name, path, _FDS, (source,))))
    yield from _not_the_kernels(kernel, path, table, orphans)
    if whole and table in _COUNTED:
        yield from _count(kernel, folder, table, lines)


def _not_the_kernels(
    kernel: GuestKernel, path: str, table: str, orphans: list[tuple[int, Finding]]
) -> Iterator[Finding | Unavailable]:
    """The sockets that no process has, without those that the kernel made for itself."""
    if not orphans:
        return
    own: set[int] = set()
    if table in _COUNTED:
        try:
            own = kernel.sockets.kernel_inodes(path)
        except UNREADABLE as error:
            yield why(path, error)
    yield from (finding for inode, finding in orphans if inode not in own)


def _count(kernel: GuestKernel, folder: str, table: str, lines: int) -> Iterator[Finding | Unavailable]:
    file, key = _COUNTED[table]
    path = f"{folder}/{file}"
    try:
        data = kernel.files.read(path)
    except UNREADABLE as error:
        if not isinstance(error, FileNotFoundError):
            yield why(path, error)
        return
    for line in split_lines(data):
        words = line.decode("ascii", "replace").replace(":", "").split()
        if words[:2] == [key, "inuse"] and len(words) > 2 and words[2].isdigit() and int(words[2]) > lines:
            yield Finding(
                "socket",
                f"{int(words[2]) - lines} of {words[2]}",
                table,
                path,
                f"{folder}/{table}",
                (Source(path),),
            )
