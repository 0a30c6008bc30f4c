"""What a stored kernel was built with, as far as answers depend on it: read from its symbols and its modules.

A part that a kernel lacks cannot be asked for by its own code; `Feature.without` says what an examiner will
miss.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hybridbridge_vol.kernel_file.built_in import is_built_in
from hybridbridge_vol.kernel_file.symbols import Symbols


@dataclass(frozen=True)
class Feature:
    """A part of Linux that is optional.

    It is built in if the kernel has one of `symbols` or the initcall of one of `modules`; else a file of one
    of `modules` among those stored brings it. `option` is its name in the kernel's configuration; `without`
    what does not work where the kernel lacks it.
    """

    name: str
    option: str
    without: str
    symbols: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


BUILT_IN, MODULE, ABSENT = "built in", "module", "absent"

# Each symbol is a function that has the same name from 5.10 to 7.3, in the file that the option compiles.
FEATURES = (
    Feature("modules", "MODULES", "lsmod has no list; no module can be hidden or hooked", ("modules",)),
    Feature(
        "type information",
        "DEBUG_INFO_BTF",
        "credentials, hooks, the search for hidden modules, and hb isf say that they need it",
        ("__start_BTF",),
    ),
    Feature("eBPF", "BPF_SYSCALL", "bpf: there can be no programs and maps", ("bpf_map_new_fd",)),
    Feature("function tracer", "FUNCTION_TRACER", "hooks: ftrace has none", ("register_ftrace_function",)),
    Feature("kprobes", "KPROBES", "hooks: there can be no kprobes", ("register_kprobe",)),
    Feature("uprobes", "UPROBES", "hooks: there can be no uprobes", ("uprobe_register", "uprobe_mmap")),
    Feature("trace buffer", "TRACING", "trace has nothing to read", ("tracing_init_dentry",)),
    Feature("perf events", "PERF_EVENTS", "hooks: there can be no perf events", ("perf_event_alloc",)),
    Feature("audit", "AUDITSYSCALL", "security: no rules of audit", ("audit_filter_inodes",)),
    Feature("security modules", "SECURITY", "security: no LSM's state", ("security_getprocattr",)),
    Feature("key rings", "KEYS", "keys: the kernel keeps none", ("key_task_permission",)),
    Feature("control groups", "CGROUPS", "containers are found by namespaces alone", ("cgroup_path_ns",)),
    Feature("namespaces", "PID_NS", "namespaces, --ns-of: there is one of processes", ("copy_pid_ns",)),
    Feature("page monitor", "PROC_PAGE_MONITOR", "maps --smaps: no /proc/PID/smaps", ("show_smap",)),
    Feature("I/O accounting", "TASK_IO_ACCOUNTING", "pidstat -d: no /proc/PID/io", ("do_io_accounting",)),
    Feature("block devices", "BLOCK", "iostat has no rows; no file systems of disks", ("submit_bio",)),
    Feature(
        "socket diagnosis of TCP",
        "INET_DIAG",
        "ss -i, -e, the queue of listening sockets",
        ("inet_diag_register",),
        ("inet_diag",),
    ),
    Feature(
        "socket diagnosis of unix sockets",
        "UNIX_DIAG",
        "netstat -x and ss -x rest on /proc/net/unix, whose names may look like lines",
        (),
        ("unix_diag",),
    ),
    Feature(
        "nftables", "NF_TABLES", "nft: there can be no rules", ("nft_register_chain_type",), ("nf_tables",)
    ),
    Feature(
        "iptables",
        "NETFILTER_XTABLES",
        "xtables: no rules of iptables",
        ("xt_register_table",),
        ("x_tables",),
    ),
    Feature(
        "connection tracking",
        "NF_CONNTRACK",
        "conntrack has no rows",
        ("nf_conntrack_in",),
        ("nf_conntrack",),
    ),
    Feature("traffic control", "NET_SCHED", "tc has no rows", ("qdisc_class_hash_init",)),
    Feature("WireGuard", "WIREGUARD", "wireguard: there can be no tunnels", (), ("wireguard",)),
    Feature("IPsec", "XFRM_USER", "xfrm cannot ask", ("xfrm_user_policy",), ("xfrm_user",)),
)


def place_of(feature: Feature, symbols: Symbols, module_files: Collection[str]) -> str:
    """Where a kernel with these symbols has a feature: `BUILT_IN`, `MODULE` (one of the modules whose files
    are stored) or `ABSENT`."""
    if any(name in symbols for name in feature.symbols):
        return BUILT_IN
    if any(is_built_in(symbols, module) for module in feature.modules):
        return BUILT_IN
    return MODULE if any(module in module_files for module in feature.modules) else ABSENT


def present(symbols: Symbols, module_files: Collection[str]) -> Iterator[str]:
    """The names of the features that a kernel has, in the order of `FEATURES`."""
    for feature in FEATURES:
        place = place_of(feature, symbols, module_files)
        if place != ABSENT:
            yield f"{feature.name} (module)" if place == MODULE else feature.name


def limits(symbols: Symbols, module_files: Collection[str]) -> Iterator[str]:
    """What will not work, or not as well, with this kernel and what was given of it; a line each."""
    for feature in FEATURES:
        if place_of(feature, symbols, module_files) == ABSENT:
            yield f"{feature.name} (CONFIG_{feature.option}): {feature.without}"
    if "modules" in symbols and not module_files:
        yield "no module's file is stored (hb trust add PACKAGE): code of the snapshot's modules is not run"
