"""The families whose tables in /proc/net hold only numbers: TCP, UDP, raw, packet, netlink (procfs/net.py
says by which functions of the kernel)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.sock_diag import OF_FILES
from hybridbridge_vol.procfs.net import (
    CLOSE,
    LISTEN,
    InetSocket,
    parse_inet_socket,
    parse_netlink_socket,
    parse_packet_socket,
)
from hybridbridge_vol.procfs.pid import USER_HZ
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import why
from hybridbridge_vol.tools.network.ss.cells import (
    INFO,
    INODE,
    LOCAL,
    MEMORY,
    MORE,
    NETID,
    PEER,
    RECV_Q,
    SEND_Q,
    SK,
    STATE,
    STATES,
    TCP,
    TIMER,
    TIMERS,
    UID,
    Cells,
    Found,
    Socket,
    endpoint_text,
    state_name,
)
from hybridbridge_vol.tools.network.ss.inet_details import Details, Key, inet_details
from hybridbridge_vol.tools.network.table_lines import table_lines

_ETH_P_ALL = 3
_NETLINK = {
    0: "rtnl", 2: "usersock", 3: "fw", 4: "tcpdiag", 5: "nflog", 6: "xfrm", 7: "selinux", 8: "iscsi",
    9: "audit", 10: "fiblookup", 11: "connector", 12: "nft", 13: "ip6fw", 15: "uevent", 16: "genl",
    18: "scsi-trans", 19: "ecryptfs", 20: "rdma", 21: "crypto", 22: "smc",
}  # fmt: skip
"""Protocols of netlink (include/uapi/linux/netlink.h), by the names that ss gives them."""

_INET = {"raw": ("icmp", "raw"), "udp": ("udp", "udplite"), "tcp": ("tcp",)}


def inet_tables(
    kernel: GuestKernel, kind: str, inet: bool, inet6: bool, details: bool = False, whole: bool = False
) -> Iterator[Found]:
    """The sockets of "raw", "udp" or "tcp", of IPv4 and IPv6; with `details` what their files do not show,
    and if that is to be `whole`, also their memory and what TCP keeps."""
    for name in _INET[kind]:
        for suffix in ("",) * inet + ("6",) * inet6:
            # the guest's own ss would have asked by sock_diag, which has a queue that /proc has not, and
            # says which sockets of IPv6 take nothing of IPv4
            table = OF_FILES.get(f"{name}{suffix}") if name == "tcp" or suffix else None
            is_asked = table is not None and kernel.sockets.has_answers(table)
            wanted = details or whole or is_asked
            known = inet_details(kernel, f"{name}{suffix}", whole) if wanted else {}
            for found in _table(kernel, f"/proc/net/{name}{suffix}", partial(_inet_line, name)):
                if isinstance(found, Socket):
                    _add(found, known, is_asked and name == "tcp" and found.state == LISTEN)
                yield found


def _add(found: Socket, known: dict[Key, Details] | Unavailable, with_queue: bool) -> None:
    """What sock_diag says of a socket besides."""
    if isinstance(known, Unavailable):
        found.cells.update(dict.fromkeys((MORE, TCP, MEMORY), known))
        return
    key = found.inode, str(found.cells[LOCAL]), str(found.cells[PEER])
    details = known.get(key)
    if details is None:
        return
    found.cells.update(zip((MORE, TCP, MEMORY), details, strict=False))
    if with_queue:
        found.cells[SEND_Q] = details.tx_queue
    if details.only_six:
        found.cells[LOCAL], found.cells[PEER] = map(_of_six, key[1:])


def _of_six(end: str) -> str:
    """An end as ss writes it of a socket that takes nothing of IPv4 (misc/ss.c, inet_addr_print): without one
    that has any address would be `*`."""
    return f"[::]{end[1:]}" if end.startswith("*:") else end


def _inet_line(name: str, line: bytes, source: Source) -> Socket:
    return inet_socket(name, parse_inet_socket(line), source)


def packet_table(kernel: GuestKernel) -> Iterator[Found]:
    """The packet sockets."""
    return _table(kernel, "/proc/net/packet", _packet)


def netlink_table(kernel: GuestKernel) -> Iterator[Found]:
    """The netlink sockets."""
    return _table(kernel, "/proc/net/netlink", _netlink)


def _table(kernel: GuestKernel, path: str, parse: Callable[[bytes, Source], Socket]) -> Iterator[Found]:
    for item in table_lines(kernel, path):
        if isinstance(item, Unavailable):
            yield item, ()
            continue
        line, source = item
        try:
            yield parse(line, source)
        except ParseError as error:
            yield why(path, error), (source,)


def inet_socket(name: str, socket: InetSocket, source: Source) -> Socket:
    """The cells of a socket of TCP, UDP, UDP-Lite, ICMP or a raw one."""
    cells: Cells = {
        NETID: name,
        STATE: state_name(socket.state),
        RECV_Q: socket.rx_queue,
        SEND_Q: socket.tx_queue,
        LOCAL: endpoint_text(socket.local),
        PEER: endpoint_text(socket.remote),
        UID: socket.uid,
        INODE: socket.inode,
        SK: socket.pointer,
    }
    if socket.timer:
        name_of = TIMERS[socket.timer] if socket.timer < len(TIMERS) else "unknown"
        retries = socket.probes if socket.timer == TIMERS.index("persist") else socket.retransmits
        cells[TIMER] = f"{name_of},{timer_text(socket.expires * 1000 // USER_HZ)},{retries}"
    if name == "tcp" and len(socket.rest) >= len(INFO):
        rto, ato, quick, window, threshold = socket.rest[: len(INFO)]
        tick = 1000 // USER_HZ
        listens = socket.state == LISTEN  # whose last number is the length of its fast open queue
        values = (
            rto * tick,
            ato * tick or None,
            quick >> 1 or None,
            window,
            None if threshold < 0 or listens else threshold,
        )
        cells.update(zip(INFO, values, strict=True))
    return Socket(socket.state, socket.inode, cells, (source,))


def timer_text(milliseconds: int) -> str:
    """The time left as ss writes it (misc/ss.c, print_ms_timer): `1min12sec`, `52sec`, `7.900ms`, `200ms`."""
    minutes, rest = divmod(milliseconds, 60_000)
    seconds, rest = divmod(rest, 1000)
    if minutes:
        rest = 0
        seconds = 0 if minutes > 9 else seconds
    if seconds > 9:
        rest = 0
    return (
        (f"{minutes}min" if minutes else "")
        + (f"{seconds}{'.' if rest else 'sec'}" if seconds else "")
        + (f"{rest:03d}ms" if rest else "")
    )


def _packet(line: bytes, source: Source) -> Socket:
    socket = parse_packet_socket(line)
    protocol = "*" if socket.protocol == _ETH_P_ALL else f"[{socket.protocol}]"
    cells: Cells = {
        NETID: {3: "p_raw", 2: "p_dgr"}.get(socket.type, f"p_{socket.type}"),
        STATE: STATES[CLOSE],
        RECV_Q: socket.rx_queue,
        SEND_Q: 0,
        LOCAL: f"{protocol}:{f'if{socket.interface}' if socket.interface else '*'}",
        PEER: "*",
        UID: socket.uid,
        INODE: socket.inode,
        SK: socket.pointer,
    }
    return Socket(CLOSE, socket.inode, cells, (source,))


def _netlink(line: bytes, source: Source) -> Socket:
    socket = parse_netlink_socket(line)
    port = "kernel" if socket.port == 0 else "*" if socket.port == -1 else str(socket.port)
    cells: Cells = {
        NETID: "nl",
        STATE: STATES[CLOSE],
        RECV_Q: socket.rx_queue,
        SEND_Q: socket.tx_queue,
        LOCAL: f"{_NETLINK.get(socket.protocol, socket.protocol)}:{port}",
        PEER: "*",
        INODE: socket.inode,
        SK: socket.pointer,
    }
    return Socket(CLOSE, socket.inode, cells, (source,))
