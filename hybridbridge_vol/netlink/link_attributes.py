"""The attributes of links, and of each kind of link (include/uapi/linux/if_link.h, if_tunnel.h; Linux
7.2)."""

from __future__ import annotations

import struct

from hybridbridge_vol.netlink.attribute_text import Names, Schema, nested, one_of

_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
_VLAN_FLAGS = ("REORDER_HDR", "GVRP", "LOOSE_BINDING", "MVRP", "BRIDGE_BINDING")

_CIPHERS = {
    0x0080020001000001: "GCM-AES-128",
    0x0080C20001000001: "GCM-AES-128",
    0x0080C20001000002: "GCM-AES-256",
    0x0080C20001000003: "GCM-AES-XPN-128",
    0x0080C20001000004: "GCM-AES-XPN-256",
}
_BRIDGE_OPTIONS = (
    "no_linklocal_learn", "mcast_vlan_snooping", "mst_enabled", "mdb_offload_fail_notification",
    "fdb_local_vlan_0",
)  # fmt: skip


def _macvlan_mode(data: bytes, _names: Names) -> str:
    number = int.from_bytes(data, "little")
    return _MODES.get(number, str(number))


def _vlan_flags(data: bytes, _names: Names) -> str:
    """struct ifla_vlan_flags."""
    flags, _mask = struct.unpack_from("<II", data)
    known = [name for bit, name in enumerate(_VLAN_FLAGS) if flags >> bit & 1]
    more = flags >> len(_VLAN_FLAGS) << len(_VLAN_FLAGS)
    return ",".join([*known, *([hex(more)] if more else [])]) or "none"


def _bridge_id(data: bytes, names: Names) -> str:
    """struct ifla_bridge_id."""
    return f"{data[0]:02x}{data[1]:02x}." + ":".join(f"{byte:02x}" for byte in data[2:8])


def _bridge_options(data: bytes, _names: Names) -> str:
    """struct br_boolopt_multi: which options there are, and which are on."""
    values, mask = struct.unpack_from("<II", data)
    names = dict(enumerate(_BRIDGE_OPTIONS))
    bits = (bit for bit in range(32) if mask >> bit & 1)
    return " ".join(f"{names.get(bit, f'option-{bit}')} {values >> bit & 1}" for bit in bits)


def _cipher(data: bytes, _names: Names) -> str:
    """MACSEC_CIPHER_ID_* (include/uapi/linux/if_macsec.h); the first is also known by an older number."""
    number = int.from_bytes(data, "little")
    return _CIPHERS.get(number, hex(number))


def _key(data: bytes, _names: Names) -> str:
    return ".".join(map(str, data))


_DF = one_of("unset", "set", "inherit")
_ENCAPSULATION = one_of("none", "fou", "gue", "mpls")

LINK = Schema(
    "address:mac broadcast:mac ifname:s mtu link:if qdisc:s stats:raw cost:raw priority:raw master:if "
    "wireless:raw protinfo:raw txqlen map:raw weight operstate linkmode:linkmode linkinfo:raw net_ns_pid "
    "ifalias:s num_vf vfinfo_list:raw stats64:raw vf_ports:raw port_self:raw af_spec:raw group net_ns_fd "
    "ext_mask:x promiscuity num_tx_queues num_rx_queues carrier phys_port_id:mac carrier_changes "
    "phys_switch_id:mac link_netnsid:d phys_port_name:s proto_down:b gso_max_segs gso_max_size - xdp:xdp "
    "event new_netnsid:d target_netnsid:d carrier_up_count carrier_down_count new_ifindex min_mtu max_mtu "
    "prop_list:raw altname:s permaddr:mac proto_down_reason:down parentdev:s parentbus:s gro_max_size "
    "tso_max_size tso_max_segs allmulti devlink_port:raw gso_ipv4_max_size gro_ipv4_max_size dpll_pin:raw "
    "max_pacing_offload_horizon netns-immutable:b headroom tailroom",
    {
        "linkmode": one_of("DEFAULT", "DORMANT"),
        "xdp": nested(
            Schema("fd:d attached:at flags:x id drv_id skb_id hw_id", {
                "at": one_of("no", "driver", "generic", "hardware", "several"),
            })
        ),
        "down": nested(Schema("mask:x value:x")),
    },
)  # fmt: skip

_GRE = Schema(
    "link:if iflags:x oflags:x ikey:key okey:key local:ip remote:ip ttl tos:x pmtudisc:b encap_limit "
    "flowinfo:x flags:x encap_type:encap encap_flags:x encap_sport:be encap_dport:be external:f ignore_df:b "
    "fwmark:x erspan_index erspan_ver erspan_dir erspan_hwid:x",
    {"key": _key, "encap": _ENCAPSULATION},
)
_IPTUN_NAMES = (
    "link:if local:ip remote:ip ttl tos:x encap_limit flowinfo:x flags:x proto:proto pmtudisc:b prefix:ip "
    "relay_prefix:ip prefixlen relay_prefixlen encap_type:encap encap_flags:x encap_sport:be encap_dport:be "
    "external:f fwmark:x"
)


def _iptun(names: dict[int, str]) -> Schema:
    """Tunnels through IPv4 or IPv6, with the names of the protocols that they carry."""

    def protocol(data: bytes, _names: Names) -> str:
        return names.get(data[0], str(data[0]))

    return Schema(_IPTUN_NAMES, {"encap": _ENCAPSULATION, "proto": protocol})


_VTI = Schema("link:if ikey:key okey:key local:ip remote:ip fwmark:x", {"key": _key})
_MACVLAN = Schema(
    "mode:mode flags:x macaddr_mode macaddr:mac macaddr_data:raw macaddr_count bcqueuelen usedbcqueuelen "
    "bccutoff:d",
    {"mode": _macvlan_mode},
)
_IPVLAN = Schema("mode:mode flags:flags", {
    "mode": one_of("l2", "l3", "l3s"), "flags": one_of("bridge", "private", "vepa"),
})  # fmt: skip

KINDS = {
    "vlan": Schema("id flags:flags egress_qos:raw ingress_qos:raw protocol:eth", {"flags": _vlan_flags}),
    "vxlan": Schema(
        "id group:ip link:if local:ip ttl tos:x learning:b ageing limit port_range:ports proxy:b rsc:b "
        "l2miss:b l3miss:b port:be group6:ip local6:ip udp_csum:b udp_zero_csum6_tx:b udp_zero_csum6_rx:b "
        "remcsum_tx:b remcsum_rx:b gbp:f remcsum_nopartial:f external:b label:be gpe:f ttl_inherit:f df:df "
        "vnifilter:b localbypass:b label_policy reserved_bits:raw mc_route:b",
        {"df": _DF},
    ),
    "geneve": Schema(
        "id remote:ip ttl tos:x port:be external:f remote6:ip udp_csum:b udp_zero_csum6_tx:b "
        "udp_zero_csum6_rx:b label:be ttl_inherit:b df:df inner_proto_inherit:f port_range:ports gro_hint:b "
        "local:ip local6:ip",
        {"df": _DF},
    ),
    "bridge": Schema(
        "forward_delay hello_time max_age ageing_time stp_state priority vlan_filtering vlan_protocol:eth "
        "group_fwd_mask:x root_id:id bridge_id:id root_port root_path_cost topology_change "
        "topology_change_detected hello_timer:t tcn_timer:t topology_change_timer:t gc_timer:t "
        "group_addr:mac fdb_flush:f mcast_router mcast_snooping mcast_query_use_ifaddr mcast_querier "
        "mcast_hash_elasticity mcast_hash_max mcast_last_member_cnt mcast_startup_query_cnt "
        "mcast_last_member_intvl "
        "mcast_membership_intvl mcast_querier_intvl mcast_query_intvl mcast_query_response_intvl "
        "mcast_startup_query_intvl nf_call_iptables nf_call_ip6tables nf_call_arptables vlan_default_pvid - "
        "vlan_stats_enabled mcast_stats_enabled mcast_igmp_version mcast_mld_version vlan_stats_per_port "
        "boolopt:options mcast_querier_state:raw fdb_n_learned fdb_max_learned stp_mode",
        {"id": _bridge_id, "options": _bridge_options},
    ),
    "bond": Schema(
        "mode:mode active_slave:if miimon updelay downdelay use_carrier arp_interval arp_ip_target:raw "
        "arp_validate:validate arp_all_targets:all primary:if primary_reselect:reselect fail_over_mac:mac_of "
        "xmit_hash_policy:policy resend_igmp num_peer_notif all_slaves_active min_links lp_interval "
        "packets_per_slave ad_lacp_rate:rate ad_select:select ad_info:info ad_actor_sys_prio "
        "ad_user_port_key ad_actor_system:mac tlb_dynamic_lb peer_notify_delay ad_lacp_active:active "
        "arp_missed_max ns_ip6_target:raw coupled_control broadcast_neigh lacp_strict",
        {
            "mode": one_of(
                "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb",
                "balance-alb",
            ),
            "validate": one_of("none", "active", "backup", "all"),
            "all": one_of("any", "all"),
            "reselect": one_of("always", "better", "failure"),
            "mac_of": one_of("none", "active", "follow"),
            "policy": one_of("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"),
            "rate": one_of("slow", "fast"),
            "select": one_of("stable", "bandwidth", "count"),
            "active": one_of("off", "on"),
            "info": nested(Schema("aggregator num_ports actor_key partner_key partner_mac:mac")),
        },
    ),
    "macvlan": _MACVLAN,
    "macvtap": _MACVLAN,
    "ipvlan": _IPVLAN,
    "ipvtap": _IPVLAN,
    "vrf": Schema("table"),
    "xfrm": Schema("link:if if_id:x external:f"),
    "macsec": Schema(
        "sci:raw port:be icv_len cipher_suite:cipher window encoding_sa encrypt:b protect:b inc_sci:b es:b "
        "scb:b replay_protect:b validation:check - offload:offload",
        {
            "cipher": _cipher,
            "check": one_of("disabled", "check", "strict"),
            "offload": one_of("off", "phy", "mac"),
        },
    ),
    "tun": Schema(
        "user group type:type pi:b vnet_hdr:b persist:b multi_queue:b numqueues numdisabled",
        {"type": one_of("tun", "tap", first=1)},
    ),
    "bareudp": Schema("dstport:be ethertype:eth srcportmin multiproto:f"),
    "hsr": Schema(
        "slave1:if slave2:if multicast_spec supervision_addr:mac seq_nr version protocol interlink:if"
    ),
    "gtp": Schema("fd0 fd1 hsize role create_sockets restart_count local:ip local6:ip"),
    **dict.fromkeys(("gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan"), _GRE),
    **dict.fromkeys(("ipip", "sit"), _iptun({0: "any", 4: "ipip", 41: "ip6ip", 137: "mplsip"})),
    "ip6tnl": _iptun({0: "any", 4: "ipip6", 41: "ip6ip6"}),
    **dict.fromkeys(("vti", "vti6"), _VTI),
}  # fmt: skip
"""IFLA_INFO_DATA by IFLA_INFO_KIND."""
PORTS = {
    "bridge": Schema(
        "state:state priority cost hairpin:b guard:b root_block:b fastleave:b learning:b flood:b proxy_arp:b "
        "learning_sync:b proxy_arp_wifi:b root_id:id bridge_id:id designated_port designated_cost id:x no:x "
        "topology_change_ack config_pending message_age_timer:t forward_delay_timer:t hold_timer:t flush:f "
        "multicast_router - mcast_flood:b mcast_to_unicast:b vlan_tunnel:b bcast_flood:b group_fwd_mask:x "
        "neigh_suppress:b isolated:b backup_port:if mrp_ring_open:b mrp_in_open:b mcast_eht_hosts_limit "
        "mcast_eht_hosts_cnt locked:b mab:b mcast_n_groups mcast_max_groups neigh_vlan_suppress:b "
        "backup_nhid neigh_forward_grat:b",
        {
            "id": _bridge_id,
            "state": one_of("disabled", "listening", "learning", "forwarding", "blocking"),
        },
    ),
    "bond": Schema(
        "state:state mii_status:mii link_failure_count perm_hwaddr:mac queue_id ad_aggregator_id "
        "ad_actor_oper_port_state ad_partner_oper_port_state prio:d actor_port_prio "
        "ad_churn_actor_state ad_churn_partner_state",
        {
            "state": one_of("ACTIVE", "BACKUP"),
            "mii": one_of("UP", "GOING_DOWN", "DOWN", "GOING_BACK"),
        },
    ),
    "vrf": Schema("table"),
}
"""IFLA_INFO_SLAVE_DATA by IFLA_INFO_SLAVE_KIND."""
UNKNOWN = Schema("")
"""For the data of a kind that is not known: each attribute by its number."""
