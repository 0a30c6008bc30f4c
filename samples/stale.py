"""Whether what a guest reported was still true when its memory was captured.

The kernel forgets a closed connection after a minute (TCP_TIMEWAIT_LEN, include/net/tcp.h). A guest whose
clock runs on while its programs hardly do may lose it between a program's report and the capture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_STATES = {
    1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT",
    7: "CLOSE", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING"
}  # fmt: skip
"""include/net/tcp_states.h"""
_AS_SS_HAS_THEM = {
    "ESTAB": "ESTABLISHED", "SYN-SENT": "SYN_SENT", "SYN-RECV": "SYN_RECV", "FIN-WAIT-1": "FIN_WAIT1",
    "FIN-WAIT-2": "FIN_WAIT2", "TIME-WAIT": "TIME_WAIT", "UNCONN": "CLOSE", "CLOSE-WAIT": "CLOSE_WAIT",
    "LAST-ACK": "LAST_ACK"
}  # fmt: skip
_NETSTAT, _SS = "netstat -tulpan", "ss -tuanpe"
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


class Connection(NamedTuple):
    """A TCP socket as far as every report has it: two ports (0 for any) and its state as netstat has it."""

    local: int
    peer: int
    state: str


def stale(document: Mapping[str, Any]) -> list[str]:
    """A line for each TCP socket that a command's report and the last reading of /proc/net/tcp do not share.

    `document` is truth.json's; a command that was not run is not compared.
    """
    tables = [document["files"].get(path, {}).get("late", "") for path in _TABLES]
    last = Counter(connection for table in tables for connection in of_kernel(table))
    found = []
    for line, parse in ((_NETSTAT, of_netstat), (_SS, of_ss)):
        if line in document["commands"]:
            reported = Counter(parse(document["commands"][line]))
            for connection in sorted((reported - last) + (last - reported)):
                what = "gone from" if connection in reported - last else "new in"
                found.append(f"{line}: {_text(connection)} is {what} the last reading")
    return found


def _text(connection: Connection) -> str:
    return f"a connection in {connection.state} from port {connection.local} to port {connection.peer}"


def of_kernel(table: str) -> Iterator[Connection]:
    """Those of /proc/net/tcp or tcp6 (net/ipv4/tcp_ipv4.c, get_tcp4_sock)."""
    for line in table.splitlines()[1:]:
        _slot, local, peer, state = line.split()[:4]
        yield Connection(_hex_port(local), _hex_port(peer), _STATES.get(int(state, 16), state))


def of_netstat(report: str) -> Iterator[Connection]:
    """Those of `netstat -t`: protocol, queues, addresses, state."""
    for line in report.splitlines():
        words = line.split()
        if words and words[0] in ("tcp", "tcp6"):
            yield Connection(_port(words[3]), _port(words[4]), words[5])


def of_ss(report: str) -> Iterator[Connection]:
    """Those of `ss -t`: kind, state, queues, addresses."""
    for line in report.splitlines():
        words = line.split()
        if words and words[0] == "tcp":
            yield Connection(_port(words[4]), _port(words[5]), _AS_SS_HAS_THEM.get(words[1], words[1]))


def _hex_port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _port(address: str) -> int:
    port = address.rpartition(":")[2]
    return 0 if port == "*" else int(port)
