"""Targets of iptables as iptables-save writes them (include/uapi/linux/netfilter/xt_*.h, nf_nat.h; iptables
1.8.9, extensions/libxt_*.c, libipt_*.c, libip6t_*.c). Each takes revision and data of struct xt_entry_target
and raises struct.error, ValueError or IndexError where that is not what it should be."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.xtables.words import names, option, string, u16s, u32s, words

Save = Callable[[int, bytes, bool], str]
"""Of a revision, data, and whether it is ip6tables'."""
_REJECT = (
    "icmp-net-unreachable", "icmp-host-unreachable", "icmp-proto-unreachable", "icmp-port-unreachable",
    "echo-reply",
    "icmp-net-prohibited", "icmp-host-prohibited", "tcp-reset", "icmp-admin-prohibited",
)  # fmt: skip
_REJECT6 = (
    "icmp6-no-route", "icmp6-adm-prohibited", "icmp6-not-neighbour", "icmp6-addr-unreachable",
    "icmp6-port-unreachable",
    "icmp6-echo-reply", "tcp-reset", "icmp6-policy-fail", "icmp6-reject-route",
)  # fmt: skip
_LOG_FLAGS = (
    (1, "--log-tcp-sequence"), (2, "--log-tcp-options"), (4, "--log-ip-options"), (8, "--log-uid"),
    (32, "--log-macdecode"),
)  # fmt: skip
_WARNING = 4
_MAP_ADDRESSES, _PORTS, _RANDOM, _PERSISTENT, _FULLY = 1, 2, 4, 8, 16
"""NF_NAT_RANGE_*."""
_EVENTS = (
    (1, "new"), (2, "related"), (4, "destroy"), (8, "reply"), (16, "assured"), (32, "protoinfo"), (64,
    "helper"),
    (128, "mark"), (256, "natseqinfo"), (512, "secmark"),
)  # fmt: skip


def _log(_revision: int, data: bytes, _six: bool) -> str:
    level, flags = data[:2]
    prefix = data[2:32].split(b"\0")[0]
    return words(
        option("log-prefix", f'"{prefix.decode("utf-8", "surrogateescape")}"') if prefix else "",
        option("log-level", str(level)) if level != _WARNING else "", names(flags, _LOG_FLAGS, " "),
    )  # fmt: skip


def _reject(_revision: int, data: bytes, six: bool) -> str:
    (kind,) = u32s(data, 1)
    known = _REJECT6 if six else _REJECT
    return option("reject-with", known[kind] if kind < len(known) else str(kind))


def _mark(_revision: int, data: bytes, _six: bool) -> str:
    value, mask = u32s(data, 2)
    return option("set-xmark", f"{value:#x}/{mask:#x}")


def _connmark(revision: int, data: bytes, _six: bool) -> str:
    value, mask, packet_mask = u32s(data, 3)
    mode = data[14 if revision > 1 else 12]
    if mode == 0:
        return option("set-xmark", f"{value:#x}/{mask:#x}")
    word = {1: "--save-mark", 2: "--restore-mark"}.get(mode, f"mode-{mode}")
    return words(word, option("nfmask", f"{packet_mask:#x}"), option("ctmask", f"{mask:#x}"))


def _range(revision: int, data: bytes, six: bool) -> tuple[int, str, str, int, int]:
    """Flags, first and last address, first and last port; of struct nf_nat_ipv4_multi_range_compat or struct
    nf_nat_range."""
    if revision == 0 and not six:
        _count, flags = u32s(data, 2)
        low, high = address_text(data[8:12]), address_text(data[12:16])
        first, last = struct.unpack_from(">HH", data, 16)
    else:
        (flags,) = u32s(data, 1)
        width = 16 if six else 4
        low, high = address_text(data[4 : 4 + width]), address_text(data[20 : 20 + width])
        first, last = struct.unpack_from(">HH", data, 36)
    return flags, low, high, first, last


def _ports(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _flags(flags: int) -> str:
    return words(
        "--random" if flags & _RANDOM else "", "--random-fully" if flags & _FULLY else "",
        "--persistent" if flags & _PERSISTENT else "",
    )  # fmt: skip


def _translation(name: str) -> Save:
    def save(revision: int, data: bytes, six: bool) -> str:
        flags, low, high, first, last = _range(revision, data, six)
        address = ""
        if flags & _MAP_ADDRESSES:
            address = low if low == high else f"{low}-{high}"
            if six and flags & _PORTS:
                address = f"[{low}]" if low == high else f"[{low}]-[{high}]"
        ports = f":{_ports(first, last)}" if flags & _PORTS else ""
        return words(option(name, address + ports) if address or ports else "", _flags(flags))

    return save


def _to_ports(revision: int, data: bytes, six: bool) -> str:
    flags, _low, _high, first, last = _range(revision, data, six)
    return words(option("to-ports", _ports(first, last)) if flags & _PORTS else "", _flags(flags))


def _netmap(revision: int, data: bytes, six: bool) -> str:
    from hybridbridge_vol.xtables.entries import network_text

    if revision == 0 and not six:
        low, high = data[8:12], data[12:16]
    else:
        width = 16 if six else 4
        low, high = data[4 : 4 + width], data[20 : 20 + width]
    mask = bytes(255 - (a ^ b) for a, b in zip(low, high, strict=True))
    return option("to", network_text(low, mask))


def _tcpmss(_revision: int, data: bytes, _six: bool) -> str:
    (size,) = u16s(data, 1)
    return "--clamp-mss-to-pmtu" if size == 0xFFFF else option("set-mss", str(size))


def _ct(revision: int, data: bytes, _six: bool) -> str:
    flags, zone = u16s(data, 2)
    events, expected = u32s(data, 2, 4)
    helper, timeout = data[12:28], data[28:60] if revision else b""
    side = "-orig" if flags & 4 else "-reply" if flags & 8 else ""
    return words(
        "--notrack" if flags & 1 else "", option("helper", string(helper)) if helper.strip(b"\0") else "",
        option("timeout", string(timeout)) if timeout.strip(b"\0") else "",
        option("ctevents", names(events, _EVENTS)) if events else "",
        option("expevents", names(expected, ((1, "new"),))) if expected else "",
        option(f"zone{side}", "mark" if flags & 16 else str(zone)) if zone or flags & 16 or side else "",
    )  # fmt: skip


def _tproxy(revision: int, data: bytes, six: bool) -> str:
    mask, value = u32s(data, 2)
    width = 16 if six else 4
    address = address_text(data[8 : 8 + width])
    (port,) = struct.unpack_from(">H", data, 24 if revision else 12)
    return words(
        option("on-port", str(port)), option("on-ip", address) if any(data[8 : 8 + width]) else "",
        option("tproxy-mark", f"{value:#x}/{mask:#x}"),
    )  # fmt: skip


def _classify(_revision: int, data: bytes, _six: bool) -> str:
    (handle,) = u32s(data, 1)
    return option("set-class", f"{handle >> 16:04x}:{handle & 0xFFFF:04x}")


def _dscp(_revision: int, data: bytes, _six: bool) -> str:
    return option("set-dscp", f"0x{data[0]:02x}")


def _tos(_revision: int, data: bytes, _six: bool) -> str:
    return option("set-tos", f"0x{data[0]:02x}/0x{data[1]:02x}")


def _hops(prefix: str) -> Save:
    def save(_revision: int, data: bytes, _six: bool) -> str:
        mode, value = data[:2]
        word = {0: "set", 1: "inc", 2: "dec"}.get(mode, str(mode))
        return option(f"{prefix}-{word}", str(value))

    return save


def _nflog(_revision: int, data: bytes, _six: bool) -> str:
    (size,) = u32s(data, 1)
    group, threshold, flags = u16s(data, 3, 4)
    prefix = data[12:76].split(b"\0")[0]
    return words(
        option("nflog-prefix", string(prefix)) if prefix else "", option("nflog-group",
        str(group)) if group else "",
        option("nflog-size" if flags & 1 else "nflog-range", str(size)) if size or flags & 1 else "",
        option("nflog-threshold", str(threshold)) if threshold not in (0, 1) else "",
    )  # fmt: skip


def _nfqueue(revision: int, data: bytes, _six: bool) -> str:
    (number,) = u16s(data, 1)
    total = u16s(data, 1, 2)[0] if revision else 1
    flags = u16s(data, 1, 4)[0] if revision else 0
    target = (
        option("queue-balance", f"{number}:{number + total - 1}")
        if total > 1
        else option("queue-num", str(number))
    )
    return words(target, "--queue-bypass" if flags & 1 else "", "--queue-cpu-fanout" if flags & 2 else "")


def _nothing(_revision: int, _data: bytes, _six: bool) -> str:
    return ""


TARGETS: dict[str, Save] = {
    "LOG": _log, "REJECT": _reject, "MARK": _mark, "CONNMARK": _connmark,
    "DNAT": _translation("to-destination"),
    "SNAT": _translation("to-source"), "MASQUERADE": _to_ports, "REDIRECT": _to_ports, "NETMAP": _netmap,
    "TCPMSS": _tcpmss, "CT": _ct, "TPROXY": _tproxy, "CLASSIFY": _classify, "DSCP": _dscp, "TOS": _tos,
    "TTL": _hops("ttl"), "HL": _hops("hl"), "NFLOG": _nflog, "NFQUEUE": _nfqueue, "TRACE": _nothing,
}  # fmt: skip
