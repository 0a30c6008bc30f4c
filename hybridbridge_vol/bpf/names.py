"""What bpftool calls the numbers of bpf(2): types of programs, maps and links, and where programs are
attached (include/uapi/linux/bpf.h of Linux 7.2; the names are those of the constants)."""

from __future__ import annotations

import re
from collections.abc import Collection

PROGRAM_TYPES = (
    "unspec", "socket_filter", "kprobe", "sched_cls", "sched_act", "tracepoint", "xdp", "perf_event",
    "cgroup_skb", "cgroup_sock", "lwt_in", "lwt_out", "lwt_xmit", "sock_ops", "sk_skb", "cgroup_device",
    "sk_msg", "raw_tracepoint", "cgroup_sock_addr", "lwt_seg6local", "lirc_mode2", "sk_reuseport",
    "flow_dissector", "cgroup_sysctl", "raw_tracepoint_writable", "cgroup_sockopt", "tracing", "struct_ops",
    "ext", "lsm", "sk_lookup", "syscall", "netfilter",
)  # fmt: skip
MAP_TYPES = (
    "unspec", "hash", "array", "prog_array", "perf_event_array", "percpu_hash", "percpu_array", "stack_trace",
    "cgroup_array", "lru_hash", "lru_percpu_hash", "lpm_trie", "array_of_maps", "hash_of_maps", "devmap",
    "sockmap", "cpumap", "xskmap", "sockhash", "cgroup_storage", "reuseport_sockarray",
    "percpu_cgroup_storage", "queue", "stack", "sk_storage", "devmap_hash", "struct_ops", "ringbuf",
    "inode_storage", "task_storage", "bloom_filter", "user_ringbuf", "cgrp_storage", "arena", "insn_array",
)  # fmt: skip
LINK_TYPES = (
    "unspec", "raw_tracepoint", "tracing", "cgroup", "iter", "netns", "xdp", "perf_event", "kprobe_multi",
    "struct_ops", "netfilter", "tcx", "uprobe_multi", "netkit", "sockmap",
)  # fmt: skip
ATTACH_TYPES = (
    "cgroup_inet_ingress", "cgroup_inet_egress", "cgroup_inet_sock_create", "cgroup_sock_ops",
    "sk_skb_stream_parser", "sk_skb_stream_verdict", "cgroup_device", "sk_msg_verdict", "cgroup_inet4_bind",
    "cgroup_inet6_bind", "cgroup_inet4_connect", "cgroup_inet6_connect", "cgroup_inet4_post_bind",
    "cgroup_inet6_post_bind", "cgroup_udp4_sendmsg", "cgroup_udp6_sendmsg", "lirc_mode2", "flow_dissector",
    "cgroup_sysctl", "cgroup_udp4_recvmsg", "cgroup_udp6_recvmsg", "cgroup_getsockopt", "cgroup_setsockopt",
    "trace_raw_tp", "trace_fentry", "trace_fexit", "modify_return", "lsm_mac", "trace_iter",
    "cgroup_inet4_getpeername", "cgroup_inet6_getpeername", "cgroup_inet4_getsockname",
    "cgroup_inet6_getsockname", "xdp_devmap", "cgroup_inet_sock_release", "xdp_cpumap", "sk_lookup", "xdp",
    "sk_skb_verdict", "sk_reuseport_select", "sk_reuseport_select_or_migrate", "perf_event",
    "trace_kprobe_multi", "lsm_cgroup", "struct_ops", "netfilter", "tcx_ingress", "tcx_egress",
    "trace_uprobe_multi", "cgroup_unix_connect", "cgroup_unix_sendmsg", "cgroup_unix_recvmsg",
    "cgroup_unix_getpeername", "cgroup_unix_getsockname", "netkit_primary", "netkit_peer",
    "trace_kprobe_session", "trace_uprobe_session", "trace_fsession",
)  # fmt: skip
_CGROUP_WAYS = {
    "cgroup_skb": r"inet_(in|e)gress",
    "cgroup_sock": r"inet_sock_(create|release)|inet[46]_post_bind",
    "cgroup_sock_addr": r"(inet[46]|unix)_(bind|connect|get(peer|sock)name|sendmsg|recvmsg)"
    r"|udp[46]_(send|recv)msg",
    "sock_ops": r"sock_ops",
    "cgroup_device": r"device",
    "cgroup_sysctl": r"sysctl",
    "cgroup_sockopt": r"[gs]etsockopt",
}
"""By the type of a program the ways in which it is attached to control groups, behind `cgroup_`
(`attach_type_to_prog_type`, kernel/bpf/syscall.c)."""
_LSM_WAY = "lsm_cgroup"
EVENT_KINDS = ("raw_tracepoint", "tracepoint", "kprobe", "kretprobe", "uprobe", "uretprobe")
"""enum bpf_task_fd_type."""
PERF_EVENT_KINDS = ("unspec", "uprobe", "uretprobe", "kprobe", "kretprobe", "tracepoint", "event")
"""enum bpf_perf_event_type."""


def name_of(number: int, names: tuple[str, ...]) -> str:
    """Its name; the number where it has none here."""
    return names[number] if 0 <= number < len(names) else str(number)


def cgroup_ways(program_types: Collection[int]) -> list[int]:
    """The ways (enum bpf_attach_type) in which programs of these types are attached to control groups."""
    types = {name_of(number, PROGRAM_TYPES) for number in program_types}
    return [number for number, way in enumerate(ATTACH_TYPES) if _program_type(way) in types]


def _program_type(way: str) -> str | None:
    """Of the programs that are attached to a control group so; None for what is no such way."""
    if way == _LSM_WAY:
        return "lsm"
    tail = way.removeprefix("cgroup_")
    if tail == way:
        return None
    return next((name for name, pattern in _CGROUP_WAYS.items() if re.fullmatch(pattern, tail)), None)
