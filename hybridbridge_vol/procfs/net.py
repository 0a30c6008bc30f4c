"""The formats of /proc/net that list sockets: tcp, udp, raw, icmp, unix, packet, netlink.

Sources: net/ipv4/tcp_ipv4.c (get_tcp4_sock and its neighbours), net/ipv6/tcp_ipv6.c, net/ipv4/udp.c,
net/unix/af_unix.c, net/packet/af_packet.c, net/netlink/af_netlink.c (Linux 5.10 to 6.12). Numbers stay
numbers: no host or service name is guessed. All of these tables but that of unix sockets hold nothing but
numbers (get_tcp4_sock, udp4_format_sock, raw_sock_seq_show, ping_v4_format_sock, packet_seq_show,
netlink_native_seq_show): no process can put text into them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source

(
    ESTABLISHED,
    SYN_SENT,
    SYN_RECV,
    FIN_WAIT1,
    FIN_WAIT2,
    TIME_WAIT,
    CLOSE,
    CLOSE_WAIT,
    LAST_ACK,
    LISTEN,
    CLOSING,
) = range(1, 12)
"""include/net/tcp_states.h; sockets of every family keep their state in these numbers."""
SO_ACCEPTCON = 1 << 16
"""In a unix socket's flags: it listens (include/linux/net.h, as shown by unix_seq_show)."""
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP, SOCK_PACKET = 1, 2, 3, 4, 5, 6, 10

_NO_KEY = b"(____ptrval____)"
"""What `%p` and `%pK` print until there is randomness for the key that addresses are hashed with
(`ptr_to_id`, lib/vsprintf.c): for long on a machine without RDRAND, or on one that does not trust it."""
_POINTER = rb"[0-9a-f]+|\(____ptrval____\)"


class Endpoint(NamedTuple):
    """One end of a socket: an address as text and a port (of a raw socket: its protocol)."""

    address: str
    port: int

    @property
    def is_any(self) -> bool:
        """Bound to, or connected with, no address in particular."""
        return self.address in ("0.0.0.0", "::")

    @property
    def text(self) -> str:
        """As `127.0.0.1:22` or `[::1]:22` (RFC 5952, section 6)."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class InetSocket(NamedTuple):
    """One line of /proc/net/tcp, udp, raw, icmp, udplite and their IPv6 twins."""

    local: Endpoint
    remote: Endpoint
    state: int
    tx_queue: int
    """Bytes not yet acknowledged."""
    rx_queue: int
    """Bytes not yet read; of a listening socket: connections not yet accepted."""
    timer: int
    """0 none, 1 retransmission, 2 keep-alive or SYN, 3 TIME_WAIT, 4 zero window probe."""
    expires: int
    """When the timer runs out, in 1/100 s from now."""
    retransmits: int
    uid: int
    probes: int
    """Unanswered zero window probes."""
    inode: int
    """0: the socket belongs to no process."""
    references: int
    pointer: int | None
    rest: tuple[int, ...]
    """TCP: retransmission time-out and delayed acknowledgement time-out (1/100 s), quick and ping-pong flags,
    congestion window, slow start threshold (-1: none; of a listening socket the fast open queue); empty for
    TIME_WAIT and connections half open. UDP and raw: packets dropped."""


def parse_pointer(field: bytes) -> int | None:
    """A socket's hashed address; None where the kernel had no key yet to hash it with. Raises ValueError."""
    return None if field == _NO_KEY else int(field, 16)


def parse_inet_socket(line: bytes) -> InetSocket:
    """A line of /proc/net/tcp and its like. Raises ParseError."""
    fields = line.split()
    try:
        tx_queue, rx_queue = fields[4].split(b":")
        timer, expires = fields[5].split(b":")
        return InetSocket(
            parse_endpoint(fields[1]),
            parse_endpoint(fields[2]),
            int(fields[3], 16),
            int(tx_queue, 16),
            int(rx_queue, 16),
            int(timer, 16),
            int(expires, 16),
            int(fields[6], 16),
            int(fields[7]),
            int(fields[8]),
            int(fields[9]),
            int(fields[10]),
            parse_pointer(fields[11]),
            tuple(int(field) for field in fields[12:]),
        )
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of a table of sockets: {line[:60]!r}") from None


def parse_endpoint(field: bytes) -> Endpoint:
    """`0100007F:0016`: an address, each 32-bit word of it in hexadecimal as the (little-endian) machine reads
    it, and a port. Raises ValueError."""
    address, _, port = field.partition(b":")
    raw = bytes.fromhex(address.decode("ascii"))
    if len(raw) not in (4, 16):
        raise ValueError
    return Endpoint(
        address_text(b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))), int(port, 16)
    )


def address_text(address: bytes) -> str:
    """4 or 16 bytes in network order as inet_ntop(3) writes them (RFC 5952). ValueError for another
    length."""
    if len(address) == 4:
        return ".".join(map(str, address))
    if len(address) != 16:
        raise ValueError("an address has 4 or 16 bytes")
    groups = [int.from_bytes(address[at : at + 2], "big") for at in range(0, 16, 2)]
    start, length = _longest_zeros(groups)
    if start == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF)):
        return f"::{'ffff:' if length == 5 else ''}{address_text(address[12:])}"
    words = [f"{group:x}" for group in groups]
    if length < 2:
        return ":".join(words)
    return ":".join(words[:start]) + "::" + ":".join(words[start + length :])


def _longest_zeros(groups: list[int]) -> tuple[int, int]:
    """Where the first of the longest runs of zeros starts, and its length."""
    best = (0, 0)
    start = 0
    for at, group in enumerate([*groups, 1]):
        if group:
            if at - start > best[1]:
                best = (start, at - start)
            start = at + 1
    return best


class UnixSocket(NamedTuple):
    """One line of /proc/net/unix."""

    pointer: int | None
    references: int
    flags: int
    type: int
    """SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET."""
    state: int
    """enum socket_state (include/uapi/linux/net.h): 1 unconnected, 2 connecting, 3 connected, 4
    disconnecting."""
    inode: int
    path: str
    """Empty: it has no name; `@` first: an abstract one, in which NUL bytes are shown as `@`."""

    @property
    def listens(self) -> bool:
        return bool(self.flags & SO_ACCEPTCON)


_UNIX_LINE = re.compile(
    rb"(%b): ([0-9A-F]{8}) 00000000 ([0-9A-F]{8}) ([0-9A-F]{4}) ([0-9A-F]{2}) +([0-9]+)(?: (.*))?" % _POINTER,
    re.DOTALL,
)
"""`unix_seq_show`: "%pK: %08X %08X %08X %04X %02X %5lu", then a blank and the name if it has one."""


def parse_unix_socket(line: bytes) -> UnixSocket:
    """A line of /proc/net/unix; what follows the inode and one blank is the name. Raises ParseError.

    The kernel does not escape the name: a newline in it begins what looks like another line. Whoever reads
    the table must know the names already (`unix_records`), or that no line is one too many.
    """
    found = _UNIX_LINE.fullmatch(line)
    if not found:
        raise ParseError(f"not in the form of /proc/net/unix: {line[:60]!r}")
    pointer, references, flags, kind, state, inode, path = found.groups()
    return UnixSocket(
        parse_pointer(pointer), int(references, 16), int(flags, 16), int(kind, 16), int(state, 16),
        int(inode), text(path or b""),
    )  # fmt: skip


_UNIX_HEAD = re.compile(
    rb"(?:%b): [0-9A-F]{8} 00000000 [0-9A-F]{8} [0-9A-F]{4} [0-9A-F]{2} +([0-9]+)" % _POINTER
)


class UnixRecord(NamedTuple):
    """A socket of /proc/net/unix, and where it stands."""

    socket: UnixSocket
    source: Source


def unix_records(
    path: str, data: bytes, names: Mapping[int, Collection[bytes]]
) -> tuple[list[UnixRecord], bool]:
    """The sockets of /proc/net/unix where the names that each may have are known from elsewhere, by inode and
    as the file shows them: a record ends where its socket's name does, whatever that name is. Sockets without
    an inode are connections that wait to be accepted: they may have any name.

    Reading ends at the first record that is not as `names` says: then the second value is False.
    """
    anything = {b"", *(name for known in names.values() for name in known)}
    found: list[UnixRecord] = []
    offset = data.find(b"\n") + 1
    while 0 < offset < len(data):
        head = _UNIX_HEAD.match(data, offset)
        if head is None:
            return found, False
        inode = int(head[1])
        known = names.get(inode, ()) if inode else anything
        shown = ((b" " + name if name else b"") + b"\n" for name in known)
        ends = [head.end() + len(rest) for rest in shown if data.startswith(rest, head.end())]
        if not ends:
            return found, False
        socket = parse_unix_socket(data[offset : max(ends) - 1])
        found.append(UnixRecord(socket, Source(path, offset, max(ends))))
        offset = max(ends)
    return found, True


class PacketSocket(NamedTuple):
    """One line of /proc/net/packet."""

    pointer: int | None
    references: int
    type: int
    protocol: int
    """Ethernet protocol, 3 for all."""
    interface: int
    """Index, 0 for all."""
    rx_queue: int
    uid: int
    inode: int


def parse_packet_socket(line: bytes) -> PacketSocket:
    """`sk RefCnt Type Proto Iface R Rmem User Inode`. Raises ParseError."""
    fields = line.split()
    try:
        return PacketSocket(
            parse_pointer(fields[0]), int(fields[1]), int(fields[2]), int(fields[3], 16), int(fields[4]),
            int(fields[6]), int(fields[7]), int(fields[8]),
        )  # fmt: skip
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/net/packet: {line[:60]!r}") from None


class NetlinkSocket(NamedTuple):
    """One line of /proc/net/netlink."""

    pointer: int | None
    protocol: int
    port: int
    """Mostly the id of the process; 0: the kernel's own."""
    rx_queue: int
    tx_queue: int
    inode: int


def parse_netlink_socket(line: bytes) -> NetlinkSocket:
    """`sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`. Raises ParseError."""
    fields = line.split()
    try:
        return NetlinkSocket(
            parse_pointer(fields[0]), int(fields[1]), int(fields[2]), int(fields[4]), int(fields[5]),
            int(fields[9]),
        )  # fmt: skip
    except (IndexError, ValueError):
        raise ParseError(f"not in the form of /proc/net/netlink: {line[:60]!r}") from None
