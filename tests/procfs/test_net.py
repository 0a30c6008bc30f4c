"""The tables of /proc/net: each line of the kernel's own form is read back, any other is refused."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.maps import entries
from hybridbridge_vol.procfs.mounts import parse_mount
from hybridbridge_vol.procfs.net import (
    address_text,
    parse_endpoint,
    parse_inet_socket,
    parse_netlink_socket,
    parse_packet_socket,
    parse_unix_socket,
)
from hybridbridge_vol.procfs.net_dev import (
    flag_letters,
    parse_dev,
    parse_if_inet6,
    parse_igmp,
    parse_igmp6,
    parse_snmp,
    parse_snmp6,
)
from hybridbridge_vol.procfs.route import arp_letters, mask_text, parse_arp, parse_ipv6_route, parse_route
from hybridbridge_vol.procfs.sources import lines, split_lines

U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
NAMES = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=":/"), min_size=1, max_size=15
)


def words(address: bytes) -> str:
    """An address as the kernel prints it: `%08X` of each word, read by a little-endian machine."""
    return "".join(
        f"{int.from_bytes(address[at : at + 4], 'little'):08X}" for at in range(0, len(address), 4)
    )


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)))
def test_addresses_are_written_as_the_c_library_writes_them(address: bytes) -> None:
    assert address_text(address) == socket.inet_ntop(
        socket.AF_INET if len(address) == 4 else socket.AF_INET6, address
    )


@given(st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF, 0x1234]), min_size=8, max_size=8))
def test_runs_of_zeros_are_cut_where_the_c_library_cuts_them(groups: list[int]) -> None:
    address = b"".join(group.to_bytes(2, "big") for group in groups)
    assert address_text(address) == socket.inet_ntop(socket.AF_INET6, address)


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)), U16)
def test_an_endpoint_is_read_in_the_machine_s_byte_order(address: bytes, port: int) -> None:
    end = parse_endpoint(f"{words(address)}:{port:04X}".encode())
    assert end == (address_text(address), port)
    assert end.is_any == (not any(address))
    shown = address_text(address) if len(address) == 4 else f"[{address_text(address)}]"
    assert end.text == f"{shown}:{port}"


@given(
    st.lists(U32, min_size=13, max_size=13),
    st.lists(st.integers(-1, 1 << 31), max_size=5),
    st.integers(1, 12),
)
def test_a_socket_line_is_read_back(numbers: list[int], rest: list[int], state: int) -> None:
    sl, tx, rx, timer, expires, retransmits, uid, probes, inode, references, pointer, local, remote = numbers
    timer %= 5
    # net/ipv4/tcp_ipv4.c, get_tcp4_sock
    line = (
        f"{sl:4d}: {local:08X}:0016 {remote:08X}:0000 {state:02X} {tx:08X}:{rx:08X} "
        f"{timer:02X}:{expires:08X} "
        f"{retransmits:08X} {uid:5d} {probes:8d} {inode} {references} {pointer:016x} "
        + " ".join(map(str, rest))
    ).ljust(149)
    found = parse_inet_socket(line.encode())
    assert found[2:13] == (
        state, tx, rx, timer, expires, retransmits, uid, probes, inode, references, pointer,
    )  # fmt: skip
    assert found.rest == tuple(rest)
    assert found.local == (address_text(local.to_bytes(4, "little")), 22)


@given(
    U64,
    U32,
    st.booleans(),
    st.sampled_from([1, 2, 5]),
    st.integers(1, 4),
    U32,
    st.text(st.characters(exclude_characters="\n", codec="utf-8")),
)
def test_a_unix_socket_keeps_its_name_with_blanks(
    pointer: int, references: int, listens: bool, kind: int, state: int, inode: int, name: str
) -> None:
    # net/unix/af_unix.c, unix_seq_show
    line = (
        f"{pointer:016x}: {references:08X} {0:08X} {listens << 16:08X} {kind:04X} {state:02X} {inode:5d}"
        + f" {name}" * bool(name)
    )
    found = parse_unix_socket(line.encode())
    assert tuple(found) == (pointer, references, listens << 16, kind, state, inode, name)
    assert found.listens == listens


def test_a_socket_has_no_address_before_the_kernel_has_a_key_to_hash_it_with() -> None:
    """What lib/vsprintf.c (Linux 6.1) prints for `%pK` until then, on a kernel that does not trust RDRAND."""
    inet = b"   0: 0100007F:1FE8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 2307 1 %b"
    unhashed = b"(____ptrval____)"
    assert parse_inet_socket(inet % unhashed + b" 100 0 0 10 0").pointer is None
    assert parse_inet_socket(inet % b"00000000b1c2d3e4 100 0 0 10 0").pointer == 0xB1C2D3E4
    unix = parse_unix_socket(unhashed + b": 00000002 00000000 00010000 0001 01  4711 /run/x")
    assert (unix.pointer, unix.inode, unix.path) == (None, 4711, "/run/x")
    assert parse_packet_socket(unhashed + b" 3      3    0003   2     1 0      0      2310").pointer is None
    netlink = unhashed + b" 0   1234       00000550 0        0        0     2        0        21"
    assert parse_netlink_socket(netlink).pointer is None


def test_packet_and_netlink_sockets() -> None:
    found = parse_packet_socket(b"000000003fab3bc2 3      3    0806   2     1 13056  1000   11632 ")
    assert found[2:] == (3, 0x806, 2, 13056, 1000, 11632)
    link = parse_netlink_socket(
        b"000000007c7b35fd 0   -4137       00000440 5        6        0     2        0        11635   "
    )
    assert link == (0x7C7B35FD, 0, -4137, 5, 6, 11635)


@given(NAMES, *[st.binary(min_size=4, max_size=4)] * 2, st.integers(0, 32), *[st.integers(0, 1 << 20)] * 5)
def test_a_route_is_read_back(
    name: str,
    destination: bytes,
    gateway: bytes,
    prefix: int,
    use: int,
    metric: int,
    mtu: int,
    window: int,
    irtt: int,
) -> None:
    mask = bytes(map(int, mask_text(prefix).split(".")))
    # net/ipv4/fib_trie.c, fib_route_seq_show
    addresses = f"{words(destination)}\t{words(gateway)}"
    line = f"{name}\t{addresses}\t{3:04X}\t0\t{use}\t{metric}\t{words(mask)}\t{mtu}\t{window}\t{irtt}"
    found = parse_route(line.ljust(127).encode())
    assert found == (
        name, address_text(destination), prefix, address_text(gateway), 3, 0, use, metric, mtu, window, irtt,
    )  # fmt: skip
    assert parse_route(line.ljust(127).encode()).letters == "UG"


@given(NAMES, *[st.binary(min_size=16, max_size=16)] * 2, st.integers(0, 128), U32)
def test_a_route_of_ipv6_is_read_back(
    name: str, destination: bytes, hop: bytes, prefix: int, metric: int
) -> None:
    # net/ipv6/ip6_fib.c, ipv6_route_seq_show
    route = f"{destination.hex()} {prefix:02x} {'0' * 32} 00 {hop.hex()} {metric:08x}"
    line = f"{route} {1:08x} {2:08x} {0x200200:08x} {name:>8}"
    found = parse_ipv6_route(line.encode())
    assert found[:7] == (name, address_text(destination), prefix, address_text(hop), 0x200200, 1, 2)
    assert found.metric % (1 << 32) == metric
    assert found.letters == "!n"


@given(NAMES, st.lists(U64, min_size=16, max_size=16))
def test_the_counters_of_an_interface_are_read_back(name: str, numbers: list[int]) -> None:
    assert parse_dev(f"{name:>6}: {' '.join(map(str, numbers))}".encode()) == (name, tuple(numbers))


def test_neighbours_addresses_groups_and_counters() -> None:
    assert parse_arp(b"192.0.2.1        0x1         0x6         02:00:00:00:00:01     *        eth0")[:4] == (
        "192.0.2.1", 1, 6, "02:00:00:00:00:01",
    )  # fmt: skip
    assert arp_letters(6) == "CM"
    assert parse_if_inet6(b"fe800000000000000000000000000001 02 40 20 80   eth0") == (
        "fe80::1",
        2,
        64,
        0x20,
        0x80,
        "eth0",
    )
    data = (
        b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
        b"2\teth0      :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
    )
    ((group, _),) = parse_igmp("x", iter(list(lines("x", data))[1:]))
    assert group == ("eth0", 1, "224.0.0.1")
    ((group, _),) = parse_igmp6(
        "x", lines("x", b"2    eth0   ff020000000000000000000000000001     3 0000000C 0\n")
    )
    assert group == ("eth0", 3, "ff02::1")
    counters = list(
        parse_snmp("x", lines("x", b"Ip: Forwarding DefaultTTL\nIp: 2 64\nTcp: MaxConn\nTcp: -1\n"))
    )
    assert [tuple(counter)[:3] for counter in counters] == [
        ("Ip", "Forwarding", 2),
        ("Ip", "DefaultTTL", 64),
        ("Tcp", "MaxConn", -1),
    ]
    (counter,) = parse_snmp6("x", lines("x", b"Udp6InDatagrams                 \t7\n"))
    assert tuple(counter)[:3] == ("Udp6", "InDatagrams", 7)
    assert flag_letters(0x1043) == "BMRU"


PARSERS: tuple[Callable[[bytes], Any], ...] = (
    parse_inet_socket, parse_unix_socket, parse_packet_socket, parse_netlink_socket, parse_route,
    parse_ipv6_route, parse_arp, parse_dev, parse_if_inet6,
    *(
        lambda data, parse=parse: list(parse("x", lines("x", data)))
        for parse in (parse_igmp, parse_igmp6, parse_snmp, parse_snmp6)
    ),
)  # fmt: skip


@pytest.mark.parametrize("parse", PARSERS)
@given(
    data=st.one_of(
        st.binary(max_size=200), st.text("0123456789abcdefABCDEF:. \t*-", max_size=200).map(str.encode)
    )
)
def test_what_no_kernel_writes_is_refused_in_one_way(parse: Callable[[bytes], Any], data: bytes) -> None:
    try:
        parse(data)
    except ParseError as error:
        assert "not in the form" in str(error)


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"\r")), max_size=6))
def test_only_a_newline_ends_a_line(given_lines: list[bytes]) -> None:
    data = b"".join(one + b"\n" for one in given_lines)
    assert split_lines(data) == given_lines
    found = list(lines("path", data))
    assert [one for one, _source in found] == given_lines
    assert b"".join(data[source.start : source.end] for _one, source in found) == data


@pytest.mark.parametrize("character", ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2003"])
def test_a_character_that_looks_like_a_blank_or_a_line_end_stays_in_a_name(character: str) -> None:
    """Names of interfaces may hold all but /, : and what isspace() of the kernel knows (net/core/dev.c,
    dev_valid_name); of mounts and of mapped files, all but NUL."""
    name = f"a{character}b"
    if character in "\x1c\x1d\x1e\x85\u2028\u2003":
        line = f"10.0.0.1 0x1 0x2 00:00:00:00:00:01 * {name}"
        assert parse_arp(line.encode()).interface == name
    mount = f"36 35 98:0 / /{name} rw - tmpfs none rw\n".encode()
    ((line_of_mount, _source),) = lines("mountinfo", mount)
    assert parse_mount(line_of_mount).target == f"/{name}"
    mapped = f"00400000-00401000 r-xp 00000000 08:01 7 /{name}\n00500000-00501000 r-xp 00000000 08:01 7\n"
    assert [entry.mapping.path for entry in entries("maps", mapped.encode())] == [f"/{name}", ""]  # type: ignore[union-attr]
