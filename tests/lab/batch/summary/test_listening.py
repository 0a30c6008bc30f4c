"""Which ports an image listens on, by the rows of netstat and ss."""

from __future__ import annotations

from typing import Any

import pytest

from hybridbridge_vol.lab.batch.summary.listening import is_local, listening_ports

HERE, THERE = "127.0.0.1,10.4.0.1:4300", "10.4.0.9:4300"
NETSTAT: list[dict[str, Any]] = [
    {"PROTO": "tcp", "LOCAL": "0.0.0.0:22", "FOREIGN": "0.0.0.0:*", "STATE": "LISTEN"},
    {"PROTO": "tcp", "LOCAL": "10.4.0.1:22", "FOREIGN": "10.4.0.9:1", "STATE": "ESTABLISHED"},
    {"PROTO": "sctp", "LOCAL": HERE, "FOREIGN": "", "STATE": "LISTEN"},
    {"PROTO": "sctp", "LOCAL": HERE, "FOREIGN": THERE, "STATE": "LISTEN"},
    {"PROTO": "udp6", "LOCAL": ":::53", "FOREIGN": ":::*", "STATE": ""},
]
"""The second one of SCTP is an association that nobody has accepted: its socket listens."""
SS: list[dict[str, Any]] = [
    {"NETID": "sctp", "LOCAL": "127.0.0.1:4300", "STATE": "LISTEN"},
    {"NETID": "`- sctp", "LOCAL": "127.0.0.1:4300", "STATE": "ESTAB"},
]


def test_endpoints_of_sctp_that_listen_are_ports_and_associations_are_not() -> None:
    found = listening_ports({"netstat": NETSTAT}) or []
    assert [(port.proto, port.address, port.port) for port in found] == [
        ("sctp", "127.0.0.1,10.4.0.1", "4300"),
        ("tcp", "0.0.0.0", "22"),
        ("udp", "::", "53"),
    ]
    (only,) = listening_ports({"ss": SS}) or []
    assert (only.proto, only.address, only.port) == ("sctp", "127.0.0.1", "4300")


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("::ffff:127.0.0.1", True), ("127.0.0.1,10.4.0.1", False), ("127.0.0.1,::1", True)],
)
def test_an_end_is_local_if_all_its_addresses_are(address: str, local: bool) -> None:
    assert is_local(address) == local
