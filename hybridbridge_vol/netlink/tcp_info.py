"""What TCP keeps of a connection (struct tcp_info, include/uapi/linux/tcp.h), and a socket's memory
(INET_DIAG_SKMEMINFO: enum SK_MEMINFO_*, include/uapi/linux/sock_diag.h).

The words are those of iproute2 6 (misc/ss.c: tcp_stats_print, print_skmeminfo).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

_LAYOUT = struct.Struct("<8B24I4Q6IQ3Q2I2Q6I")
_NAMES = [
    "state",
    "ca_state",
    "retransmits",
    "probes",
    "backoff",
    "options",
    "wscale",
    "flags",
    "rto",
    "ato",
    "snd_mss",
    "rcv_mss",
    "unacked",
    "sacked",
    "lost",
    "retrans",
    "fackets",
    "last_data_sent",
    "last_ack_sent",
    "last_data_recv",
    "last_ack_recv",
    "pmtu",
    "rcv_ssthresh",
    "rtt",
    "rttvar",
    "snd_ssthresh",
    "snd_cwnd",
    "advmss",
    "reordering",
    "rcv_rtt",
    "rcv_space",
    "total_retrans",
    "pacing_rate",
    "max_pacing_rate",
    "bytes_acked",
    "bytes_received",
    "segs_out",
    "segs_in",
    "notsent_bytes",
    "min_rtt",
    "data_segs_in",
    "data_segs_out",
    "delivery_rate",
    "busy_time",
    "rwnd_limited",
    "sndbuf_limited",
    "delivered",
    "delivered_ce",
    "bytes_sent",
    "bytes_retrans",
    "dsack_dups",
    "reord_seen",
    "rcv_ooopack",
    "snd_wnd",
    "rcv_wnd",
    "rehash",
]
_OPTIONS = ("ts", "sack", "", "ecn", "ecnseen", "fastopen")
"""TCPI_OPT_* by their bits; the third is that of window scaling."""
_WINDOW_SCALING = 4
_NO_RTO, _NO_THRESHOLD, _NO_RATE, _NO_RTT = 3_000_000, 0xFFFF, (1 << 64) - 1, (1 << 32) - 1
"""What stands for "not known"."""
_USUAL_REORDERING = 3
_LISTEN = 10
_MEMORY = ("r", "rb", "t", "tb", "f", "w", "o", "bl", "d")


def memory_words(data: bytes) -> str:
    """`r0,rb131072,…`: allocated for reading, the limit of that; for writing, the limit; forward; queued for
    writing; for options; in the backlog; dropped. ValueError if `data` is no INET_DIAG_SKMEMINFO."""
    if len(data) < 4 * (len(_MEMORY) - 1):
        raise ValueError("too short")
    numbers = struct.unpack_from(f"<{min(len(data) // 4, len(_MEMORY))}I", data)
    return ",".join(f"{name}{number}" for name, number in zip(_MEMORY, numbers, strict=False))


def tcp_words(data: bytes, congestion: str) -> str:
    """The words of `ss -i`, with numbers where that would shorten them. Older kernels give fewer fields:
    those that are absent count as 0. ValueError if `data` is no struct tcp_info."""
    if len(data) < 8:
        raise ValueError("too short")
    padded = data[: _LAYOUT.size].ljust(_LAYOUT.size, b"\0")
    info = dict(zip(_NAMES, _LAYOUT.unpack(padded), strict=True))
    words = [*_options(info, congestion), *_timing(info), *_counters(info), *_rates(info), *_losses(info)]
    return " ".join(words)


Info = Mapping[str, int]


def _named(info: Info, *names: str) -> Iterator[str]:
    """`shown:number` for each `shown=name` that is not 0."""
    for name in names:
        shown, _, field = name.partition("=")
        if info[field or shown]:
            yield f"{shown}:{info[field or shown]}"


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:g}"


def _options(info: Info, congestion: str) -> Iterator[str]:
    yield from (name for bit, name in enumerate(_OPTIONS) if name and info["options"] >> bit & 1)
    if congestion:
        yield congestion
    if info["options"] & _WINDOW_SCALING:
        yield f"wscale:{info['wscale'] & 15},{info['wscale'] >> 4}"


def _timing(info: Info) -> Iterator[str]:
    if info["rto"] not in (0, _NO_RTO):
        yield f"rto:{_milliseconds(info['rto'])}"
    yield from _named(info, "backoff")
    if info["rtt"]:
        yield f"rtt:{_milliseconds(info['rtt'])}/{_milliseconds(info['rttvar'])}"
    if info["ato"]:
        yield f"ato:{_milliseconds(info['ato'])}"


def _counters(info: Info) -> Iterator[str]:
    yield from _named(info, "mss=snd_mss", "pmtu", "rcvmss=rcv_mss", "advmss", "cwnd=snd_cwnd")
    if 0 < info["snd_ssthresh"] < _NO_THRESHOLD:
        yield f"ssthresh:{info['snd_ssthresh']}"
    yield from _named(
        info, "bytes_sent", "bytes_retrans", "bytes_acked", "bytes_received", "segs_out", "segs_in",
        "data_segs_out", "data_segs_in",
    )  # fmt: skip


def _rates(info: Info) -> Iterator[str]:
    if info["rtt"] and info["snd_mss"] and info["snd_cwnd"]:
        yield f"send {info['snd_cwnd'] * info['snd_mss'] * 8_000_000 / info['rtt']:.0f}bps"
    yield from _named(info, "lastsnd=last_data_sent", "lastrcv=last_data_recv", "lastack=last_ack_recv")
    if info["pacing_rate"] not in (0, _NO_RATE):
        most = info["max_pacing_rate"]
        limit = f"/{most * 8}bps" if most not in (0, _NO_RATE) else ""
        yield f"pacing_rate {info['pacing_rate'] * 8}bps{limit}"
    if info["delivery_rate"]:
        yield f"delivery_rate {info['delivery_rate'] * 8}bps"
    yield from _named(info, "delivered", "delivered_ce")
    if info["flags"] & 1:
        yield "app_limited"
    busy = info["busy_time"]
    if busy:
        yield f"busy:{busy // 1000}ms"
        for name in ("rwnd_limited", "sndbuf_limited"):
            if info[name]:
                yield f"{name}:{info[name] // 1000}ms({100 * info[name] / busy:.1f}%)"


def _losses(info: Info) -> Iterator[str]:
    yield from _named(info, "unacked")
    if info["retrans"] or info["total_retrans"]:
        yield f"retrans:{info['retrans']}/{info['total_retrans']}"
    yield from _named(info, "lost")
    if info["state"] != _LISTEN:  # there it is how many connections may wait
        yield from _named(info, "sacked")
    yield from _named(info, "dsack_dups", "fackets")
    if info["reordering"] != _USUAL_REORDERING:
        yield f"reordering:{info['reordering']}"
    yield from _named(info, "reord_seen")
    if info["rcv_rtt"]:
        yield f"rcv_rtt:{_milliseconds(info['rcv_rtt'])}"
    yield from _named(info, "rcv_space", "rcv_ssthresh", "notsent=notsent_bytes")
    if info["min_rtt"] not in (0, _NO_RTT):
        yield f"minrtt:{_milliseconds(info['min_rtt'])}"
    yield from _named(info, "rcv_ooopack", "snd_wnd", "rcv_wnd", "rehash")
