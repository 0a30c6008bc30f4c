"""Statements that take no comparison: counters, limits, logs, rejects, translations ... (nftables 1.0.6,
src/statement.c), of rules and of elements of sets, and named objects."""

from __future__ import annotations

from collections.abc import Callable

from hybridbridge_vol.netlink.messages import attributes
from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.netlink.nftables.data_types import (
    ICMP_CODES,
    ICMPV6_CODES,
    ICMPX_CODES,
    duration,
    quoted,
)
from hybridbridge_vol.netlink.nftables.messages import Attributes, Expression, number
from hybridbridge_vol.netlink.nftables.protocol_numbers import PROTOCOLS

_UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day", 604800: "week"}
_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit")
_WARN, _AUDIT = 4, 8
_LOG_FLAGS = ((1, "tcp sequence"), (2, "tcp options"), (4, "ip options"), (8, "skuid"), (32, "ether"))
_L3 = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_BYTES = ("bytes", "kbytes", "mbytes")
_INVERTED = 1


def byte_rate(value: int) -> tuple[int, str]:
    """nft's unit of a number of bytes: the largest that leaves nothing over."""
    index = 0
    while value and not value % 1024 and index < len(_BYTES) - 1:
        value //= 1024
        index += 1
    return value, _BYTES[index]


def _counter(data: Attributes) -> str:
    return f"counter packets {number(data.get(2))} bytes {number(data.get(1))}"


def limit_rate(data: Attributes) -> str:
    """Without the word limit; the name of an object comes before it."""
    rate, unit, burst = number(data.get(1)), number(data.get(2)), number(data.get(3))
    over = "over " if number(data.get(5)) & _INVERTED else ""
    per = _UNITS.get(unit, f"{unit} seconds")
    if number(data.get(4)):
        amount, word = byte_rate(rate)
        burst_amount, burst_word = byte_rate(burst)
        more = f" burst {burst_amount} {burst_word}" if burst else ""
        return f"rate {over}{amount} {word}/{per}{more}"
    more = f" burst {burst} packets" if burst and burst != _DEFAULT_BURST else ""
    return f"rate {over}{rate}/{per}{more}"


_DEFAULT_BURST = 5


def _limit(data: Attributes) -> str:
    return f"limit {limit_rate(data)}"


def quota_text(data: Attributes) -> str:
    """`over 500 mbytes used 3 kbytes`."""
    amount, unit = byte_rate(number(data.get(1)))
    over = "over " if number(data.get(2)) & _INVERTED else ""
    used = number(data.get(4))
    used_amount, used_unit = byte_rate(used)
    return f"{over}{amount} {unit}" + (f" used {used_amount} {used_unit}" if used else "")


def _quota(data: Attributes) -> str:
    return f"quota {quota_text(data)}"


def _log(data: Attributes) -> str:
    words = ["log"]
    if 2 in data:
        words.append(f"prefix {quoted(nft.name(data[2]))}")
    if 1 in data:
        words.append(f"group {number(data[1])}")
    if number(data.get(3)):
        words.append(f"snaplen {number(data[3])}")
    if number(data.get(4)):
        words.append(f"queue-threshold {number(data[4])}")
    level = number(data[5]) if 5 in data else _WARN
    if 1 not in data and level != _WARN:
        words.append(f"level {_LEVELS[level] if level < len(_LEVELS) else level}")
    return " ".join(words + _log_flags(number(data.get(6)), level))


def _log_flags(flags: int, level: int) -> list[str]:
    if not flags or level == _AUDIT:
        return []
    if flags & 0x2F == 0x2F:
        return ["flags all"]
    tcp = ",".join(name for bit, name in ((1, "sequence"), (2, "options")) if flags & bit)
    words = [f"flags tcp {tcp}"] if tcp else []
    return words + [f"flags {name}" for bit, name in _LOG_FLAGS[2:] if flags & bit]


def _connlimit(data: Attributes) -> str:
    over = "over " if number(data.get(2)) & _INVERTED else ""
    return f"ct count {over}{number(data.get(1))}"


def _last(data: Attributes) -> str:
    return f"last used {duration(number(data.get(2)))}" if number(data.get(1)) else "last used never"


def _synproxy(data: Attributes) -> str:
    flags = number(data.get(3))
    words = ["synproxy"]
    words += [f"mss {number(data.get(1))}"] * bool(flags & 1) + [f"wscale {number(data.get(2))}"] * bool(
        flags & 2
    )
    return " ".join(words + ["timestamp"] * bool(flags & 8) + ["sack-perm"] * bool(flags & 4))


def _queue(data: Attributes) -> str:
    first, total, flags = number(data.get(1)), number(data.get(2)), number(data.get(3))
    names = ",".join(name for bit, name in ((1, "bypass"), (2, "fanout")) if flags & bit)
    target = f"{first}-{first + total - 1}" if total > 1 else str(first)
    return "queue" + (f" flags {names}" if names else "") + f" to {target}"


def _flow(data: Attributes) -> str:
    return f"flow add @{nft.name(data.get(1))}"


def reject_text(data: Attributes, family: int, network: str) -> str:
    """`network` is the protocol that is known at the layer of the network, if one is."""
    kind, code = number(data.get(1)), number(data.get(2))
    if kind == 1:
        return "reject with tcp reset"
    if kind == 2:
        return "reject" if code == 1 else f"reject with icmpx {ICMPX_CODES.get(code, code)}"
    is_ip6 = family == nft.IP6 or network == "ip6"
    default = 4 if is_ip6 else 3
    codes = ICMPV6_CODES if is_ip6 else ICMP_CODES
    if code == default and family in (nft.IP, nft.IP6):
        return "reject"
    return f"reject with {'icmpv6' if is_ip6 else 'icmp'} {codes.get(code, code)}"


_PLAIN: dict[str, Callable[[Attributes], str]] = {
    "counter": _counter, "limit": _limit, "quota": _quota, "log": _log, "connlimit": _connlimit,
    "last": _last,
    "synproxy": _synproxy, "queue": _queue, "flow_offload": _flow, "notrack": lambda _data: "notrack",
}  # fmt: skip


def plain_text(one: Expression) -> str | None:
    """A statement that stands for itself; None if it is none of these."""
    maker = _PLAIN.get(one.kind)
    return None if maker is None else maker(one.data)


def unknown_text(one: Expression) -> str:
    """An expression that is not known here, by its name, and its attributes as they are."""
    words = " ".join(f"{kind}={data.hex() or '-'}" for kind, data in one.data.items())
    return f"[{one.kind}{' ' if words else ''}{words}]"


# --- objects ----------------------------------------------------------------------------------------------

_TIMEOUTS = {
    "tcp": ("syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close",
            "syn_sent2", "retrans", "unack"),
    "udp": ("unreplied", "replied"),
}  # fmt: skip
_DEFAULTS = {
    "tcp": (120, 60, 432000, 120, 60, 30, 120, 10, 120, 300, 300),
    "udp": (30, 120),
}


def object_lines(one: nft.Object) -> list[str]:
    """What stands in an object, by lines."""
    makers: dict[int, Callable[[Attributes], list[str]]] = {
        1: lambda data: [_counter(data).removeprefix("counter ")],
        2: lambda data: [quota_text(data)],
        3: _helper,
        4: lambda data: [limit_rate(data)],
        7: _timeout,
        8: lambda data: [quoted(nft.name(data.get(1)))],
        9: _expectation,
        10: _synproxy_object,
    }
    comment = [f"comment {quoted(one.comment)}"] if one.comment is not None else []
    maker = makers.get(one.kind)
    if maker is None:
        return comment + [unknown_text(Expression("object", one.data))]
    return comment + maker(one.data)


def _helper(data: Attributes) -> list[str]:
    protocol = number(data.get(3))
    return [
        f"type {quoted(nft.name(data.get(1)))} protocol {PROTOCOLS.get(protocol, protocol)}",
        f"l3proto {_L3.get(number(data.get(2)), '?')}",
    ]


def _timeout(data: Attributes) -> list[str]:
    protocol = PROTOCOLS.get(number(data.get(2)), str(number(data.get(2))))
    values = {kind - 1: number(value) for kind, value in attributes(data.get(3, b"")).items()}
    names, usual = _TIMEOUTS.get(protocol, ()), _DEFAULTS.get(protocol, ())
    policy = [
        f"{names[index] if index < len(names) else index} : {value}"
        for index, value in sorted(values.items())
        if index >= len(usual) or usual[index] != value
    ]
    lines = [f"protocol {protocol}", f"l3proto {_L3.get(number(data.get(1)), '?')}"]
    return lines + ([f"policy = {{ {', '.join(policy)} }}"] if policy else [])


def _expectation(data: Attributes) -> list[str]:
    protocol = number(data.get(2))
    return [
        f"protocol {PROTOCOLS.get(protocol, protocol)}", f"dport {number(data.get(3))}",
        f"timeout {duration(int.from_bytes(data.get(4, b''), 'little'))}", f"size {number(data.get(5))}",
        f"l3proto {_L3.get(number(data.get(1)), '?')}",
    ]  # fmt: skip


def _synproxy_object(data: Attributes) -> list[str]:
    flags = number(data.get(3))
    words = ["timestamp"] * bool(flags & 8) + ["sack-perm"] * bool(flags & 4)
    lines = [f"mss {number(data.get(1))}"] * bool(flags & 1) + [f"wscale {number(data.get(2))}"] * bool(
        flags & 2
    )
    return lines + ([" ".join(words)] if words else [])
