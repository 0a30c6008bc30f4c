"""struct bpf_prog_info, bpf_map_info, bpf_link_info and bpf_btf_info (include/uapi/linux/bpf.h, 5.10 to 7.2).

A structure grows at its end: an older kernel leaves what it does not know as zeros, which is what was stored
before it was asked.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.procfs.pid import text

PROG, MAP, LINK, BTF = "prog", "map", "link", "btf"
INFO_SIZES = {PROG: 232, MAP: 88, LINK: 64, BTF: 32}
"""Bytes of the structures that are asked for: what Linux 6.1 has, and no more than what is parsed here."""


def _name(data: bytes) -> str:
    return text(data.split(b"\0")[0])


class Program(NamedTuple):
    """struct bpf_prog_info. `load_ns` is nanoseconds since boot; `ksyms` are virtual addresses of its
    compiled functions."""

    id: int
    type: int
    tag: str
    jited_size: int
    xlated_size: int
    load_ns: int
    uid: int
    map_count: int
    name: str
    ifindex: int
    gpl: bool
    ksym_count: int
    btf_id: int
    run_time_ns: int
    run_count: int
    recursion_misses: int
    verified: int
    attach_btf_obj: int
    attach_btf_id: int


def parse_program(data: bytes) -> Program:
    """Raises struct.error if `data` is too short."""
    kind, number = struct.unpack_from("<II", data)
    jited, xlated = struct.unpack_from("<II", data, 16)
    (load_ns,) = struct.unpack_from("<Q", data, 40)
    uid, maps = struct.unpack_from("<II", data, 48)
    ifindex, gpl = struct.unpack_from("<II", data, 80)
    (ksyms,) = struct.unpack_from("<I", data, 104)
    (btf_id,) = struct.unpack_from("<I", data, 128)
    run_time, runs, misses = struct.unpack_from("<QQQ", data, 192)
    verified, attach_obj, attach_id = struct.unpack_from("<III", data, 216)
    return Program(
        number, kind, data[8:16].hex(), jited, xlated, load_ns, uid, maps, _name(data[64:80]), ifindex,
        bool(gpl & 1), ksyms, btf_id, run_time, runs, misses, verified, attach_obj, attach_id,
    )  # fmt: skip


class Map(NamedTuple):
    """struct bpf_map_info; sizes in bytes."""

    id: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    ifindex: int
    btf_id: int
    btf_key: int
    btf_value: int
    extra: int


def parse_map(data: bytes) -> Map:
    """Raises struct.error if `data` is too short."""
    kind, number, key, value, entries, flags = struct.unpack_from("<6I", data)
    (ifindex,) = struct.unpack_from("<I", data, 40)
    btf_id, btf_key, btf_value = struct.unpack_from("<III", data, 64)
    (extra,) = struct.unpack_from("<Q", data, 80)
    return Map(
        number, kind, key, value, entries, flags, _name(data[24:40]), ifindex, btf_id, btf_key, btf_value,
        extra,
    )  # fmt: skip


class Btf(NamedTuple):
    """struct bpf_btf_info; `size` in bytes."""

    id: int
    size: int
    is_kernel: bool


def parse_btf_info(data: bytes) -> Btf:
    """Raises struct.error if `data` is too short."""
    size, number = struct.unpack_from("<II", data, 8)
    return Btf(number, size, bool(struct.unpack_from("<I", data, 28)[0]))


LINK_RAW_TRACEPOINT, LINK_TRACING, LINK_CGROUP, LINK_ITER, LINK_NETNS, LINK_XDP, LINK_PERF_EVENT = range(1, 8)
LINK_KPROBE_MULTI, LINK_STRUCT_OPS, LINK_NETFILTER, LINK_TCX, LINK_UPROBE_MULTI = range(8, 13)
LINK_NETKIT, LINK_SOCKMAP = 13, 14
PERF_UPROBE, PERF_URETPROBE, PERF_KPROBE, PERF_KRETPROBE, PERF_TRACEPOINT, PERF_EVENT = range(1, 7)


class Link(NamedTuple):
    """struct bpf_link_info: what all have; `data` is all of it, for what its type adds."""

    id: int
    type: int
    program: int
    data: bytes


def parse_link(data: bytes) -> Link:
    """Raises struct.error if `data` is too short."""
    kind, number, program = struct.unpack_from("<III", data)
    return Link(number, kind, program, data)
