"""ss: sockets of every kind with their states, timers and owners, as `ss` shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.net import CLOSE, LISTEN
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.file_system.accounts import Accounts
from hybridbridge_vol.tools.network.socket_owners import Holder, SocketOwners
from hybridbridge_vol.tools.network.ss.cells import (
    ALL,
    CONNECTED,
    FILTERS,
    INFO,
    INODE,
    LOCAL,
    MEMORY,
    MORE,
    NETID,
    PEER,
    PROCESS,
    RECV_Q,
    SEND_Q,
    SK,
    STATE,
    TCP,
    TIMER,
    UID,
    USER,
    Found,
    Socket,
)
from hybridbridge_vol.tools.network.ss.diag_tables import (
    mptcp_table,
    sctp_table,
    smc_table,
    tipc_table,
    unix_table,
    vsock_table,
    xdp_table,
)
from hybridbridge_vol.tools.network.ss.text_tables import inet_tables, netlink_table, packet_table
from hybridbridge_vol.tools.route import families


class Ss(Tool):
    name = "ss"
    help = "Sockets of all kinds with states, timers, queues and owners, as ss shows them"
    notes = (
        "Reads the tables of /proc/net that hold only numbers; asks sock_diag for unix sockets, whose names "
        "are any bytes, and for what no file lists. With -p reads the descriptors of all processes. Sockets "
        "in TIME-WAIT, and others that their process has closed, belong to no process and are shown without "
        "one. Without a kind all are shown; without -a, -l or --state those that are connected. Addresses "
        "and ports are always numeric. One network namespace is shown, that of process 1: `--ns-of PID` "
        "shows another's."
    )
    example = "-tuanp --state time-wait fin-wait-2"
    options = (
        Option("tcp", bool, "TCP", short="t"),
        Option("udp", bool, "UDP and UDP-Lite", short="u"),
        Option("raw", bool, "raw sockets and those for pings", short="w"),
        Option("unix", bool, "unix sockets", short="x"),
        Option("packet", bool, "packet sockets", short="0"),
        Option("netlink", bool, "netlink sockets"),
        Option("sctp", bool, "SCTP", short="S"),
        Option("mptcp", bool, "MPTCP", short="M"),
        Option("vsock", bool, "sockets between a virtual machine and its host"),
        Option("xdp", bool, "sockets of XDP"),
        Option("tipc", bool, "TIPC"),
        Option("smc", bool, "SMC"),
        Option("inet", bool, "only IPv4", short="4"),
        Option("inet6", bool, "only IPv6", short="6"),
        Option("listening", bool, "only sockets that listen or are connected with nobody", short="l"),
        Option("all", bool, "sockets in every state", short="a"),
        Option("state", str, f"only sockets in these states: {', '.join(FILTERS)}", many=True),
        Option("processes", bool, "also the processes that have a socket open", short="p"),
        Option("timers", bool, "also the timer", short="o"),
        Option("extended", bool, "also user, inode, address and what has no column", short="e"),
        Option("info", bool, "also what TCP keeps of a connection", short="i"),
        Option("memory", bool, "also the memory that sockets of IP take", short="m"),
        Option("numeric", bool, "numbers for users; for addresses and ports, as without it", short="n"),
    )
    columns = (
        NETID, STATE, RECV_Q, SEND_Q, LOCAL, PEER, PROCESS, TIMER, UID, USER, INODE, SK, MORE, *INFO, TCP,
        MEMORY,
    )  # fmt: skip

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        optional = {
            **dict.fromkeys((PROCESS,), options["processes"]),
            **dict.fromkeys((TIMER,), options["timers"]),
            **dict.fromkeys((UID, USER, INODE, SK, MORE), options["extended"]),
            **dict.fromkeys((*INFO, TCP), options["info"]),
            **dict.fromkeys((MEMORY,), options["memory"]),
        }
        return tuple(column for column in self.columns if optional.get(column, True))

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        columns = self.columns_for(options)
        states = states_of(options)
        owners = SocketOwners(kernel) if options["processes"] else None
        accounts = Accounts(kernel.files)
        for found in _sockets(kernel, options):
            if not isinstance(found, Socket):
                yield Row((found[0],) * len(columns), sources=found[1])
                continue
            if found.state not in states:
                continue
            sources: tuple[Source, ...] = found.sources
            if owners:
                holders = owners.of(found.inode)
                found.cells[PROCESS] = owners.missing(found.inode) or shown(holders, owners)
                sources += tuple(holder.source for holder in holders)
            if options["extended"]:
                uid = found.cells.get(UID)
                found.cells[USER] = accounts.user_cell(uid, options["numeric"])
            yield Row(tuple(found.cells.get(column) for column in columns), sources=sources)


def shown(holders: list[Holder], owners: SocketOwners) -> str | None:
    """Descriptors as ss writes them: `("sshd",pid=163,fd=3),…`."""
    return (
        ",".join(f'("{owners.name(holder.pid)}",pid={holder.pid},fd={holder.fd})' for holder in holders)
        or None
    )


def states_of(options: Options) -> frozenset[int]:
    """The states to show. Raises OptionError for a state that has no such name."""
    if options["state"]:
        unknown = [name for name in options["state"] if name not in FILTERS]
        if unknown:
            raise OptionError(f"--state {unknown[0]}: no such state; there are {', '.join(FILTERS)}")
        return frozenset().union(*(FILTERS[name] for name in options["state"]))
    if options["all"]:
        return ALL
    return frozenset({LISTEN, CLOSE}) if options["listening"] else CONNECTED


Table = Callable[[], Iterator[Found]]


def _sockets(kernel: GuestKernel, options: Options) -> Iterator[Found]:
    """The sockets that were asked for."""
    inet, inet6 = families(options)
    details, whole = options["extended"], options["info"] or options["memory"]
    of_inet: dict[str, Table] = {
        "raw": partial(inet_tables, kernel, "raw", inet, inet6, details, whole),
        "udp": partial(inet_tables, kernel, "udp", inet, inet6, details, whole),
        "tcp": partial(inet_tables, kernel, "tcp", inet, inet6, details, whole),
        "sctp": partial(sctp_table, kernel, inet, inet6),
        "mptcp": partial(mptcp_table, kernel, inet, inet6),
    }
    others: dict[str, Table] = {
        "netlink": partial(netlink_table, kernel),
        "packet": partial(packet_table, kernel),
        "unix": partial(unix_table, kernel),
        "vsock": partial(vsock_table, kernel),
        "xdp": partial(xdp_table, kernel),
        "tipc": partial(tipc_table, kernel),
        "smc": partial(smc_table, kernel),
    }
    every = others | of_inet
    chosen = [kind for kind in every if options[kind]]
    if not chosen:
        chosen = [*of_inet] if options["inet"] or options["inet6"] else [*every]
    for kind in chosen:
        yield from every[kind]()


TOOL = Ss()
