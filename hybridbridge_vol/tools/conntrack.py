"""conntrack: the connections that the kernel's packet filter keeps track of."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool

_L3 = Column("L3", "str", "ipv4 or ipv6")
_PROTO = Column("PROTO", "str", "protocol")
_TIMEOUT = Column("TIMEOUT", "int", "seconds until it is forgotten")


class Conntrack(Tool):
    name = "conntrack"
    help = "Tracked connections with both directions, translation, state and counters; expectations"
    notes = (
        "Asks the snapshot's kernel by ctnetlink, as `conntrack -L` does, whether the guest had loaded "
        "nf_conntrack_netlink or not. REPLY is where answers come from and go to: it differs from the other "
        "direction where addresses are translated. Connections outlive their processes and sockets here. "
        "One network namespace is shown, that of process 1: `--ns-of PID` shows another's."
    )
    options = (
        Option("expect", bool, "connections that helpers wait for (conntrack -L expect)"),
        Option("inet", bool, "only IPv4", short="4"),
        Option("inet6", bool, "only IPv6", short="6"),
    )
    columns = (
        _L3,
        _PROTO,
        _TIMEOUT,
        Column("STATE", "str", "of TCP, SCTP and DCCP"),
        Column("SOURCE", "str", "who began it: address and port, or for ICMP id=ID"),
        Column("DESTINATION", "str", "with whom: address and port, or for ICMP type.code"),
        Column("PACKETS", "int", "sent by who began it"),
        Column("BYTES", "int", "sent by who began it"),
        Column("REPLY-SOURCE", "str", "where answers come from"),
        Column("REPLY-DESTINATION", "str", "where answers go to"),
        Column("REPLY-PACKETS", "int", "sent back"),
        Column("REPLY-BYTES", "int", "sent back"),
        Column("FLAGS", "str", "UNREPLIED, ASSURED, and which addresses are translated"),
        Column("MARK", "int", "mark of the connection"),
        Column("ZONE", "int", "zone, if it is not 0"),
        Column("HELPER", "str", "who follows its content (ftp, sip ...)"),
        Column("BEGUN", "time", "when it was first seen, if times are kept (nf_conntrack_timestamp)"),
        Column("USE", "int", "references to it"),
        Column("ID", "int", "the kernel's number of it"),
        Column("MORE", "str", "labels, security context, the connection that it belongs to"),
    )
    moments = (Moment("BEGUN", "created", "connection first seen"),)
    moment_text = ("PROTO", "SOURCE", "DESTINATION", "STATE")
    _expected = (
        _L3,
        _PROTO,
        _TIMEOUT,
        Column("SOURCE", "str", "address and port; 0 or 0.0.0.0 in the mask: any"),
        Column("DESTINATION", "str", "address and port"),
        Column("MASK-SOURCE", "str", "which parts of the source count"),
        Column("MASK-DESTINATION", "str", "which parts of the destination count"),
        Column("MASTER-SOURCE", "str", "of the connection for which it is expected"),
        Column("MASTER-DESTINATION", "str", "of the connection for which it is expected"),
        Column("CLASS", "int", "kind of expectation, to the helper"),
        Column("FLAGS", "str", "PERMANENT, INACTIVE, USERSPACE"),
        Column("ZONE", "int", "zone, if it is not 0"),
        Column("HELPER", "str", "who waits for it"),
        Column("ID", "int", "the kernel's number of it"),
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return self._expected if options["expect"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        from hybridbridge_vol.tools.network.connection_rows import connection_rows  # 4 ms, see tools/nft.py

        return connection_rows(kernel, options, len(self.columns_for(options)))


TOOL = Conntrack()
