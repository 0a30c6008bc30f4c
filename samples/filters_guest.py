"""A guest with eBPF programs, packet filters, tracked connections, queueing disciplines and tunnels, and
what their own tools say of them."""

from __future__ import annotations

import stat

from samples.guest_files import GUEST, OBSERVER, Entry, Recipe
from samples.workload import ACTOR

_MODULES = (
    "dummy", "veth", "nf_tables", "nf_conntrack", "nf_conntrack_netlink", "nf_conntrack_ftp", "nf_nat_ftp",
    "nfnetlink_cttimeout", "nfnetlink_log", "nfnetlink_queue", "nft_compat", "nf_flow_table",
    "nf_flow_table_inet",
    "nf_flow_table_ipv4", "nf_flow_table_ipv6", "nf_log_syslog", "nf_log_ipv4", "nf_log_ipv6", "nft_counter",
    "nft_ct", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir", "nft_limit", "nft_log", "nft_quota",
    "nft_queue",
    "nft_numgen", "nft_hash", "nft_objref", "nft_connlimit", "nft_flow_offload", "nft_socket", "nft_tproxy",
    "nft_synproxy", "nfnetlink_osf", "nft_osf", "nft_fib", "nft_fib_inet", "nft_fib_ipv4", "nft_fib_ipv6",
    "nft_dup_ipv4",
    "nft_dup_netdev", "nft_fwd_netdev", "nft_reject", "nft_reject_inet", "nft_reject_ipv4", "nft_reject_ipv6",
    "nft_meta_bridge", "nft_xfrm", "nft_tunnel", "nf_tables_set",
    "ip_tables", "ip6_tables", "iptable_filter", "iptable_nat", "iptable_mangle", "iptable_raw",
    "iptable_security",
    "ip6table_filter", "ip6table_nat", "ip6table_mangle", "xt_conntrack", "xt_state",
    "xt_comment", "xt_multiport", "xt_limit", "xt_LOG", "xt_hashlimit", "xt_mark", "xt_iprange", "xt_mac",
    "xt_addrtype", "xt_recent", "xt_string", "ts_bm", "xt_length", "xt_hl", "xt_pkttype", "xt_connlimit",
    "xt_statistic", "xt_connmark", "xt_dscp", "xt_DSCP", "xt_time", "xt_u32", "xt_bpf", "xt_quota",
    "xt_helper", "xt_esp", "xt_policy", "ipt_rpfilter", "ipt_REJECT", "ip6t_REJECT", "xt_NFLOG", "xt_NFQUEUE",
    "xt_owner", "xt_sctp", "xt_nat", "xt_REDIRECT", "xt_MASQUERADE", "ipt_MASQUERADE", "xt_NETMAP",
    "xt_TCPMSS",
    "xt_CT", "xt_TPROXY", "xt_CLASSIFY", "xt_TRACE", "xt_HL", "ip6t_rt", "ip6t_frag", "xt_tcpudp",
    "sch_htb", "sch_fq_codel", "sch_netem", "sch_ingress", "sch_prio", "sch_tbf", "cls_u32", "cls_flower",
    "cls_fw",
    "cls_bpf", "cls_matchall", "act_mirred", "act_gact", "act_police", "act_skbedit", "act_pedit",
    "wireguard", "xfrm_user", "esp4", "esp6", "ah4", "xfrm4_tunnel", "authenc", "cbc", "echainiv", "seqiv",
    "gcm",
    "ghash_generic", "ctr", "hmac", "sha256_generic", "sha1_generic", "aes_generic", "crypto_null", "ccm",
    "ansi_cprng", "authencesn", "ecb",
)  # fmt: skip
_COMMANDS = (
    "uname -a",
    "bpftool -j -f prog show", "bpftool -j -f link show", "bpftool -j btf show",
    "bpftool -j net show", "bpftool -j cgroup tree /sys/fs/cgroup", "bpftool -j perf show",
    "bpftool -j -f map show",
    "nft list ruleset", "nft -j list ruleset", "iptables-legacy-save -c", "ip6tables-legacy-save -c",
    "tc -s -j -d qdisc show", "tc -s -j -d class show dev out0", "tc -s -j -d filter show dev out0",
    "tc -s -j -d filter show dev out1", "tc -s -j -d filter show dev out0 ingress",
    "tc -s -j -d filter show dev out0 egress",
    "wg show all dump", "ip -d -s xfrm state", "ip -d -s xfrm policy",
    "conntrack -L expect", "conntrack -L -f ipv6", "conntrack -L",
    "conntrack -L -o extended,id,timestamp,ktimestamp",
)  # fmt: skip
_ASK = "sh /srv/ask_filters.sh"
_PLAN = (
    *(f"command {line}" for line in (*_COMMANDS[:-3], _ASK, *_COMMANDS[-3:])),
    "last /proc/modules",
    "last /proc/net/nf_conntrack",
    "last /run/elsewhere.pid",
    "settle comm",
)


def recipe() -> Recipe:
    """The files of the guest."""
    texts = {f"srv/nft/{path.name}": path for path in sorted((GUEST / "nft").iterdir())}
    texts |= {
        f"srv/{name}": GUEST / name
        for name in ("elsewhere.nft", "ip.rules", "ip6.rules", "wg0.conf", "ask_filters.sh")
    }
    return Recipe(
        entries=(
            Entry("init", stat.S_IFREG | 0o755, (GUEST / "filters_init.sh").read_bytes()),
            Entry("srv/plan", stat.S_IFREG | 0o644, "".join(f"{line}\n" for line in _PLAN).encode()),
            Entry("etc/passwd", stat.S_IFREG | 0o644, b"root:x:0:0::/:/bin/sh\n"),
            *(Entry(name, stat.S_IFREG | 0o644, path.read_bytes()) for name, path in texts.items()),
            *(Entry(name, stat.S_IFDIR | 0o755) for name in ("proc", "sys", "dev", "run", "tmp")),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ),
        programs=(
            (OBSERVER, GUEST / "observer.c"),
            (ACTOR, GUEST / "actor.c"),
            ("usr/libexec/bpf_programs", GUEST / "bpf_programs.c"),
        ),
        packages=(
            "dash", "coreutils", "mount", "util-linux", "hostname", "kmod", "libc6", "sed", "iproute2",
            "nftables",
            "iptables", "conntrack", "bpftool", "wireguard-tools", "iputils-ping", "netbase",
        ),
        wanted=(
            "usr/bin/(dash|sh|cat|sleep|timeout|uname|mount|mkdir|mkfifo|chown|unshare|nsenter|hostname|kmod|sed|ping|wg|ip)",
            "usr/sbin/(insmod|ip|tc|nft|iptables-legacy.*|ip6tables-legacy.*|xtables-legacy.*|conntrack|bpftool)",
            "usr/lib/x86_64-linux-gnu/xtables/.*[.]so",
            "usr/lib/iptables/.*|usr/share/iproute2/.*|etc/iproute2/.*|etc/(protocols|services)",
        ),
        modules=_MODULES,
    )  # fmt: skip
