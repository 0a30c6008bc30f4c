"""The tables of /proc/net/sctp: each line of the kernel's own form is read back, any other is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.sctp import (
    SctpAssociation,
    SctpEndpoint,
    parse_sctp_association,
    parse_sctp_endpoint,
    parse_sctp_snmp,
)
from hybridbridge_vol.procfs.sources import Source

PORTS, NUMBERS = st.integers(0, (1 << 16) - 1), st.integers(0, (1 << 31) - 1)
ADDRESSES = st.lists(st.ip_addresses(), max_size=4).map(tuple)
POINTERS = st.sampled_from(("9e46b2b1", "00000000", "ffff888003c2e800", "(____ptrval____)"))
STATES = st.integers(0, 12)


def printed(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """%pI4 and %pI6."""
    return f"{address.exploded} "


def shown(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """inet_ntop(3): an address of IPv4 in one of IPv6 keeps its dots."""
    mapped = getattr(address, "ipv4_mapped", None)
    return f"::ffff:{mapped}" if mapped else str(address)


@given(POINTERS, STATES, PORTS, NUMBERS, NUMBERS, ADDRESSES)
def test_an_endpoint_is_read_as_the_kernel_printed_it(
    pointer: str,
    state: int,
    port: int,
    uid: int,
    inode: int,
    addresses: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...],
) -> None:
    line = f"{pointer} {pointer} 2   {state:<3d} 16   {port:<5d} {uid:5d} {inode:5d} "
    line += "".join(map(printed, addresses))
    found = parse_sctp_endpoint(line.encode())
    assert found == SctpEndpoint(state, port, uid, inode, tuple(map(shown, addresses)))


@given(POINTERS, STATES, NUMBERS, NUMBERS, NUMBERS, PORTS, ADDRESSES, ADDRESSES)
def test_an_association_is_read_as_the_kernel_printed_it(
    pointer: str,
    state: int,
    queued: int,
    waiting: int,
    inode: int,
    port: int,
    locals_: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...],
    peers: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...],
) -> None:
    line = f"{pointer} {pointer} 2   1   {state:<2d} 0       3 {queued:8d} {waiting:8d}       0 {inode:5d} "
    line += f"{port:<5d} {4300:5d}  {''.join(map(printed, locals_))}<-> *{''.join(map(printed, peers))}"
    line += "\t    7500    10    10   10    0    0        0        1        0   212992   212992"
    found = parse_sctp_association(line.replace("*\t", "\t").encode())
    ends = tuple(map(shown, locals_)), tuple(map(shown, peers))
    assert found == SctpAssociation(1, state, queued, waiting, 0, inode, port, 4300, *ends)


@given(st.binary(max_size=200))
def test_any_other_line_is_refused_or_read(line: bytes) -> None:
    for parse in (parse_sctp_endpoint, parse_sctp_association):
        try:
            parse(line)  # type: ignore[operator]
        except ParseError as error:
            assert "not in the form of /proc/net/sctp" in str(error)


@pytest.mark.parametrize(
    "line",
    [
        b"1 2 2 10 16 4300 0 11057 127.0.0",
        b"1 2 2 10 16 4300 0 11057 127.0.0.256",
        b"1 2 2 10 16 4300 0 11057 ::1",
        b"1 2 2 10 16 4300 0",
        b"1 2 2 1 3 0 3 0 0 0 11058 52273 4300 127.0.0.1",
    ],
)
def test_a_line_that_is_cut_is_refused(line: bytes) -> None:
    parse = parse_sctp_association if line.count(b" ") > 10 else parse_sctp_endpoint
    with pytest.raises(ParseError):
        parse(line)


def test_counters_have_their_names_without_the_protocol() -> None:
    line = b"SctpCurrEstab                   \t2"
    (counter,) = parse_sctp_snmp("snmp", iter([(line, Source("snmp"))]))
    assert (counter.protocol, counter.name, counter.value) == ("Sctp", "CurrEstab", 2)
    with pytest.raises(ParseError):
        list(parse_sctp_snmp("snmp", iter([(b"SctpCurrEstab", Source("snmp"))])))
