"""Matches of iptables that look at connections, rates, owners, times and marks
(include/uapi/linux/netfilter/xt_*.h; iptables 1.8.9, extensions/libxt_*.c). They are as those of
`packet_matches`."""

from __future__ import annotations

import struct
import time

from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.xtables.packet_matches import Save
from hybridbridge_vol.xtables.words import masked, names, option, span, string, u16s, u32s, words

_STATES = (
    (1, "INVALID"), (8, "NEW"), (4, "RELATED"), (2, "ESTABLISHED"), (256, "UNTRACKED"), (64, "SNAT"), (128,
    "DNAT"),
)  # fmt: skip
_STATUS = ((1, "EXPECTED"), (2, "SEEN_REPLY"), (4, "ASSURED"), (8, "CONFIRMED"))
_RATES = ((86400, "day"), (3600, "hour"), (60, "min"), (1, "sec"))
_SCALE, _SCALE_64 = 10_000, 1_000_000
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WHOLE_DAY = 86399


def _conntrack(data: bytes) -> str:
    low, high = u32s(data, 2, 128)
    (protocol,) = u16s(data, 1, 136)
    flags, inverted, state, status = u16s(data, 4, 146)
    parts = []
    if flags & 1:
        parts.append(option("state" if flags & 0x2000 else "ctstate", names(state, _STATES), inverted & 1))
    if flags & 2:
        parts.append(option("ctproto", str(protocol), inverted & 2))
    for bit, at, name in (
        (4, 0, "ctorigsrc"),
        (8, 32, "ctorigdst"),
        (16, 64, "ctreplsrc"),
        (32, 96, "ctrepldst"),
    ):
        if flags & bit:
            parts.append(option(name, f"{address_text(data[at : at + 4])}", inverted & bit))
    if flags & 64:
        parts.append(option("ctstatus", names(status, _STATUS) or "NONE", inverted & 64))
    if flags & 128:
        parts.append(option("ctexpire", span(low, high), inverted & 128))
    if flags & 0x1000:
        parts.append(option("ctdir", "REPLY" if inverted & 0x1000 else "ORIGINAL"))
    for bit, at, name in (
        (256, 138, "ctorigsrcport"), (512, 140, "ctorigdstport"), (1024, 142, "ctreplsrcport"),
        (2048, 144, "ctrepldstport"),
    ):  # fmt: skip
        if flags & bit:
            (port,) = u16s(data, 1, at)
            parts.append(option(name, str(port), inverted & bit))
    return words(*parts)


def _state(data: bytes) -> str:
    (state,) = u32s(data, 1)
    return option("state", names(state, _STATES))


def rate_text(period: int, scale: int) -> str:
    """Units of `scale` in a second between two packets, as a rate."""
    best = (_RATES[0][0] * scale // max(period, 1), _RATES[0][1])
    for seconds, name in _RATES[1:]:
        whole = seconds * scale
        if period > whole or whole // max(period, 1) < whole % max(period, 1):
            break
        best = whole // max(period, 1), name
    return f"{best[0]}/{best[1]}"


def _limit(data: bytes) -> str:
    average, burst = u32s(data, 2)
    return words(
        option("limit", rate_text(average, _SCALE)), option("limit-burst", str(burst)) if burst != 5 else ""
    )


_MODES = ((4, "srcip"), (8, "srcport"), (1, "dstip"), (2, "dstport"))


def _hashlimit(data: bytes) -> str:
    average, burst = struct.unpack_from("<QQ", data, 256)
    mode, size, most, interval, expire, _spread = u32s(data, 6, 272)
    source, destination = data[296:298]
    by_bytes = mode & 16
    parts = [
        option(
            "hashlimit-above" if mode & 32 else "hashlimit-upto",
            rate_text(average, _SCALE_64) if not by_bytes else "",
        ),
        option("hashlimit-burst", str(burst)),
        option("hashlimit-mode", names(mode, _MODES)) if names(mode, _MODES) else "",
        option("hashlimit-name", string(data[:256])),
    ]
    parts += [option("hashlimit-htable-size", str(size))] * bool(size)
    parts += [option("hashlimit-htable-max", str(most))] * bool(most)
    parts += [option("hashlimit-htable-gcinterval", str(interval))] * (interval != 1000)
    parts += [option("hashlimit-htable-expire", str(expire))] * (expire not in (0, _expiry(average)))
    parts += [option("hashlimit-srcmask", str(source))] * (source not in (32, 128))
    parts += [option("hashlimit-dstmask", str(destination))] * (destination not in (32, 128))
    return words(*parts)


def _expiry(average: int) -> int:
    """Milliseconds that iptables chooses itself: those of the unit of the rate."""
    unit = rate_text(average, _SCALE_64).partition("/")[2]
    return 1000 * next(seconds for seconds, name in _RATES if name == unit)


def _mark(data: bytes) -> str:
    value, mask = u32s(data, 2)
    return option("mark", masked(value, mask), data[8])


def _recent(data: bytes) -> str:
    seconds, hits = u32s(data, 2)
    check, inverted = data[8:10]
    name, side, mask = data[10:210], data[210], data[212:228]
    what = next(
        (word for bit, word in ((2, "set"), (1, "rcheck"), (4, "update"), (8, "remove")) if check & bit), ""
    )
    full = not mask or mask[:4] == b"\xff" * 4
    return words(
        option(what, "", inverted), option("seconds", str(seconds)) if seconds else "",
        "--reap" if check & 32 else "", option("hitcount", str(hits)) if hits else "",
        "--rttl" if check & 16 else "", option("name", string(name)),
        option("mask", "255.255.255.255" if full else address_text(mask[:4])) if mask else "",
        "--rdest" if side else "--rsource",
    )  # fmt: skip


def _connlimit(data: bytes) -> str:
    limit, flags = u32s(data, 2, 16)
    bits = sum(byte.bit_count() for byte in data[: 4 if not any(data[4:16]) else 16])
    name = "connlimit-upto" if flags & 1 else "connlimit-above"
    side = "--connlimit-daddr" if flags & 2 else "--connlimit-saddr"
    return words(option(name, str(limit)), option("connlimit-mask", str(bits)), side)


def _statistic(data: bytes) -> str:
    mode, flags = u16s(data, 2)
    every, packet = u32s(data, 2, 4)
    if mode == 0:
        return words("--mode random", option("probability", f"{every / 0x80000000:.11f}", flags & 1))
    return words("--mode nth", option("every", str(every + 1), flags & 1), option("packet", str(packet)))


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _time(data: bytes) -> str:
    begin, end, start, stop, days = u32s(data, 5)
    week, flags = data[20:22]
    parts = []
    if start or stop != _WHOLE_DAY:
        parts += [option("timestart", _clock(start)), option("timestop", _clock(stop))]
    if days != 0xFFFFFFFE:
        parts.append(option("monthdays", ",".join(str(day) for day in range(1, 32) if days >> day & 1)))
    if week != 0xFE:
        parts.append(option("weekdays", ",".join(_DAYS[day - 1] for day in range(1, 8) if week >> day & 1)))
    parts += [option("datestart", _date(begin))] * bool(begin) + [option("datestop", _date(end))] * bool(end)
    return words(*parts, "--kerneltz" if flags & 1 else "", "--contiguous" if flags & 2 else "")


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


_POLICY_SIZE = 76
_POLICY_PROTOCOLS = {50: "esp", 51: "ah", 108: "ipcomp"}


def _policy(data: bytes) -> str:
    flags, count = u16s(data, 2, 4 * _POLICY_SIZE)
    parts = [
        option("dir", "in" if flags & 1 else "out"), option("pol", "none" if flags & 4 else "ipsec"),
        "--strict" if flags & 8 else "",
    ]  # fmt: skip
    for index in range(min(count, 4)):
        at = index * _POLICY_SIZE
        spi, reqid = u32s(data, 2, at + 64)
        protocol, mode, match, inverted = data[at + 72 : at + 76]
        parts += [
            "--next" if index else "", option("reqid", str(reqid), inverted & 32) if match & 32 else "",
            option("spi", f"{spi:#x}", inverted & 16) if match & 16 else "",
            option("proto", _POLICY_PROTOCOLS.get(protocol, str(protocol)),
            inverted & 4) if match & 4 else "",
            option("mode", {0: "transport", 1: "tunnel"}.get(mode, str(mode)),
            inverted & 8) if match & 8 else "",
            option("tunnel-dst", address_text(data[at + 32 : at + 36]), inverted & 2) if match & 2 else "",
            option("tunnel-src", address_text(data[at : at + 4]), inverted & 1) if match & 1 else "",
        ]  # fmt: skip
    return words(*parts)


def _quota(data: bytes) -> str:
    (flags,) = u32s(data, 1)
    return option("quota", str(struct.unpack_from("<Q", data, 8)[0]), flags & 1)


def _helper(data: bytes) -> str:
    return option("helper", string(data[4:34]), u32s(data, 1)[0])


def _owner(data: bytes) -> str:
    uid, uid_end, gid, gid_end = u32s(data, 4)
    match, inverted = data[16:18]

    def ids(low: int, high: int) -> str:
        return str(low) if low == high else f"{low}-{high}"

    return words(
        option("socket-exists", "", inverted & 4) if match & 4 else "",
        option("uid-owner", ids(uid, uid_end), inverted & 1) if match & 1 else "",
        option("gid-owner", ids(gid, gid_end), inverted & 2) if match & 2 else "",
    )


def _rpfilter(data: bytes) -> str:
    return names(data[0], ((1, "--loose"), (2, "--validmark"), (4, "--accept-local"), (8, "--invert")), " ")


def _socket(data: bytes) -> str:
    flags = data[0] if data else 0
    return names(flags, ((1, "--transparent"), (2, "--nowildcard"), (4, "--restore-skmark")), " ")


STATE_MATCHES: dict[str, Save] = {
    "conntrack": _conntrack, "state": _state, "limit": _limit, "hashlimit": _hashlimit, "mark": _mark,
    "connmark": _mark, "recent": _recent, "connlimit": _connlimit, "statistic": _statistic,
    "time": _time, "quota": _quota, "helper": _helper, "owner": _owner, "policy": _policy,
    "rpfilter": _rpfilter, "socket": _socket,
}  # fmt: skip
