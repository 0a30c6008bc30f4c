"""What is remarkable of an eBPF program: helpers that write or interfere, and places that rootkits choose."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hybridbridge_vol.tools.ebpf.attached import Place

HELPERS = {
    "bpf_probe_write_user": "writes memory of processes",
    "bpf_override_return": "replaces what a function returns",
    "bpf_send_signal": "sends signals",
    "bpf_send_signal_thread": "sends signals",
    "bpf_copy_from_user": "reads memory of processes",
    "bpf_copy_from_user_task": "reads memory of processes",
    "bpf_sys_bpf": "makes bpf system calls",
    "bpf_sys_close": "closes descriptors",
    "bpf_set_retval": "replaces what a system call returns",
    "bpf_override_return_": "replaces what a function returns",
    "bpf_skb_store_bytes": "changes packets",
    "bpf_xdp_store_bytes": "changes packets",
    "bpf_clone_redirect": "copies packets elsewhere",
    "bpf_redirect": "sends packets elsewhere",
}
"""By the symbol of the helper (kernel/trace/bpf_trace.c, kernel/bpf/helpers.c, net/core/filter.c)."""
_HOOKS = (
    (re.compile(r"getdents|iterate_dir|filldir"), "sees listings of directories"),
    (re.compile(r"(sys_)?(bpf|exit_bpf|enter_bpf)\b|__sys_bpf"), "sees uses of bpf"),
    (re.compile(r"sys_\w*kill|do_send_sig"), "sees signals"),
    (re.compile(r"(tcp|udp|unix|raw)\w*_seq_show|inet_diag"), "sees listings of sockets"),
    (re.compile(r"sys_\w*(read|recv)\w*|vfs_read|tty_(read|write)|n_tty_"), "sees what is read"),
    (re.compile(r"commit_creds|prepare_creds|cap_capable"), "sees credentials"),
    (re.compile(r"kallsyms|/proc/kcore|module_(get|put)|do_init_module|find_module"), "sees modules"),
    (re.compile(r"pam_|SSL_(read|write)|readline"), "sees secrets of programs"),
)
"""Patterns of where a program is attached, and what it sees there."""
_HOWS = {
    "xdp": "sees packets before any filter",
    "tc ingress": "sees packets before netfilter",
    "tcx_ingress": "sees packets before netfilter",
}


def _plain(symbol: str) -> str:
    """A helper by its symbol: inlined and traced variants have endings of their own."""
    return symbol.partition("+")[0].removesuffix("_proto").removesuffix("_tracing")


def marks(called: Iterable[str], places: Iterable[Place], kept: bool) -> list[str]:
    """What is remarkable of a program that calls these helpers, is attached at these places, and is kept
    alive by a descriptor, a file or an attachment, or not as far as is known."""
    found = [
        f"{HELPERS[_plain(symbol)]} ({_plain(symbol)})" for symbol in called if _plain(symbol) in HELPERS
    ]
    for place in places:
        found += [f"{said} ({place})" for pattern, said in _HOOKS if pattern.search(place.where)]
        if place.how in _HOWS:
            found.append(f"{_HOWS[place.how]} ({place})")
    if not kept:
        found.append("nothing that is known keeps it")
    return list(dict.fromkeys(found))
