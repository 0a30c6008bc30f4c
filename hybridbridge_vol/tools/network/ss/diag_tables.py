"""The families that the kernel lists in no file, or in one that its sockets' names make unreliable: unix,
SCTP, MPTCP, vsock, XDP, TIPC, SMC; by sock_diag."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import EndlessFile
from hybridbridge_vol.netlink import sock_diag
from hybridbridge_vol.netlink.inet_diag import InetDiag, SmcDiag, parse_inet_diag, parse_smc_diag
from hybridbridge_vol.netlink.messages import parsed
from hybridbridge_vol.netlink.other_diag import (
    TipcDiag,
    VsockDiag,
    XdpDiag,
    parse_tipc_diag,
    parse_vsock_diag,
    parse_xdp_diag,
)
from hybridbridge_vol.netlink.sock_diag import SOCK_DIAG_BY_FAMILY, Table
from hybridbridge_vol.procfs.net import CLOSE, ESTABLISHED, LISTEN
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.network.link_answers import names_by_index
from hybridbridge_vol.tools.network.ss.cells import (
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
    UID,
    Cells,
    Found,
    Socket,
    endpoint_text,
    state_name,
)
from hybridbridge_vol.tools.network.ss.inet_details import memory_of
from hybridbridge_vol.tools.network.unix_sockets import Unix, counted, unix_sockets

T = TypeVar("T")
_UNIX_NAMES = {1: "u_str", 2: "u_dgr", 5: "u_seq"}
_VSOCK_NAMES = {1: "v_str", 2: "v_dgr", 5: "v_seq"}
_TIPC_NAMES = {1: "ti_st", 2: "ti_dg", 4: "ti_rd", 5: "ti_sq"}
_SCTP_STATES = (
    "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTAB", "SHUTDOWN_PENDING", "SHUTDOWN_SENT",
    "SHUTDOWN_RECEIVED", "ACK_SENT",
)  # fmt: skip
"""Of an association (include/net/sctp/constants.h, enum sctp_state), by the names that ss gives them."""
_SMC_STATES = {
    1: "ACTIVE", 2: "INIT", 7: "CLOSED", 10: "LISTEN", 20: "PEERCLW1", 21: "PEERCLW2", 22: "APPLCLW1",
    23: "APPLCLW2", 24: "APPLFINCLW", 25: "PEERFINCLW", 26: "PEERABORTW", 27: "PROCESSABORT",
}  # fmt: skip
"""include/net/smc.h, enum smc_state."""
_SMC_MODES = ("SMC-R", "TCP", "SMC-D")
_ANY_CID = 0xFFFF_FFFF
_SHUTDOWN = ("", "receives no more", "sends no more", "neither sends nor receives")
_NO_QUEUE = Unavailable("not in /proc/net/unix, and sock_diag did not answer")


def unix_table(kernel: GuestKernel) -> Iterator[Found]:
    """The unix sockets."""
    for found in unix_sockets(kernel):
        if isinstance(found, Unavailable):
            yield found, ()
        else:
            yield _unix(found)


def _unix(socket: Unix) -> Socket:
    diag = socket.diag
    unknown: Cell = _NO_QUEUE if socket.inode else None
    cells: Cells = {
        NETID: _UNIX_NAMES.get(socket.type, f"u_{socket.type}"),
        STATE: state_name(socket.state),
        RECV_Q: diag.received if diag else unknown,
        SEND_Q: diag.sent if diag else unknown,
        LOCAL: f"{socket.name or '*'} {socket.inode}",
        PEER: f"* {diag.peer}" if diag else "*",
        UID: diag.uid if diag else None,
        INODE: socket.inode,
        SK: socket.pointer,
    }
    if diag:
        cells[MORE] = _and(
            ("peers", " ".join(map(str, diag.waiting))), ("shutdown", _SHUTDOWN[diag.shutdown & 3])
        )
    return Socket(socket.state, socket.inode, cells, socket.sources)


def _and(*named: tuple[str, object]) -> str | None:
    """What is there of attributes without a column, each behind its name."""
    return "; ".join(f"{name}: {value}" for name, value in named if value not in ("", None)) or None


def sctp_table(kernel: GuestKernel, inet: bool, inet6: bool) -> Iterator[Found]:
    """Endpoints of SCTP, each followed by its associations. An endpoint is answered once however many
    families it belongs to."""
    tables = (sock_diag.SCTP,) * inet + (sock_diag.SCTP6,) * inet6
    names = names_by_index(kernel)
    for table in tables:
        yield from _asked(kernel, table, parse_inet_diag, lambda found, at: _sctp(found, at, names))


def _sctp(found: InetDiag, source: Source, names: dict[int, str]) -> Socket:
    interface = names.get(found.interface, f"if{found.interface}") if found.interface else ""
    socket = _inet(
        "`- sctp" if found.is_association else "sctp", found, source, f"%{interface}" if interface else ""
    )
    if not found.is_association:
        return socket
    known = found.state < len(_SCTP_STATES)
    socket.cells[STATE] = _SCTP_STATES[found.state] if known else f"UNKNOWN ({found.state})"
    socket.cells[MORE] = _and(("locals", ",".join(found.locals)), ("peers", ",".join(found.peers)))
    return socket._replace(state=ESTABLISHED if found.state else CLOSE)


def mptcp_table(kernel: GuestKernel, inet: bool, inet6: bool) -> Iterator[Found]:
    """The sockets of MPTCP; their subflows are listed among those of TCP."""
    for table in (sock_diag.MPTCP,) * inet + (sock_diag.MPTCP6,) * inet6:
        yield from _asked(kernel, table, parse_inet_diag, lambda found, at: _inet("mptcp", found, at))


def _inet(name: str, found: InetDiag, source: Source, interface: str = "") -> Socket:
    cells: Cells = {
        NETID: name,
        STATE: state_name(found.state),
        RECV_Q: found.rx_queue,
        SEND_Q: found.tx_queue,
        LOCAL: endpoint_text(found.local, interface),
        PEER: endpoint_text(found.remote),
        UID: found.uid,
        INODE: found.inode,
        MEMORY: memory_of(dict(found.rest)),
    }
    return Socket(found.state, found.inode, cells, (source,))


def vsock_table(kernel: GuestKernel) -> Iterator[Found]:
    """The sockets between a virtual machine and its host."""
    return _asked(kernel, sock_diag.VSOCK, parse_vsock_diag, _vsock)


def _vsock(found: VsockDiag, source: Source) -> Socket:
    cells: Cells = {
        NETID: _VSOCK_NAMES.get(found.type, f"v_{found.type}"),
        STATE: state_name(found.state),
        RECV_Q: 0,
        SEND_Q: 0,
        LOCAL: _vsock_end(found.local_cid, found.local_port),
        PEER: _vsock_end(found.remote_cid, found.remote_port),
        INODE: found.inode,
        MORE: _and(("shutdown", _SHUTDOWN[found.shutdown & 3])),
    }
    return Socket(found.state, found.inode, cells, (source,))


def _vsock_end(cid: int, port: int) -> str:
    return f"{'*' if cid == _ANY_CID else cid}:{'*' if port == _ANY_CID else port}"


def xdp_table(kernel: GuestKernel) -> Iterator[Found]:
    """The sockets of XDP."""
    names = names_by_index(kernel)
    return _asked(kernel, sock_diag.XDP, parse_xdp_diag, lambda found, at: _xdp(found, at, names))


def _xdp(found: XdpDiag, source: Source, names: dict[int, str]) -> Socket:
    cells: Cells = {
        NETID: "xdp",
        STATE: state_name(CLOSE),
        RECV_Q: 0,
        SEND_Q: 0,
        LOCAL: f"{names.get(found.interface, f'if{found.interface}')}:q{found.queue}"
        if found.interface
        else "*",
        PEER: "*",
        UID: found.uid,
        INODE: found.inode,
        MORE: _and(("umem", found.umem)),
    }
    return Socket(CLOSE, found.inode, cells, (source,))


def tipc_table(kernel: GuestKernel) -> Iterator[Found]:
    """The sockets of TIPC."""
    return _asked(kernel, sock_diag.TIPC, parse_tipc_diag, _tipc)


def _tipc(found: TipcDiag, source: Source) -> Socket:
    peer = f"{found.peer[0]:x}:{found.peer[1]}" if found.peer else "-"
    cells: Cells = {
        NETID: _TIPC_NAMES.get(found.type, f"ti_{found.type}"),
        STATE: state_name(found.state),
        RECV_Q: found.received,
        SEND_Q: found.sent,
        LOCAL: f"{found.node:x}:{found.reference}",
        PEER: peer,
        UID: found.uid,
        INODE: found.inode,
        MORE: _and(("published", "yes" if found.has_publications else "")),
    }
    return Socket(found.state, found.inode, cells, (source,))


def smc_table(kernel: GuestKernel) -> Iterator[Found]:
    """The sockets of SMC; the connections of TCP below them are listed among those of TCP."""
    return _asked(kernel, sock_diag.SMC, parse_smc_diag, _smc)


def _smc(found: SmcDiag, source: Source) -> Socket:
    state = LISTEN if found.state == LISTEN else ESTABLISHED if found.state == ESTABLISHED else CLOSE
    mode = _SMC_MODES[found.mode] if found.mode < len(_SMC_MODES) else found.mode
    cells: Cells = {
        NETID: "smc",
        STATE: _SMC_STATES.get(found.state, f"UNKNOWN ({found.state})"),
        RECV_Q: 0,
        SEND_Q: 0,
        LOCAL: endpoint_text(found.local),
        PEER: endpoint_text(found.remote),
        UID: found.uid,
        INODE: found.inode,
        MORE: _and(("mode", mode)),
    }
    return Socket(state, found.inode, cells, (source,))


def _asked(
    kernel: GuestKernel, table: Table, parse: Callable[[bytes], T], make: Callable[[T, Source], Socket]
) -> Iterator[Found]:
    """The sockets of a table, or why they are not known; each once, should the kernel's list be cyclic."""
    source, gap = table.source(), None
    try:
        data = kernel.sockets.dump(table)
    except EndlessFile as error:
        data, gap = error.partial, Unavailable(f"{source}: the kernel's list leads back into itself")
    except UNREADABLE as error:
        if not table.counted_as or counted(kernel, "/proc/net", table.counted_as) != 0:
            yield why(source, error), ()
        return
    seen = set()
    for answer, place in parsed(source, (SOCK_DIAG_BY_FAMILY,), data, parse):
        if isinstance(answer, ParseError):
            yield Unavailable(str(answer)), (place,)
        elif answer not in seen:
            seen.add(answer)
            yield make(answer, place)
    if gap:
        yield gap, ()
