"""nft's types of data, and a value of each as nft writes it (nftables 1.0.6: src/datatype.c, meta.c,
ct.c)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hybridbridge_vol.netlink.nftables.protocol_numbers import PROTOCOLS
from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.procfs.pid import text

Names = Callable[[int], str]
"""The name of an interface by its number."""
Form = Callable[[bytes, Names], str]


class DataType(NamedTuple):
    """`is_host`: numbers are in the byte order of the machine. `flags`: a value may be several names joined
    by `separator`."""

    name: str
    form: Form
    is_host: bool = False
    flags: Mapping[int, str] | None = None
    separator: str = ","


def order(data: bytes, is_host: bool) -> int:
    """A number in the byte order of the machine, or of the network."""
    return int.from_bytes(data, "little" if is_host else "big")


def _number(is_host: bool) -> Form:
    return lambda data, _names: str(order(data, is_host))


def _hexadecimal(is_host: bool, width: int = 0) -> Form:
    return lambda data, _names: f"0x{order(data, is_host):0{width or 1}x}"


def _named(names: Mapping[int, str], is_host: bool = False, otherwise: Form | None = None) -> Form:
    def form(data: bytes, interfaces: Names) -> str:
        value = order(data, is_host)
        if value in names:
            return names[value]
        return otherwise(data, interfaces) if otherwise else str(value)

    return form


def quoted(value: str) -> str:
    """A string of nft's."""
    return f'"{value}"'


def _address(data: bytes, _names: Names) -> str:
    return address_text(data)


def _hardware(data: bytes, _names: Names) -> str:
    return ":".join(f"{byte:02x}" for byte in data)


def _string(data: bytes, _names: Names) -> str:
    return quoted(text(data.split(b"\0")[0]))


def _interface_name(data: bytes, _names: Names) -> str:
    """A name without a NUL at its end is the beginning of names."""
    return quoted(text(data.split(b"\0")[0]) + ("" if b"\0" in data else "*"))


def _interface(data: bytes, names: Names) -> str:
    return quoted(names(order(data, True)))


def duration(milliseconds: int) -> str:
    """`1d2h3m4s5ms`."""
    rest, parts = milliseconds, []
    for unit, name in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")):
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def _seconds(data: bytes, _names: Names) -> str:
    return duration(order(data, True))


def _date(data: bytes, _names: Names) -> str:
    return quoted(time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(order(data, True) // 10**9)))


def _hour(data: bytes, _names: Names) -> str:
    minutes, seconds = divmod(order(data, True), 60)
    hours, minutes = divmod(minutes, 60)
    return quoted(f"{hours:02}:{minutes:02}" + (f":{seconds:02}" if seconds else ""))


def _class(data: bytes, _names: Names) -> str:
    """A handle of tc."""
    value = order(data, True)
    known = {0: "none", 0xFFFFFFFF: "root"}
    return known.get(value, f"{value >> 16:x}:{value & 0xFFFF:x}")


def _raw(data: bytes, _names: Names) -> str:
    return f"0x{data.hex().lstrip('0') or '0'}"


_ICMP = {
    0: "echo-reply", 3: "destination-unreachable", 4: "source-quench", 5: "redirect", 8: "echo-request",
    9: "router-advertisement", 10: "router-solicitation", 11: "time-exceeded", 12: "parameter-problem",
    13: "timestamp-request", 14: "timestamp-reply", 15: "info-request", 16: "info-reply",
    17: "address-mask-request", 18: "address-mask-reply",
}  # fmt: skip
_ICMPV6 = {
    1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem",
    128: "echo-request", 129: "echo-reply", 130: "mld-listener-query", 131: "mld-listener-report",
    132: "mld-listener-done", 133: "nd-router-solicit", 134: "nd-router-advert", 135: "nd-neighbor-solicit",
    136: "nd-neighbor-advert", 137: "nd-redirect", 138: "router-renumbering",
    141: "ind-neighbor-solicit", 142: "ind-neighbor-advert", 143: "mld2-listener-report",
}  # fmt: skip
ICMP_CODES = {
    0: "net-unreachable", 1: "host-unreachable", 2: "prot-unreachable", 3: "port-unreachable",
    4: "frag-needed", 9: "net-prohibited", 10: "host-prohibited", 13: "admin-prohibited",
}  # fmt: skip
ICMPV6_CODES = {
    0: "no-route", 1: "admin-prohibited", 3: "addr-unreachable", 4: "port-unreachable", 5: "policy-fail",
    6: "reject-route",
}  # fmt: skip
ICMPX_CODES = {0: "no-route", 1: "port-unreachable", 2: "host-unreachable", 3: "admin-prohibited"}
_DSCP = {
    0: "cs0", 8: "cs1", 16: "cs2", 24: "cs3", 32: "cs4", 40: "cs5", 48: "cs6", 56: "cs7", 1: "lephb",
    10: "af11", 12: "af12", 14: "af13", 18: "af21", 20: "af22", 22: "af23", 26: "af31", 28: "af32",
    30: "af33", 34: "af41", 36: "af42", 38: "af43", 44: "va", 46: "ef",
}  # fmt: skip
_FIB = {
    0: "unspec", 1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole",
    7: "unreachable", 8: "prohibit",
}  # fmt: skip
_TCP_FLAGS = {1: "fin", 2: "syn", 4: "rst", 8: "psh", 16: "ack", 32: "urg", 64: "ecn", 128: "cwr"}
_CT_STATE = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
_CT_STATUS = {
    1: "expected",
    2: "seen-reply",
    4: "assured",
    8: "confirmed",
    16: "snat",
    32: "dnat",
    512: "dying",
}
_CT_EVENT = {
    1: "new", 2: "related", 4: "destroy", 8: "reply", 16: "assured", 32: "protoinfo", 64: "helper",
    128: "mark", 256: "seqadj", 512: "secmark", 1024: "label",
}  # fmt: skip
_ETHER_TYPES = {0x800: "ip", 0x806: "arp", 0x86DD: "ip6", 0x8100: "8021q", 0x88A8: "8021ad", 0x8863: "0x8863"}
_ARP = {
    1: "request", 2: "reply", 3: "rrequest", 4: "rreply", 8: "inrequest", 9: "inreply", 10: "nak",
}  # fmt: skip
_HARDWARE = {1: "ether", 512: "ppp", 768: "ipip", 769: "ipip6", 772: "loopback", 776: "sit", 778: "ipgre"}
_MH = {
    0: "binding-refresh-request", 1: "home-test-init", 2: "careof-test-init", 3: "home-test",
    4: "careof-test", 5: "binding-update", 6: "binding-acknowledgement", 7: "binding-error",
    8: "fast-binding-update", 9: "fast-binding-acknowledgement", 10: "fast-binding-advertisement",
    11: "experimental-mobility-header", 12: "home-agent-switch-message",
}  # fmt: skip
_DCCP = {
    0: "request", 1: "response", 2: "data", 3: "ack", 4: "dataack", 5: "closereq", 6: "close", 7: "reset",
    8: "sync", 9: "syncack",
}  # fmt: skip
_IGMP = {
    17: "membership-query", 18: "membership-report-v1", 22: "membership-report-v2",
    34: "membership-report-v3",
    23: "leave-group",
}  # fmt: skip
_PACKETS = {0: "host", 1: "broadcast", 2: "multicast", 3: "other"}
_DAYS = dict(
    enumerate(map(quoted, ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]))
)
_ECN = {0: "not-ect", 1: "ect1", 2: "ect0", 3: "ce"}

INTEGER, HOST_INTEGER = DataType("integer", _number(False)), DataType("integer", _number(True), True)
RAW = DataType("integer", _raw)
STRING = DataType("string", _string)
IPV4, IPV6 = DataType("ipv4_addr", _address), DataType("ipv6_addr", _address)
ETHER = DataType("ether_addr", _hardware)
SERVICE = DataType("inet_service", _number(False))
PROTOCOL = DataType("inet_proto", _named(PROTOCOLS))
MARK = DataType("mark", _hexadecimal(True, 8), True)
BOOLEAN = DataType("boolean", _named({0: "missing", 1: "exists"}, True), True)
TIME = DataType("time", _seconds, True)
REALM = DataType("realm", _number(True), True)
IFNAME, IFINDEX = DataType("ifname", _interface_name), DataType("iface_index", _interface, True)

TYPES = (
    DataType("invalid", _raw), DataType("verdict", _raw),
    DataType("nf_proto", _named({2: "ipv4", 10: "ipv6"}, True), True), DataType("bitmask", _raw), INTEGER,
    STRING, DataType("ll_addr", _hardware), IPV4, IPV6, ETHER,
    DataType("ether_type", _named(_ETHER_TYPES, False, _hexadecimal(False))),
    DataType("arp_op", _named(_ARP)), PROTOCOL, SERVICE, DataType("icmp_type", _named(_ICMP)),
    DataType("tcp_flag", _number(False), False, _TCP_FLAGS, " | "), DataType("dccp_pkttype", _named(_DCCP)),
    DataType("mh_type", _named(_MH)), TIME, MARK, IFINDEX,
    DataType("iface_type", _named(_HARDWARE, True), True), REALM, DataType("classid", _class, True),
    DataType("uid", _number(True), True), DataType("gid", _number(True), True),
    DataType("ct_state", _hexadecimal(True, 8), True, _CT_STATE),
    DataType("ct_dir", _named({0: "original", 1: "reply"}, True), True),
    DataType("ct_status", _hexadecimal(True, 8), True, _CT_STATUS),
    DataType("icmpv6_type", _named(_ICMPV6)), DataType("ct_label", _raw, True),
    DataType("pkt_type", _named(_PACKETS, True), True), DataType("icmp_code", _named(ICMP_CODES)),
    DataType("icmpv6_code", _named(ICMPV6_CODES)), DataType("icmpx_code", _named(ICMPX_CODES)),
    DataType("devgroup", _number(True), True), DataType("dscp", _named(_DSCP, False, _hexadecimal(False, 2))),
    DataType("ecn", _named(_ECN)), DataType("fib_addrtype", _named(_FIB, True), True), BOOLEAN,
    DataType("ct_event", _hexadecimal(True), True, _CT_EVENT), IFNAME, DataType("igmp_type", _named(_IGMP)),
    DataType("time", _date, True), DataType("hour", _hour, True), DataType("day", _named(_DAYS, True), True),
    DataType("cgroupsv2", _number(True), True),
)  # fmt: skip
"""By nft's numbers (include/datatype.h, enum datatypes)."""
BY_NAME = {each.name: each for each in TYPES} | {"time": TIME}
DATE = TYPES[43]
_BITS, _MOST_JOINED = 6, 5


def types_of(number: int) -> list[DataType]:
    """The types that a number of the kernel's NFTA_SET_KEY_TYPE stands for: several where they are
    joined."""
    if not number >> _BITS:
        return [TYPES[number] if number < len(TYPES) else RAW]
    parts: list[DataType] = []
    while number and len(parts) < _MOST_JOINED:
        parts.append(TYPES[number & 63] if number & 63 < len(TYPES) else RAW)
        number >>= _BITS
    return parts[::-1]


def value_text(kind: DataType, data: bytes, names: Names) -> str:
    """A value of a type; as it is where it cannot be one."""
    if kind.flags is not None:
        bits = order(data, kind.is_host)
        found = [name for bit, name in sorted(kind.flags.items()) if bits & bit]
        rest = bits & ~sum(bit for bit in kind.flags)
        if bits and not rest:
            return kind.separator.join(found)
        if rest and found:
            return kind.separator.join([*found, hex(rest)])
    try:
        return kind.form(data, names)
    except (ValueError, IndexError, OverflowError):
        return _raw(data, names)
