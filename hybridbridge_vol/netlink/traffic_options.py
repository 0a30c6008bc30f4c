"""What disciplines, classes, filters and actions of each kind say of themselves
(include/uapi/linux/pkt_sched.h, pkt_cls.h, tc_act/*.h; Linux 5.10 to 7.2). What is not named here is shown
by its number."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hybridbridge_vol.netlink.attribute_text import Names, Pairs, Schema, joined
from hybridbridge_vol.netlink.discipline_forms import DISCIPLINE_FORMS
from hybridbridge_vol.netlink.messages import attribute_list, attributes
from hybridbridge_vol.netlink.traffic import statistics

_RATE = struct.Struct("<BBHhHI")
MOST_ACTIONS = 32
"""TCA_ACT_MAX_PRIO: a filter has no more actions."""
_ACTIONS = {
    -1: "continue", 0: "pass", 1: "reclassify", 2: "drop", 3: "pipe", 4: "stolen", 5: "queued", 6: "repeat",
    7: "redirect", 8: "trap",
}  # fmt: skip
"""TC_ACT_*."""
_MIRRED = {1: "egress redirect", 2: "egress mirror", 3: "ingress redirect", 4: "ingress mirror"}


def handle_text(handle: int) -> str:
    """`1:10`, in hexadecimal; `1:` without a minor number."""
    minor = handle & 0xFFFF
    return f"{handle >> 16:x}:{minor:x}" if minor else f"{handle >> 16:x}:"


def action_text(action: int) -> str:
    """What happens to a packet."""
    kind = action & 0x7FFFFFFF
    if action > 0 and kind >> 28 == 1:
        return f"jump {action & 0xFFFFFFF}"
    if action > 0 and kind >> 28 == 2:
        return f"goto chain {action & 0xFFFFFFF}"
    return _ACTIONS.get(action, str(action))


def _rate(data: bytes) -> int:
    """struct tc_ratespec: bytes a second."""
    return int(_RATE.unpack_from(data)[5])


def _htb_class(data: bytes, _names: Names) -> str:
    buffer, burst, quantum, level, priority = struct.unpack_from("<5I", data, 24)
    return (
        f"rate: {_rate(data)} ceil: {_rate(data[12:])} buffer-ticks: {buffer} cbuffer-ticks: {burst} "
        f"quantum: {quantum} level: {level} prio: {priority}"
    )


def _htb(data: bytes, _names: Names) -> str:
    version, r2q, default, debug, direct = struct.unpack_from("<5I", data)
    text = f"ver: {version >> 16}.{version & 0xFFFF} r2q: {r2q} default: {default:#x} debug: {debug}"
    return f"{text} direct_packets_stat: {direct}"


def _tbf(data: bytes, _names: Names) -> str:
    limit, buffer, mtu = struct.unpack_from("<III", data, 24)
    return (
        f"rate: {_rate(data)} peakrate: {_rate(data[12:])} limit: {limit} buffer-ticks: {buffer} mtu: {mtu}"
    )


def _police(data: bytes, _names: Names) -> str:
    index, action, limit, burst, mtu = struct.unpack_from("<IiIII", data)
    return (
        f"index: {index} exceed: {action_text(action)} rate: {_rate(data[20:])} peakrate: {_rate(data[32:])} "
        f"limit: {limit} burst-ticks: {burst} mtu: {mtu}"
    )


def _generic(data: bytes, _names: Names) -> str:
    """struct tc_gen, with which the parameters of most actions begin."""
    index, _capabilities, action, references, bound = struct.unpack_from("<IIiii", data)
    return f"{action_text(action)} index: {index} ref: {references} bind: {bound}"


def _mirred(data: bytes, names: Names) -> str:
    how, ifindex = struct.unpack_from("<iI", data, 20)
    return f"{_MIRRED.get(how, how)} to {names(ifindex)} {_generic(data, names)}"


def _result(data: bytes, _names: Names) -> str:
    return action_text(int.from_bytes(data[:4], "little", signed=True))


def _class(data: bytes, _names: Names) -> str:
    return handle_text(int.from_bytes(data, "little"))


def _selector(data: bytes, _names: Names) -> str:
    """struct tc_u32_sel: words of the packet, each with a mask."""
    count = data[2]
    keys = []
    for at in range(16, min(16 + 16 * count, len(data) - 15), 16):
        mask, value = struct.unpack_from(">II", data, at)
        offset, offset_mask = struct.unpack_from("<ii", data, at + 8)
        more = f" nexthdr+{offset}" if offset_mask else f" at {offset}"
        keys.append(f"match {value:08x}/{mask:08x}{more}")
    return ", ".join(keys)


def _chance(data: bytes, _names: Names) -> str:
    """struct tc_netem_reorder and tc_netem_corrupt."""
    chance, correlation = struct.unpack_from("<II", data)
    return f"{_share(chance)} {_share(correlation)}"


def _policing(data: bytes, names: Names) -> str:
    return "{" + joined(_ACTION_SCHEMAS["police"].pairs(attribute_list(data), names), ", ") + "}"


def _correlations(data: bytes, _names: Names) -> str:
    delay, loss, duplicate = struct.unpack_from("<III", data)
    return f"delay {_share(delay)} loss {_share(loss)} duplicate {_share(duplicate)}"


def _share(value: int) -> str:
    return f"{100 * value / 0xFFFFFFFF:g}%"


def actions_text(data: bytes, names: Names) -> str:
    """The actions of a filter, in their order, with what they have counted."""
    found = []
    for _order, one in list(attribute_list(data))[:MOST_ACTIONS]:
        parts = attributes(one)
        kind = parts.get(1, b"").split(b"\0")[0].decode("utf-8", "surrogateescape")
        schema = _ACTION_SCHEMAS.get(kind, _UNKNOWN)
        text = f"{kind} {joined(schema.pairs(attribute_list(parts.get(2, b'')), names), ' ')}"
        counted = statistics(parts.get(4))
        if counted is not None:
            text += f" (bytes {counted.bytes} packets {counted.packets} drops {counted.drops})"
        found.append(text)
    return "[" + "; ".join(found) + "]"


_FORMS = DISCIPLINE_FORMS | {
    "htbclass": _htb_class, "htb": _htb, "tbf": _tbf, "police": _police, "gen": _generic, "mirred": _mirred,
    "result": _result, "class": _class, "sel": _selector, "corr": _correlations, "chance": _chance,
    "policing": _policing, "act": actions_text,
}  # fmt: skip
_UNKNOWN = Schema("")
_ACTION_SCHEMAS = {
    "gact": Schema("- parms:gen prob:raw", _FORMS),
    "mirred": Schema("- parms:mirred", _FORMS),
    "skbedit": Schema("- parms:gen priority:x queue_mapping mark:x - ptype mask:x flags:x", _FORMS),
    "police": Schema(
        "parms:police - - avrate conform:result - rate64 peakrate64 - pktrate64 pktburst64", _FORMS
    ),
    "bpf": Schema("- parms:gen ops_len ops:raw fd name:s - tag:raw id", _FORMS),
    "vlan": Schema("- parms:gen push_id push_protocol:eth - push_prio", _FORMS),
    "connmark": Schema("- parms:gen", _FORMS), "csum": Schema("- parms:gen", _FORMS),
}  # fmt: skip
_SCHEMAS = {
    "htb": Schema("parms:htbclass init:htb - - direct_qlen rate64 ceil64 - offload:f", _FORMS),
    "tbf": Schema("parms:tbf - - rate64 prate64 burst pburst", _FORMS),
    "fq_codel": Schema(
        "target limit interval ecn flows quantum ce_threshold drop_batch memory_limit ce_selector ce_mask"
    ),
    "fq": Schema(
        "limit flow_limit quantum initial_quantum - - flow_max_rate buckets_log refill_delay orphan_mask "
        "low_rate_threshold ce_threshold timer_slack horizon horizon_drop priomap:priomap weights:weights "
        "offload_horizon",
        _FORMS,
    ),
    "codel": Schema("target limit interval ecn ce_threshold"),
    "cake": Schema(
        "- bandwidth diffserv:diffserv atm:cells flowmode:flows overhead:d rtt target autorate:b memlimit "
        "nat:b raw:f wash:b mpu ingress:b ack-filter:acks split_gso:b fwmark:x",
        _FORMS,
    ),
    "ets": Schema("bands strict quanta:each quantum priomap:each", _FORMS),
    "drr": Schema("quantum"), "qfq": Schema("weight maxpkt"),
    "pie": Schema("target limit tupdate alpha beta ecn bytemode dq_rate_estimator"),
    "fq_pie": Schema(
        "limit flows target tupdate alpha beta quantum memory_limit ecn_prob ecn bytemode dq_rate_estimator"
    ),
    "hhf": Schema("limit quantum hh_limit reset_timeout admit_bytes evict_timeout non_hh_weight"),
    "dualpi2": Schema(
        "limit memory_limit target tupdate alpha beta step_packets step_us min_qlen_step coupling "
        "drop_overload drop_early classic_protection ecn_mask:x split_gso -"
    ),
    "red": Schema("parms:early - max_p flags:x early_drop_block mark_block", _FORMS),
    "choke": Schema("parms:early - max_p", _FORMS), "sfb": Schema("parms:blue", _FORMS),
    "cbs": Schema("parms:credit", _FORMS), "etf": Schema("parms:earliest", _FORMS),
    "u32": Schema(
        "flowid:class ht:x link:x divisor sel:sel police:policing actions:act indev:s - mark:raw flags:x",
        _FORMS,
    ),
    "flower": Schema(
        "classid:class indev:s actions:act eth_dst:mac eth_dst_mask:mac eth_src:mac eth_src_mask:mac "
        "eth_type:eth "
        "ip_proto src_ip:ip src_ip_mask:ip dst_ip:ip dst_ip_mask:ip src_ip6:ip src_ip6_mask:ip dst_ip6:ip "
        "dst_ip6_mask:ip tcp_src_port:be tcp_dst_port:be udp_src_port:be udp_dst_port:be flags:x vlan_id "
        "vlan_prio "
        "vlan_ethtype:eth enc_key_id:be enc_src_ip:ip enc_src_ip_mask:ip enc_dst_ip:ip enc_dst_ip_mask:ip "
        "enc_src_ip6:ip enc_src_ip6_mask:ip enc_dst_ip6:ip enc_dst_ip6_mask:ip tcp_src_mask:be "
        "tcp_dst_mask:be "
        "udp_src_mask:be udp_dst_mask:be sctp_src_mask:be sctp_dst_mask:be sctp_src_port:be sctp_dst_port:be "
        "enc_src_port:be enc_src_port_mask:be enc_dst_port:be enc_dst_port_mask:be ip_flags:x "
        "ip_flags_mask:x icmp_code icmp_code_mask icmp_type icmp_type_mask icmp6_code icmp6_code_mask "
        "icmp6_type icmp6_type_mask arp_sip:ip arp_sip_mask:ip arp_tip:ip arp_tip_mask:ip arp_op arp_op_mask "
        "arp_sha:mac arp_sha_mask:mac arp_tha:mac arp_tha_mask:mac mpls_ttl mpls_bos mpls_tc mpls_label "
        "tcp_flags:be tcp_flags_mask:be ip_tos:x ip_tos_mask:x ip_ttl ip_ttl_mask cvlan_id cvlan_prio "
        "cvlan_ethtype:eth enc_tos:x enc_tos_mask:x enc_ttl enc_ttl_mask enc_opts:raw enc_opts_mask:raw "
        "in_hw_count src_port_min:be src_port_max:be dst_port_min:be dst_port_max:be ct_state:x "
        "ct_state_mask:x ct_zone ct_zone_mask ct_mark:x ct_mark_mask:x ct_label:raw ct_label_mask:raw "
        "mpls_opts:raw hash:x hash_mask:x num_of_vlans pppoe_sid:be ppp_proto:eth l2tpv3_sid:be l2_miss "
        "cfm:raw spi:be spi_mask:be enc_flags:x enc_flags_mask:x",
        _FORMS,
    ),
    "fw": Schema("classid:class police:policing indev:s actions:act mask:x", _FORMS),
    "matchall": Schema("classid:class actions:act flags:x -", _FORMS),
    "bpf": Schema(
        "actions:act police:policing classid:class ops_len ops:raw fd name:s flags:x flags_gen:x tag:raw id",
        _FORMS,
    ),
    "basic": Schema("classid:class ematches:raw actions:act police:policing", _FORMS),
    "cgroup": Schema("actions:act police:policing ematches:raw", _FORMS),
}  # fmt: skip
_NETEM = Schema(
    "correlation:corr delay_dist:raw reorder:chance corrupt:chance loss_model:raw rate:netemrate ecn "
    "rate64 - delay_ns:d jitter_ns:d slot:slot - seed",
    _FORMS,
)
_NETEM_SIZE = 24


def _netem(data: bytes, names: Names) -> Pairs:
    _latency, limit, loss, gap, duplicate, _jitter = struct.unpack_from("<6I", data)
    pairs = [("limit", str(limit)), ("loss", _share(loss)), ("duplicate", _share(duplicate))]
    return pairs + [("gap", str(gap))] * bool(gap) + _NETEM.pairs(attribute_list(data[_NETEM_SIZE:]), names)


def _prio(data: bytes, _names: Names) -> Pairs:
    (bands,) = struct.unpack_from("<i", data)
    return [("bands", str(bands)), ("priomap", " ".join(map(str, data[4:20])))]


def _fifo(data: bytes, _names: Names) -> Pairs:
    return [("limit", str(struct.unpack_from("<I", data)[0]))]


_HFSC = Schema("sc:curve ls:curve ul:curve", _FORMS)
_HFSC_DISCIPLINE_SIZE = 2
"""struct tc_hfsc_qopt; classes have attributes."""


def _hfsc(data: bytes, names: Names) -> Pairs:
    if len(data) == _HFSC_DISCIPLINE_SIZE:
        return [("default", f"{int.from_bytes(data, 'little'):#x}")]
    return _HFSC.pairs(attribute_list(data), names)


def _sfq(data: bytes, _names: Names) -> Pairs:
    """struct tc_sfq_qopt, with which tc_sfq_qopt_v1 begins."""
    quantum, perturb, limit, divisor, flows = struct.unpack_from("<IiIII", data)
    words = [("quantum", quantum), ("perturb", perturb), ("limit", limit), ("divisor", divisor)]
    if len(data) >= _SFQ_V1_SIZE:
        words += [("flows", flows), ("depth", struct.unpack_from("<I", data, 20)[0])]
    return [(name, str(value)) for name, value in words]


_SFQ_V1_SIZE = 28


def _multiq(data: bytes, _names: Names) -> Pairs:
    bands, most = struct.unpack_from("<HH", data)
    return [("bands", str(bands)), ("max_bands", str(most))]


_STRUCTURES: dict[str, Callable[[bytes, Names], Pairs]] = {
    "netem": _netem, "prio": _prio, "pfifo_fast": _prio, "pfifo": _fifo, "bfifo": _fifo, "skbprio": _fifo,
    "hfsc": _hfsc, "sfq": _sfq, "multiq": _multiq,
}  # fmt: skip


def options_text(kind: str, data: bytes, names: Names) -> str:
    """The options of a discipline, class or filter; hexadecimal where its kind is not known or it makes no
    sense."""
    if not data:
        return ""
    try:
        if kind in _STRUCTURES:
            return joined(_STRUCTURES[kind](data, names))
    except (struct.error, IndexError):
        return data.hex()
    return joined(_SCHEMAS.get(kind, _UNKNOWN).pairs(attribute_list(data), names))
