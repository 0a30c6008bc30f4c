"""netstat: sockets, and what else the command of that name shows (-r, -i, -s, -g)."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.net import (
    CLOSE,
    LISTEN,
    Endpoint,
    InetSocket,
    parse_inet_socket,
)
from hybridbridge_vol.procfs.pid import USER_HZ
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.file_system.accounts import Accounts
from hybridbridge_vol.tools.network.sctp_sockets import Sctp, sctp_sockets
from hybridbridge_vol.tools.network.socket_owners import SocketOwners
from hybridbridge_vol.tools.network.table_lines import parsed_lines
from hybridbridge_vol.tools.network.tables import (
    INTERFACES,
    MEMBERSHIPS,
    STATISTICS,
    interfaces,
    memberships,
    statistics,
)
from hybridbridge_vol.tools.network.unix_sockets import Unix, unix_sockets
from hybridbridge_vol.tools.route import (
    DESTINATION,
    EXTRA,
    FLAGS,
    GATEWAY,
    GENMASK,
    IFACE,
    families,
    route_cells,
    routes,
)

TABLES = {
    "tcp": ("tcp", "tcp6"),
    "udp": ("udp", "udp6", "udplite", "udplite6"),
    "raw": ("raw", "raw6", "icmp", "icmp6"),
}
"""Tables of /proc/net by the option that asks for them."""
OTHERS = ("sctp", "unix")
"""Options that ask for sockets with tables of another form."""
STATES = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
    "LAST_ACK", "LISTEN", "CLOSING", "SYN_RECV",
)  # fmt: skip
UNIX_STATES = ("FREE", "", "CONNECTING", "CONNECTED", "DISCONNECTING")
UNIX_TYPES = {1: "STREAM", 2: "DGRAM", 3: "RAW", 4: "RDM", 5: "SEQPACKET"}
TIMERS = ("off", "on", "keepalive", "timewait", "probe")

PROTO = Column("PROTO", "str", "tcp, udp, udplite, raw or icmp (with 6: IPv6), sctp, unix")
RECV_Q = Column("RECV-Q", "int", "bytes not yet read; of a listening socket: connections not yet accepted")
SEND_Q = Column("SEND-Q", "int", "bytes not yet acknowledged")
LOCAL = Column("LOCAL", "str", "own address (of SCTP: all of them) and port, * for any port")
FOREIGN = Column("FOREIGN", "str", "the other end's")
STATE = Column("STATE", "str", "of the connection, of SCTP that of the socket; empty for most sockets of UDP")
UID = Column("UID", "int", "owner's user id")
USER = Column("USER", "str", "owner's name in the guest's own files, #ID where there is none; with -n the id")
INODE = Column("INODE", "int", "of the socket; 0: no process has it open any more")
PID = Column("PID", "int", "a process that has it open (the first one, as netstat shows; `ss -p` shows all)")
PROGRAM = Column("PROGRAM", "str", "the process's program")
TIMER = Column("TIMER", "str", "timer that runs (seconds left/retransmissions/probes)")
REFCNT = Column("REFCNT", "int", "references (unix)")
UNIX_FLAGS = Column("FLAGS", "str", "ACC: it listens (unix)")
TYPE = Column("TYPE", "str", "STREAM, DGRAM or SEQPACKET (unix)")
PATH = Column("PATH", "str", "name of a unix socket; @ first: abstract")


class Netstat(Tool):
    name = "netstat"
    help = "Sockets, routes, interfaces and protocol statistics, as netstat shows them"
    notes = (
        "Reads what netstat reads: the tables of /proc/net, and with -p the descriptors of all processes; "
        "asks sock_diag for unix sockets, whose names may look like lines of a table. "
        "Sockets in TIME_WAIT, and others that their process has closed, belong to no process and are shown "
        "without one. Addresses and ports are always numeric. Without -t, -u, -w, -S or -x all kinds are "
        "shown; without -a or -l only those that do not listen, of SCTP the associations. What /proc/net has "
        "no table of (MPTCP, vsock, XDP, TIPC, SMC) netstat does not know: `ss` shows it. /proc/net shows "
        "one network namespace, that of process 1: `--ns-of PID` shows another's."
    )
    example = "-tulpan"
    options = (
        Option("tcp", bool, "TCP", short="t"),
        Option("udp", bool, "UDP and UDP-Lite", short="u"),
        Option("raw", bool, "raw sockets and those for pings", short="w"),
        Option("sctp", bool, "endpoints and associations of SCTP", short="S"),
        Option("unix", bool, "unix sockets", short="x"),
        Option("listening", bool, "only sockets that listen, of SCTP all endpoints", short="l"),
        Option("all", bool, "those that listen and the others", short="a"),
        Option("program", bool, "also the process that has a socket open", short="p"),
        Option("extended", bool, "also the owner and the inode", short="e"),
        Option("timers", bool, "also the timer", short="o"),
        Option("numeric", bool, "numbers for users; for addresses and ports, as without it", short="n"),
        Option("route", bool, "show routes instead", short="r"),
        Option(
            "interfaces",
            bool,
            "show interfaces and their counters instead (with -a also those that are down)",
            short="i",
        ),
        Option("statistics", bool, "show the counters of protocols instead", short="s"),
        Option("groups", bool, "show multicast groups instead", short="g"),
        Option("inet", bool, "only IPv4", short="4"),
        Option("inet6", bool, "only IPv6", short="6"),
    )
    columns = (
        PROTO,
        RECV_Q,
        SEND_Q,
        LOCAL,
        FOREIGN,
        STATE,
        UID,
        USER,
        INODE,
        PID,
        PROGRAM,
        TIMER,
        REFCNT,
        UNIX_FLAGS,
        TYPE,
        PATH,
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if options["route"]:
            return (DESTINATION, GATEWAY, GENMASK, FLAGS, *EXTRA, IFACE)
        if options["interfaces"]:
            return INTERFACES
        if options["statistics"]:
            return STATISTICS
        if options["groups"]:
            return MEMBERSHIPS
        kinds = _kinds(options)
        inet, unix = kinds != ["unix"], "unix" in kinds
        shown = {
            PROTO: True, RECV_Q: inet, SEND_Q: inet, LOCAL: inet, FOREIGN: inet, REFCNT: unix,
            UNIX_FLAGS: unix, TYPE: unix, STATE: True,
            **dict.fromkeys((UID, USER), inet and options["extended"]),
            INODE: unix or options["extended"], PID: options["program"], PROGRAM: options["program"],
            TIMER: inet and options["timers"], PATH: unix,
        }  # fmt: skip
        return tuple(column for column, wanted in shown.items() if wanted)

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        if options["route"]:
            yield from self._routes(kernel, options)
        elif options["interfaces"]:
            yield from interfaces(kernel, options["all"])
        elif options["statistics"]:
            yield from statistics(kernel, [kind for kind in (*TABLES, "sctp") if options[kind]])
        elif options["groups"]:
            yield from memberships(kernel, *families(options))
        else:
            yield from self._sockets(kernel, options)

    def _routes(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        columns = self.columns_for(options)
        inet6 = options["inet6"]
        for found, source in routes(kernel, options["inet"] or not inet6, inet6):
            if isinstance(found, Unavailable):
                yield Row((found,) * len(columns))
                continue
            cells = route_cells(found)
            yield Row(tuple(cells[column.name] for column in columns), sources=(source,) if source else ())

    def _sockets(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        columns = self.columns_for(options)
        owners = SocketOwners(kernel) if options["program"] else None
        accounts = Accounts(kernel.files)
        for cells, sources in _all_sockets(kernel, options):
            if isinstance(cells, Unavailable):
                yield Row((cells,) * len(columns), sources=sources)
                continue
            if owners:
                holders = owners.of(int(str(cells[INODE])))
                missing = owners.missing(int(str(cells[INODE])))
                cells[PID] = holders[0].pid if holders else missing
                cells[PROGRAM] = owners.program(holders[0].pid) if holders else missing
                sources += tuple(holder.source for holder in holders[:1])
            if USER in columns:
                uid = cells.get(UID)
                cells[USER] = accounts.user_cell(uid, options["numeric"])
            yield Row(tuple(cells.get(column) for column in columns), sources=sources)


Cells = dict[Column, Cell]
_NO_COUNT = Unavailable("not in /proc/net/unix")


def _kinds(options: Options) -> list[str]:
    chosen = [kind for kind in (*TABLES, *OTHERS) if options[kind]]
    if chosen:
        return chosen
    return [*TABLES, "sctp"] if options["inet"] or options["inet6"] else [*TABLES, *OTHERS]


def _all_sockets(
    kernel: GuestKernel, options: Options
) -> Iterator[tuple[Cells | Unavailable, tuple[Source, ...]]]:
    """The cells of every socket that was asked for, or why some are missing."""
    inet, inet6 = families(options)
    for kind in _kinds(options):
        if kind == "unix":
            yield from _unix_sockets(kernel, options)
        elif kind == "sctp":
            yield from _sctp_sockets(kernel, options)
        for name in TABLES.get(kind, ()):
            if not (inet6 if name.endswith("6") else inet):
                continue
            for socket, sources in parsed_lines(kernel, f"/proc/net/{name}", parse_inet_socket):
                if isinstance(socket, Unavailable):
                    yield socket, sources
                elif options["all"] or _listens(kind, socket) == options["listening"]:
                    yield _inet_cells(name, socket), sources


def _unix_sockets(
    kernel: GuestKernel, options: Options
) -> Iterator[tuple[Cells | Unavailable, tuple[Source, ...]]]:
    for found in unix_sockets(kernel):
        if isinstance(found, Unavailable):
            yield found, ()
        elif options["all"] or found.listens == options["listening"]:
            yield _unix_cells(found), found.sources


def _sctp_sockets(
    kernel: GuestKernel, options: Options
) -> Iterator[tuple[Cells | Unavailable, tuple[Source, ...]]]:
    both, listening = options["all"], options["listening"]
    for found, sources in sctp_sockets(kernel, both or listening, both or not listening, *families(options)):
        yield found if isinstance(found, Unavailable) else _sctp_cells(found), sources


def _listens(kind: str, socket: InetSocket) -> bool:
    """TCP says it; of the others those listen that are connected with nobody."""
    return socket.state == LISTEN if kind == "tcp" else socket.remote.is_any and socket.remote.port == 0


def _inet_cells(name: str, socket: InetSocket) -> Cells:
    return {
        PROTO: name,
        RECV_Q: socket.rx_queue,
        SEND_Q: socket.tx_queue,
        LOCAL: _endpoint(socket.local),
        FOREIGN: _endpoint(socket.remote),
        STATE: _state(name, socket.state),
        UID: socket.uid,
        INODE: socket.inode,
        TIMER: _timer(socket),
    }


def _sctp_cells(socket: Sctp) -> Cells:
    return {
        PROTO: "sctp",
        RECV_Q: socket.received,
        SEND_Q: socket.sent,
        LOCAL: socket.local,
        FOREIGN: socket.foreign,
        STATE: _state("sctp", socket.state),
        UID: socket.uid,
        INODE: socket.inode,
    }


def _state(name: str, state: int) -> str:
    if name.startswith("udp") and state == CLOSE:
        return ""
    if name.startswith(("tcp", "udp", "sctp")):
        return STATES[state] if 0 <= state < len(STATES) else f"UNKNOWN ({state})"
    return str(state)


def _endpoint(end: Endpoint) -> str:
    return f"{end.address}:{end.port or '*'}"


def _timer(socket: InetSocket) -> str:
    name = TIMERS[socket.timer] if socket.timer < len(TIMERS) else f"unknown-{socket.timer}"
    left = socket.expires / USER_HZ if socket.timer else 0.0
    return f"{name} ({left:.2f}/{socket.retransmits}/{socket.probes})"


def _unix_cells(socket: Unix) -> Cells:
    number = socket.socket_state
    state = UNIX_STATES[number] if number < len(UNIX_STATES) else f"UNKNOWN ({number})"
    return {
        PROTO: "unix",
        REFCNT: _NO_COUNT if socket.references is None else socket.references,
        UNIX_FLAGS: "ACC" if socket.listens else "",
        TYPE: UNIX_TYPES.get(socket.type, f"{socket.type:#x}"),
        STATE: "LISTENING" if socket.listens else state,
        INODE: socket.inode,
        PATH: socket.name,
    }


TOOL = Netstat()
