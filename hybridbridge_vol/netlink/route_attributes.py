"""The attributes of routes, next hops, rules, addresses and neighbours (include/uapi/linux/rtnetlink.h,
fib_rules.h, if_addr.h, neighbour.h, lwtunnel.h, mpls_iptunnel.h, seg6_iptunnel.h; Linux 7.2)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from hybridbridge_vol.netlink.attribute_text import (
    Attributes,
    Form,
    Names,
    Pairs,
    Schema,
    nested,
    one_of,
)
from hybridbridge_vol.netlink.ip_names import PROTOCOLS
from hybridbridge_vol.netlink.messages import attribute_list
from hybridbridge_vol.procfs.net import address_text
from hybridbridge_vol.procfs.pid import text

_METRICS = (
    "", "lock", "mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit",
    "initcwnd", "features", "rto_min", "initrwnd", "quickack", "congctl", "fastopen_no_cookie",
)  # fmt: skip
"""RTAX_*, by the names that ip gives them."""
_RTT, _RTTVAR, _FEATURES, _RTO_MIN, _CONGESTION = 4, 5, 12, 13, 16
_FEATURE_NAMES = ("ecn", "sack", "timestamp", "allfrag", "tcp_usec_ts")


def _metric(number: int, data: bytes) -> str:
    """One metric's value. Times are kept in parts of a millisecond."""
    if number == _CONGESTION:
        return text(data.split(b"\0")[0])
    value = int.from_bytes(data, "little")
    if number in (_RTT, _RTTVAR):
        value //= 8 if number == _RTT else 4
    if number in (_RTT, _RTTVAR, _RTO_MIN):
        return f"{value}ms"
    if number == _FEATURES:
        known = [name for bit, name in enumerate(_FEATURE_NAMES) if value >> bit & 1]
        more = value >> len(_FEATURE_NAMES) << len(_FEATURE_NAMES)
        return " ".join([*known, *([hex(more)] if more else [])])
    return str(value)


def metrics(data: bytes, _names: Names) -> str:
    """RTA_METRICS: `mtu lock 1400 advmss 1360`."""
    found = list(attribute_list(data))
    locked = next((int.from_bytes(value, "little") for number, value in found if number == 1), 0)
    shown = []
    for number, value in found:
        if number == 1:
            locked_only = locked & ~sum(1 << other for other, _value in found)
            shown += [f"lock {_METRICS[bit]}" for bit in range(2, len(_METRICS)) if locked_only >> bit & 1]
            continue
        name = _METRICS[number] if 0 < number < len(_METRICS) else f"metric {number}"
        shown.append(f"{name} {'lock ' if locked >> number & 1 else ''}{_metric(number, value)}")
    return " ".join(shown)


def _realms(data: bytes, _names: Names) -> str:
    number = int.from_bytes(data, "little")
    return f"{number >> 16}/{number & 0xFFFF}" if number >> 16 else str(number)


def _labels(data: bytes, _names: Names) -> str:
    """A stack of MPLS labels, 20 bits each, up to the bottom of the stack."""
    found = []
    for (entry,) in struct.iter_unpack(">I", data[: len(data) // 4 * 4]):
        found.append(str(entry >> 12))
        if entry >> 8 & 1:
            break
    return "/".join(found)


def _segments(data: bytes, _names: Names) -> str:
    """struct seg6_iptunnel_encap: a mode, and a header with the segments, the last one first."""
    mode, last = struct.unpack_from("<i4xB", data)
    names = ("inline", "encap", "l2encap", "encap.red", "l2encap.red")
    segments = [address_text(data[at : at + 16]) for at in range(12, 12 + 16 * (last + 1), 16)]
    return f"mode {names[mode] if 0 <= mode < len(names) else mode} segs {','.join(reversed(segments))}"


_IP = Schema("id:be dst:ip src:ip ttl tos:x flags:raw - opts:raw")
_IP6 = Schema("id:be dst:ip src:ip hoplimit tc:x flags:raw - opts:raw")
_ENCAPSULATIONS: Mapping[int, tuple[str, Schema]] = {
    1: ("mpls", Schema("dst:labels ttl", {"labels": _labels})),
    2: ("ip", _IP),
    3: ("ila", Schema("locator:raw - csum-mode ident-type hook-type")),
    4: ("ip6", _IP6),
    5: ("seg6", Schema("segments:seg", {"seg": _segments})),
    6: ("bpf", Schema("in:raw out:raw xmit:raw headroom")),
    7: ("seg6local", Schema(
        "action srh:raw table nh4:ip nh6:ip iif:if oif:if bpf:raw vrftable counters:raw flavors:raw"
    )),
    8: ("rpl", Schema("srh:raw")),
    9: ("ioam6", Schema("freq:raw mode tundst:ip trace:raw tunsrc:ip")),
    10: ("xfrm", Schema("if_id:x link_dev:if")),
}  # fmt: skip
"""LWTUNNEL_ENCAP_*: what ip calls it, and its attributes."""
_ENCAP_TYPE, _ENCAP = 21, 22

ROUTE = Schema(
    "dst:ip src:ip iif:if oif:if gateway:ip metric prefsrc:ip metrics:metrics multipath:raw protoinfo:raw "
    "realm:realms cacheinfo:raw session:raw mp_algo:raw table mark:x mfc_stats:raw via:raw newdst:labels "
    "pref encap_type encap:raw expires - uid ttl-propagate:b ipproto sport:be dport:be nhid flowlabel:x",
    {"metrics": metrics, "realms": _realms, "labels": _labels},
)


def route_pairs(found: Attributes, names: Names) -> Pairs:
    """The attributes of a route or a next hop, its encapsulation under the name of its kind."""
    pairs = ROUTE.pairs([item for item in found if item[0] not in (_ENCAP_TYPE, _ENCAP)], names)
    numbers = dict(found)
    if _ENCAP_TYPE not in numbers:
        return pairs + ROUTE.pairs([item for item in found if item[0] == _ENCAP], names)
    kind = int.from_bytes(numbers[_ENCAP_TYPE], "little")
    name, schema = _ENCAPSULATIONS.get(kind, (f"encap {kind}", Schema("")))
    inner = schema.pairs(attribute_list(numbers.get(_ENCAP, b"")), names)
    return [*pairs, ("encap", " ".join([name, *(f"{key} {value}" for key, value in inner)]))]


_RANGE_FORMS: dict[str, Form] = {
    "users": lambda data, _names: "-".join(map(str, struct.unpack("<II", data[:8]))),
    "range": lambda data, _names: _range(*struct.unpack("<HH", data[:4])),
    "realms": _realms,
    "proto": lambda data, _names: PROTOCOLS.get(data[0], str(data[0])),
}


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


RULE = Schema(
    "dst:ip src:ip iif:s goto - priority - - - fwmark:x realms:realms tun_id:be suppress_ifgroup "
    "suppress_prefixlength table fwmask:x oif:s - l3mdev:f uidrange:users protocol:proto ipproto sport:range "
    "dport:range dscp flowlabel:x flowlabel_mask:x sport_mask:x dport_mask:x dscp_mask:x",
    _RANGE_FORMS,
)
ADDRESS = Schema(
    "address:ip local:ip label:s broadcast:ip anycast:ip cacheinfo:raw multicast:ip flags:x metric "
    "target_netnsid:d proto:proto",
    {"proto": one_of("unspec", "kernel_lo", "kernel_ra", "kernel_ll")},
)
_FDB = nested(Schema("activity_notify notify"))


def _cache(data: bytes, _names: Names) -> str:
    """struct nda_cacheinfo: how long ago it was used, confirmed and updated, in 1/100 s; references."""
    confirmed, used, updated, references = struct.unpack("<4I", data)
    return f"used {used // 100}/{confirmed // 100}/{updated // 100} ref {references}"


NEIGHBOUR = Schema(
    "dst:ip lladdr:mac cacheinfo:cache probes vlan port:be vni ifindex:if master:if link_netnsid:d src_vni "
    "protocol nhid fdb_ext_attrs:fdb flags_ext:x state_mask:x flags_mask:x",
    {"fdb": _FDB, "cache": _cache},
)
