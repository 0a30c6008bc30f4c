"""What queueing disciplines have in structures and lists (include/uapi/linux/pkt_sched.h; 5.10 to 7.2)."""

from __future__ import annotations

import struct

from hybridbridge_vol.netlink.attribute_text import Form, Names, one_of
from hybridbridge_vol.netlink.messages import attribute_list


def _each(data: bytes, _names: Names) -> str:
    """The numbers of attributes that are one list."""
    return " ".join(str(int.from_bytes(one, "little")) for _number, one in attribute_list(data))


def _curve(data: bytes, _names: Names) -> str:
    """struct tc_service_curve: bytes a second, microseconds, bytes a second."""
    first, microseconds, second = struct.unpack_from("<III", data)
    return f"m1 {first} d {microseconds}us m2 {second}"


def _priority_map(data: bytes, _names: Names) -> str:
    """struct tc_prio_qopt."""
    return " ".join(map(str, data[4:20]))


def _weights(data: bytes, _names: Names) -> str:
    return " ".join(str(weight) for (weight,) in struct.iter_unpack("<i", data))


def _early(data: bytes, _names: Names) -> str:
    """struct tc_red_qopt and tc_choke_qopt."""
    limit, least, most = struct.unpack_from("<III", data)
    window, share, cell, flags = data[12:16]
    return (
        f"limit: {limit} min: {least} max: {most} Wlog: {window} Plog: {share} Scell_log: {cell} "
        f"flags: {flags:#x}"
    )


def _blue(data: bytes, _names: Names) -> str:
    """struct tc_sfb_qopt."""
    rehash, warmup, most, target, up, down, limit, rate, burst = struct.unpack_from("<9I", data)
    return (
        f"rehash: {rehash} warmup: {warmup} max: {most} target: {target} increment: {up} decrement: {down} "
        f"limit: {limit} penalty_rate: {rate} penalty_burst: {burst}"
    )


def _credit(data: bytes, _names: Names) -> str:
    """struct tc_cbs_qopt."""
    high, low, idle, send = struct.unpack_from("<4i", data, 4)
    return f"hicredit: {high} locredit: {low} idleslope: {idle} sendslope: {send} offload: {data[0]}"


def _earliest(data: bytes, _names: Names) -> str:
    """struct tc_etf_qopt."""
    delta, clock, flags = struct.unpack_from("<iiI", data)
    return f"clockid: {clock} delta: {delta} flags: {flags:#x}"


def _netem_rate(data: bytes, _names: Names) -> str:
    """struct tc_netem_rate: bytes a second."""
    rate, overhead, cell, cell_overhead = struct.unpack_from("<IiIi", data)
    more = f" packetoverhead {overhead} cellsize {cell} celloverhead {cell_overhead}"
    return str(rate) + more * any((overhead, cell, cell_overhead))


def _slot(data: bytes, _names: Names) -> str:
    """struct tc_netem_slot."""
    least, most, packets, size, distance, jitter = struct.unpack_from("<qqiiqq", data)
    return f"min {least} max {most} packets {packets} bytes {size} delay {distance} jitter {jitter}"


DISCIPLINE_FORMS: dict[str, Form] = {
    "each": _each, "curve": _curve, "priomap": _priority_map, "weights": _weights, "early": _early,
    "blue": _blue, "credit": _credit, "earliest": _earliest, "netemrate": _netem_rate, "slot": _slot,
    "diffserv": one_of("diffserv3", "diffserv4", "diffserv8", "besteffort", "precedence"),
    "flows": one_of(
        "flowblind", "srchost", "dsthost", "hosts", "flows", "dual-srchost", "dual-dsthost", "triple-isolate"
    ),
    "cells": one_of("noatm", "atm", "ptm"), "acks": one_of("no", "yes", "aggressive"),
}  # fmt: skip
"""By the names that schemas give them."""
