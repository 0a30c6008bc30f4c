"""What a socket is, by the inode number that /proc/PID/fd shows: found in the tables of /proc/net, as lsof
does."""

from __future__ import annotations

from collections.abc import Callable
from errno import ENOENT, EPERM
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink import sock_diag
from hybridbridge_vol.netlink.inet_diag import InetDiag, parse_inet_diag
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.procfs import net as proc_net
from hybridbridge_vol.procfs.net import Endpoint
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.network.table_lines import table_lines
from hybridbridge_vol.tools.network.unix_sockets import Unix, unix_sockets
from hybridbridge_vol.tools.process.listing import processes

STATES = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
    "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECV",
)  # fmt: skip
"""include/net/tcp_states.h."""
_UNIX_STATES = ("FREE", "UNCONNECTED", "CONNECTING", "CONNECTED", "DISCONNECTING")  # include/uapi/linux/net.h
_TYPES = {1: "STREAM", 2: "DGRAM", 3: "RAW", 4: "RDM", 5: "SEQPACKET", 6: "DCCP", 10: "PACKET"}
_NETLINK = {
    0: "ROUTE", 2: "USERSOCK", 4: "SOCK_DIAG", 5: "NFLOG", 6: "XFRM", 7: "SELINUX", 8: "ISCSI", 9: "AUDIT",
    10: "FIB_LOOKUP", 11: "CONNECTOR", 12: "NETFILTER", 15: "KOBJECT_UEVENT", 16: "GENERIC",
    18: "SCSITRANSPORT", 20: "RDMA", 21: "CRYPTO", 22: "SMC",
}  # fmt: skip
"""include/uapi/linux/netlink.h."""
_ETH_P_ALL = 3


class SocketName(NamedTuple):
    """A socket in lsof's terms."""

    type: str
    """IPv4, IPv6, unix, netlink, pack, raw, raw6."""
    device: str
    node: str
    name: str
    source: Source
    ports: tuple[int, ...] = ()
    """Local and remote, of TCP and UDP."""


class SocketNames:
    """The sockets of every network namespace, each table read once. A process may hold sockets of another one
    than its own: those that it had before it entered it, or got from outside."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel
        self._namespaces: dict[int, str] = {}
        self._tables: dict[str, dict[int, SocketName]] = {}
        self._gaps: dict[str, Unavailable] = {}
        self._unread: dict[str, set[str]] = {}
        self._whole: set[str] = set()
        self._looked_in: dict[tuple[int, int], str] = {}
        self._members: dict[str, int] | None = None

    def unread(self, pid: int, inode: int) -> set[str]:
        """The tables of a socket's namespace that could not be read in full: unix, tcp, tcp6 and so on.
        `find` was asked before."""
        return self._unread.get(self._looked_in.get((pid, inode), ""), set())

    def _lose(self, namespace: str, table: str, reason: Unavailable) -> None:
        self._gaps[namespace] = reason
        self._unread.setdefault(namespace, set()).add(table)

    def prepare(self, pid: int) -> None:
        """Read the tables of a process's namespace: before several workers need them."""
        self.find(pid, 0)

    def find(self, pid: int, inode: int, fd: int | None = None) -> SocketName | Unavailable | None:
        """A socket of a process; None if no table lists it, or why a table that might could not be read. With
        the descriptor `fd` it is looked for in the namespace that it lies in, if that is another one."""
        own = self._namespace_of(pid)
        if isinstance(own, Unavailable):
            return own
        found = self._find_in(own, pid, inode)
        self._looked_in[pid, inode] = own
        if isinstance(found, SocketName) or fd is None:
            return found
        try:
            namespace = self._kernel.sockets.namespace(pid, fd)
        except UNREADABLE:
            return found
        if namespace == own:
            return found
        self._looked_in[pid, inode] = namespace
        member = self._member(namespace)
        if member is None:
            return Unavailable(f"socket {pid}/{fd}: no process is in its network namespace, {namespace}")
        return self._find_in(namespace, member, inode)

    def _namespace_of(self, pid: int) -> str | Unavailable:
        if pid not in self._namespaces:
            link = f"/proc/{pid}/ns/net"
            try:
                self._namespaces[pid] = self._kernel.files.readlink(link)
            except UNREADABLE as error:
                return why(link, error)
        return self._namespaces[pid]

    def _member(self, namespace: str) -> int | None:
        """A process of a namespace."""
        if self._members is None:
            self._members = {}
            for pid in processes(self._kernel):
                found = self._namespace_of(pid)
                if isinstance(found, str):
                    self._members.setdefault(found, pid)
        return self._members.get(namespace)

    def _find_in(self, namespace: str, pid: int, inode: int) -> SocketName | Unavailable | None:
        """A socket in the tables of a namespace, as the process `pid` of it sees them."""
        if namespace not in self._tables:
            self._tables[namespace] = self._read(namespace, pid)
        if inode and inode not in self._tables[namespace]:
            self._read_rest(namespace, pid)
        return self._tables[namespace].get(inode) or self._gaps.get(namespace)

    def _read_rest(self, namespace: str, pid: int) -> None:
        """Add the sockets that no file lists. Few machines have any: they are asked for if one is missed."""
        if namespace not in self._whole:
            self._whole.add(namespace)
            for table in (sock_diag.MPTCP, sock_diag.MPTCP6, sock_diag.SCTP, sock_diag.SCTP6):
                self._add_diag(self._tables[namespace], namespace, table, pid)

    def _read(self, namespace: str, pid: int) -> dict[int, SocketName]:
        folder, found = f"/proc/{pid}/net", dict[int, SocketName]()
        for unix in unix_sockets(self._kernel, pid):
            if isinstance(unix, Unavailable):
                self._lose(namespace, "unix", unix)
            elif unix.inode:
                found.setdefault(unix.inode, _unix(unix))
        for file, make in _READERS.items():
            for line in table_lines(self._kernel, f"{folder}/{file}"):
                if isinstance(line, Unavailable):
                    self._lose(namespace, file, line)
                    continue
                try:
                    inode, name = make(file, *line)
                except ParseError as error:
                    self._lose(namespace, file, Unavailable(f"{folder}/{file}: {error}"))
                    continue
                if inode:
                    found.setdefault(inode, name)
        return found

    def _add_diag(
        self, found: dict[int, SocketName], namespace: str, table: sock_diag.Table, pid: int
    ) -> None:
        """The sockets of a protocol that no file lists. Without its module no such socket is known."""
        source = table.source(pid)
        try:
            data = self._kernel.sockets.dump(table, pid)
        except UNREADABLE as error:
            if not isinstance(error, OSError) or error.errno not in (ENOENT, EPERM):
                self._lose(namespace, table.name, why(source, error))
            return
        for answer, place in parsed(source, (sock_diag.SOCK_DIAG_BY_FAMILY,), data, parse_inet_diag):
            if isinstance(answer, ParseError):
                self._lose(namespace, table.name, Unavailable(str(answer)))
            elif answer.inode:
                found.setdefault(answer.inode, _of_diag(table, answer, place))


def _of_diag(table: sock_diag.Table, answer: InetDiag, source: Source) -> SocketName:
    six = answer.family == sock_diag.AF_INET6
    connected = answer.remote.port or not answer.remote.is_any
    name = _end(answer.local, six) + (f"->{_end(answer.remote, six)}" if connected else "")
    state = STATES[answer.state] if answer.state < len(STATES) else f"state {answer.state}"
    protocol = table.name.removesuffix("6").upper()
    ports = (answer.local.port, answer.remote.port)
    kind = "IPv6" if six else "IPv4"
    return SocketName(kind, str(answer.inode), protocol, f"{name} ({state})", source, ports)


def _inet(file: str, line: bytes, source: Source) -> tuple[int, SocketName]:
    socket = proc_net.parse_inet_socket(line)
    protocol = file.removesuffix("6")
    six = file.endswith("6")
    connected = socket.remote.port or not socket.remote.is_any
    name = _end(socket.local, six) + (f"->{_end(socket.remote, six)}" if connected else "")
    state = STATES[socket.state] if socket.state < len(STATES) else f"state {socket.state}"
    if protocol == "tcp":
        name += f" ({state})"
    elif protocol in ("raw", "icmp"):
        return socket.inode, SocketName(file, "", str(socket.inode), f"{name} ({state})", source)
    ports = (socket.local.port, socket.remote.port)
    return socket.inode, SocketName(
        "IPv6" if six else "IPv4", str(socket.inode), protocol.upper(), name, source, ports
    )


def _end(end: Endpoint, six: bool) -> str:
    address = "*" if end.is_any else f"[{end.address}]" if six else end.address
    return f"{address}:{end.port or '*'}"


def _unix(socket: Unix) -> SocketName:
    state = "LISTEN" if socket.listens else _named(dict(enumerate(_UNIX_STATES)), socket.socket_state)
    name = f"{socket.name} type={_named(_TYPES, socket.type)} ({state})".lstrip()
    device = "" if socket.pointer is None else f"{socket.pointer:#018x}"
    return SocketName("unix", device, str(socket.inode), name, socket.sources[0])


def _netlink(_file: str, line: bytes, source: Source) -> tuple[int, SocketName]:
    socket = proc_net.parse_netlink_socket(line)
    return socket.inode, SocketName(
        "netlink", "", str(socket.inode), _named(_NETLINK, socket.protocol), source
    )


def _packet(_file: str, line: bytes, source: Source) -> tuple[int, SocketName]:
    socket = proc_net.parse_packet_socket(line)
    protocol = "ALL" if socket.protocol == _ETH_P_ALL else f"{socket.protocol:#06x}"
    name = f"type=SOCK_{_named(_TYPES, socket.type)}"
    return socket.inode, SocketName("pack", str(socket.inode), protocol, name, source)


def _named(names: dict[int, str], number: int) -> str:
    return names.get(number, str(number))


_READERS: dict[str, Callable[[str, bytes, Source], tuple[int, SocketName]]] = {
    **{f"{name}{six}": _inet for name in ("tcp", "udp", "udplite", "raw", "icmp") for six in ("", "6")},
    "netlink": _netlink,
    "packet": _packet,
}
