"""Matches of iptables that look at a packet's headers and content (include/uapi/linux/netfilter/xt_*.h;
iptables 1.8.9, extensions/libxt_*.c). Each takes the data of struct xt_entry_match and raises struct.error,
ValueError or IndexError where that is not what it should be."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.xtables.words import EVERYTHING, names, option, span, string, u16s, u32s, words

Save = Callable[[bytes], str]
"""The options of a match, as iptables-save writes them."""
_TCP_FLAGS = ((1, "FIN"), (2, "SYN"), (4, "RST"), (8, "PSH"), (16, "ACK"), (32, "URG"))
_ADDRESS_TYPES = (
    "UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE",
    "PROHIBIT", "THROW",
    "NAT", "XRESOLVE",
)  # fmt: skip


def _ports(name: str, low: int, high: int, inverted: int) -> str:
    return "" if (low, high) == (0, 0xFFFF) and not inverted else option(name, span(low, high), inverted)


def _tcp(data: bytes) -> str:
    low, high, low2, high2 = u16s(data, 4)
    number, mask, compare, inverted = data[8:12]
    flags = ""
    if mask or inverted & 4:
        wanted = ("ALL" if mask & 0x3F == 0x3F else names(mask, _TCP_FLAGS)) or "NONE"
        set_ = ("ALL" if compare & 0x3F == 0x3F else names(compare, _TCP_FLAGS)) or "NONE"
        flags = option("tcp-flags", f"{wanted} {set_}", inverted & 4)
    return words(
        _ports("sport", low, high, inverted & 1), _ports("dport", low2, high2, inverted & 2),
        option("tcp-option", str(number), inverted & 8) if number or inverted & 8 else "", flags,
    )  # fmt: skip


def _udp(data: bytes) -> str:
    low, high, low2, high2 = u16s(data, 4)
    return words(_ports("sport", low, high, data[8] & 1), _ports("dport", low2, high2, data[8] & 2))


def _sctp(data: bytes) -> str:
    low2, high2, low, high = u16s(data, 4)
    flags, inverted = u32s(data, 2, 284)
    return words(
        _ports("sport", low, high, inverted & 1) if flags & 1 else "",
        _ports("dport", low2, high2, inverted & 2) if flags & 2 else "",
    )


def _icmp(name: str) -> Save:
    def save(data: bytes) -> str:
        kind, low, high, inverted = data[:4]
        if kind == 0xFF:
            return option(name, "any", inverted & 1)
        return option(name, str(kind) if (low, high) == (0, 0xFF) else f"{kind}/{low}", inverted & 1)

    return save


def _multiport(data: bytes) -> str:
    kind, count = data[:2]
    ports = u16s(data, 15, 2)
    ranges = data[32:47]
    found = ""
    for index, port in enumerate(ports[:count]):
        after_range = index > 0 and ranges[index - 1]
        found += str(port) if not found else f"{':' if after_range else ','}{port}"
    return option({0: "sports", 1: "dports", 2: "ports"}.get(kind, str(kind)), found, data[47])


def _iprange(data: bytes) -> str:
    flags = data[64]
    width = 4 if not any(data[4:16]) and not any(data[36:48]) else 16
    found = []
    for bit, inverted, at, name in ((1, 16, 0, "src-range"), (2, 32, 32, "dst-range")):
        if flags & bit:
            ends = (address_text(data[start : start + width]) for start in (at, at + 16))
            found.append(option(name, "-".join(ends), flags & inverted))
    return words(*found)


def _mac(data: bytes) -> str:
    return option("mac-source", ":".join(f"{byte:02x}" for byte in data[:6]), u32s(data, 1, 8)[0])


def _addrtype(data: bytes) -> str:
    source, destination = u16s(data, 2)
    (flags,) = u32s(data, 1, 4)
    known = tuple((1 << bit, name) for bit, name in enumerate(_ADDRESS_TYPES))
    return words(
        option("src-type", names(source, known), flags & 1) if source else "",
        option("dst-type", names(destination, known), flags & 2) if destination else "",
        "--limit-iface-in" if flags & 4 else "", "--limit-iface-out" if flags & 8 else "",
    )  # fmt: skip


def _string(data: bytes) -> str:
    start, end = u16s(data, 2)
    size, flags = data[148], data[149]
    pattern = data[20 : 20 + size]
    printable = all(32 <= byte < 127 for byte in pattern)
    shown = f'"{pattern.decode("latin-1")}"' if printable else f'"|{pattern.hex()}|"'
    return words(
        option("string" if printable else "hex-string", shown, flags & 1), option("algo", string(data[4:20])),
        option("from", str(start)) if start else "", option("to", str(end)) if end not in (0, 0xFFFF) else "",
        "--icase" if flags & 2 else "",
    )  # fmt: skip


def _length(data: bytes) -> str:
    low, high = u16s(data, 2)
    return option("length", span(low, high), data[4])


def _hops(prefix: str) -> Save:
    def save(data: bytes) -> str:
        mode, value = data[:2]
        name = {0: f"{prefix}-eq", 1: f"{prefix}-eq", 2: f"{prefix}-lt", 3: f"{prefix}-gt"}.get(mode, prefix)
        return option(name, str(value), mode == 1)

    return save


def _pkttype(data: bytes) -> str:
    kind, inverted = u32s(data, 2)
    return option("pkt-type", {0: "unicast", 1: "broadcast", 2: "multicast"}.get(kind, str(kind)), inverted)


def _dscp(data: bytes) -> str:
    return option("dscp", f"0x{data[0]:02x}", data[1])


def _tos(data: bytes) -> str:
    return option("tos", f"0x{data[1]:02x}/0x{data[0]:02x}", data[2])


def _bytecode(data: bytes, count: int, at: int) -> str:
    code = (struct.unpack_from("<HBBI", data, at + 8 * index) for index in range(min(count, 64)))
    return option("bytecode", f'"{count},{",".join(" ".join(map(str, one)) for one in code)}"')


def _bpf(data: bytes) -> str:
    mode, count = u16s(data, 2)
    if mode == 1:
        return option("object-pinned", string(data[8:520]))
    return _bytecode(data, count, 8)


def _old_bpf(data: bytes) -> str:
    return _bytecode(data, u16s(data, 1)[0], 4)


_U32_SIGNS = ("&", "<<", ">>", "@")
_U32_TEST, _U32_VALUES = 180, 88


def _u32(data: bytes) -> str:
    count, inverted = data[11 * _U32_TEST : 11 * _U32_TEST + 2]
    tests = []
    for start in range(0, min(count, 11) * _U32_TEST, _U32_TEST):
        numbers, values = data[start + 176 : start + 178]
        text = ""
        for index in range(min(numbers, 11)):
            value, sign = struct.unpack_from("<IB", data, start + 8 * index)
            text += f"{_U32_SIGNS[sign] if index else ''}{value:#x}"
        ends = (u32s(data, 2, start + _U32_VALUES + 8 * index) for index in range(min(values, 11)))
        tests.append(
            text + "=" + ",".join(f"{low:#x}" if low == high else f"{low:#x}:{high:#x}" for low, high in ends)
        )
    return option("u32", f'"{"&&".join(tests)}"', inverted)


def _spis(name: str) -> Save:
    def save(data: bytes) -> str:
        low, high = u32s(data, 2)
        return "" if (low, high) == (0, EVERYTHING) else option(name, span(low, high), data[8] & 1)

    return save


def _comment(data: bytes) -> str:
    return option("comment", string(data))


def _rt(data: bytes) -> str:
    kind, low, high, _size = u32s(data, 4)
    flags, inverted = data[16:18]
    return words(
        option("rt-type", str(kind), inverted & 1) if flags & 1 else "",
        option("rt-segsleft", span(low, high), inverted & 2) if flags & 2 else "",
    )


def _frag(data: bytes) -> str:
    low, high, size = u32s(data, 3)
    flags, inverted = data[12:14]
    return words(
        option("fragid", span(low, high), inverted & 1) if flags & 1 else "",
        option("fraglen", str(size), inverted & 2) if flags & 2 else "",
        "--fragres" if flags & 4 else "", "--fragfirst" if flags & 8 else "",
        "--fragmore" if flags & 16 else "", "--fraglast" if flags & 32 else "",
    )  # fmt: skip


PACKET_MATCHES: dict[str, Save] = {
    "tcp": _tcp, "udp": _udp, "udplite": _udp, "sctp": _sctp, "icmp": _icmp("icmp-type"),
    "icmp6": _icmp("icmpv6-type"), "multiport": _multiport, "iprange": _iprange, "mac": _mac,
    "addrtype": _addrtype, "string": _string, "length": _length, "ttl": _hops("ttl"), "hl": _hops("hl"),
    "pkttype": _pkttype, "dscp": _dscp, "tos": _tos, "bpf": _bpf, "esp": _spis("espspi"),
    "ah": _spis("ahspi"), "u32": _u32, "comment": _comment, "rt": _rt, "frag": _frag,
}  # fmt: skip
OLDER: dict[tuple[str, int], Save] = {("bpf", 0): _old_bpf}
"""Revisions whose data has another form."""
