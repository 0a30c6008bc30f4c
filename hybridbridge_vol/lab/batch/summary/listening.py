"""On which ports an image listens, by `lsof`, `netstat` or `ss`, whichever was run and shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hybridbridge_vol.lab.batch.summary.data import Cells, text

EPHEMERAL = range(32768, 61000)
"""Ports that the kernel gives to who asks for any (net.ipv4.ip_local_port_range's default)."""


def listening_ports(tables: Mapping[str, Sequence[Cells]]) -> list[Cells] | None:
    """Rows of PROTO, ADDRESS, PORT, PID, PROGRAM (empty where the tool does not tell), EPHEMERAL (a port of
    UDP that the kernel may have chosen), SOURCE (the tool). None if no tool was run that shows them."""
    if "lsof" in tables:
        found = list(_of_lsof(tables["lsof"]))
    elif "netstat" in tables and any(text(row, "STATE") == "LISTEN" for row in tables["netstat"]):
        found = list(_of_netstat(tables["netstat"]))
    elif "ss" in tables and any(text(row, "STATE") == "LISTEN" for row in tables["ss"]):
        found = list(_of_ss(tables["ss"]))
    else:
        return None
    distinct = {tuple(str(row[name]) for name in ("PROTO", "ADDRESS", "PORT", "PID")): row for row in found}
    return sorted(
        distinct.values(),
        key=lambda row: (row["PROTO"], int(row["PORT"] or 0), row["ADDRESS"], str(row["PID"])),
    )


def is_local(address: str) -> bool:
    """Whether only the machine itself reaches it there."""
    return address.strip("[]") in ("::1", "localhost") or address.removeprefix("::ffff:").startswith("127.")


def split_port(end: str) -> tuple[str, str]:
    """`0.0.0.0:22` and `[::1]:22` as address and port; the port empty if there is no number."""
    address, _, port = end.rpartition(":")
    return address, port if port.isascii() and port.isdecimal() and len(port) <= 5 else ""


def _row(proto: str, end: str, pid: object, program: str, source: str) -> Cells:
    address, port = split_port(end)
    return {
        "PROTO": proto, "ADDRESS": address, "PORT": port, "PID": pid, "PROGRAM": program, "SOURCE": source,
        "EPHEMERAL": proto.startswith("udp") and port != "" and int(port) in EPHEMERAL,
    }  # fmt: skip


def _of_lsof(rows: Sequence[Cells]) -> Iterator[Cells]:
    for row in rows:
        if text(row, "TYPE") not in ("IPv4", "IPv6"):
            continue
        proto, name = text(row, "NODE").lower(), text(row, "NAME")
        if (proto == "tcp" and name.endswith(" (LISTEN)")) or (proto == "udp" and "->" not in name):
            yield _row(proto, name.removesuffix(" (LISTEN)"), row.get("PID"), text(row, "COMMAND"), "lsof")


def _of_netstat(rows: Sequence[Cells]) -> Iterator[Cells]:
    for row in rows:
        proto = text(row, "PROTO").removesuffix("6")
        unconnected = text(row, "FOREIGN").endswith(":*")
        if (proto == "tcp" and text(row, "STATE") == "LISTEN") or (proto == "udp" and unconnected):
            yield _row(proto, text(row, "LOCAL"), row.get("PID"), text(row, "PROGRAM"), "netstat")


def _of_ss(rows: Sequence[Cells]) -> Iterator[Cells]:
    for row in rows:
        proto = text(row, "NETID")
        if (proto, text(row, "STATE")) in (("tcp", "LISTEN"), ("udp", "UNCONN")):
            yield _row(proto, text(row, "LOCAL"), None, "", "ss")
