"""Where the headers of packets have which field, and nft's names for them (nftables 1.0.6, src/proto.c,
exthdr.c, tcpopt.c)."""

from __future__ import annotations

from typing import NamedTuple

from hybridbridge_vol.netlink.nftables.data_types import BY_NAME, DATE, HOST_INTEGER, INTEGER, TIME, DataType

LINK, NETWORK, TRANSPORT = range(3)
"""NFT_PAYLOAD_*: the layer whose header an offset counts from."""
BASES = ("ll", "nh", "th", "ih")


class Field(NamedTuple):
    """`start` and `size` in bits. `is_protocol`: it says which header follows."""

    name: str
    type: DataType
    start: int
    size: int
    is_protocol: bool = False


def _fields(words: str) -> tuple[Field, ...]:
    """`name:type:bits` of fields that follow one another; a name with `!` says what follows, `-` is not
    named, `@bits` goes on elsewhere."""
    found = []
    at = 0
    for word in words.split():
        if word.startswith("@"):
            at = int(word[1:])
            continue
        name, _, rest = word.partition(":")
        kind, _, bits = rest.rpartition(":")
        size = int(bits)
        if name != "-":
            found.append(Field(name.rstrip("!"), BY_NAME[kind or "integer"], at, size, name.endswith("!")))
        at += size
    return tuple(found)


_PORTS = "sport:inet_service:16 dport:inet_service:16"
HEADERS = {
    "ether": _fields("daddr:ether_addr:48 saddr:ether_addr:48 type!:ether_type:16"),
    "vlan": _fields("pcp:3 dei:1 id:12 type!:ether_type:16"),
    "arp": _fields(
        "htype:16 ptype:ether_type:16 hlen:8 plen:8 operation:arp_op:16 saddr_ether:ether_addr:48 "
        "saddr_ip:ipv4_addr:32 daddr_ether:ether_addr:48 daddr_ip:ipv4_addr:32"
    ),
    "ip": _fields(
        "version:4 hdrlength:4 dscp:dscp:6 ecn:ecn:2 length:16 id:16 frag-off:16 ttl:8 "
        "protocol!:inet_proto:8 "
        "checksum:16 saddr:ipv4_addr:32 daddr:ipv4_addr:32"
    ),
    "ip6": _fields(
        "version:4 dscp:dscp:6 ecn:ecn:2 flowlabel:20 length:16 nexthdr!:inet_proto:8 hoplimit:8 "
        "saddr:ipv6_addr:128 daddr:ipv6_addr:128"
    ),
    "tcp": _fields(
        f"{_PORTS} sequence:32 ackseq:32 doff:4 reserved:4 flags:tcp_flag:8 window:16 checksum:16 urgptr:16"
    ),
    "udp": _fields(f"{_PORTS} length:16 checksum:16"),
    "udplite": _fields(f"{_PORTS} csumcov:16 checksum:16"),
    "sctp": _fields(f"{_PORTS} vtag:32 checksum:32"),
    "dccp": _fields(f"{_PORTS} @67 type:dccp_pkttype:4"),
    "icmp": _fields(
        "type:icmp_type:8 code:icmp_code:8 checksum:16 id:16 sequence:16 @32 gateway:32 @48 mtu:16"
    ),
    "icmpv6": _fields(
        "type:icmpv6_type:8 code:icmpv6_code:8 checksum:16 id:16 sequence:16 @32 parameter-problem:32 @32 "
        "mtu:32 "
        "@32 max-delay:16"
    ),
    "igmp": _fields("type:igmp_type:8 mrt:8 checksum:16 group:ipv4_addr:32"),
    "ah": _fields("nexthdr!:inet_proto:8 hdrlength:8 reserved:16 spi:32 sequence:32"),
    "esp": _fields("spi:32 sequence:32"),
    "comp": _fields("nexthdr!:inet_proto:8 flags:bitmask:8 cpi:16"),
    "th": _fields(_PORTS),
}
OF_PROTOCOL = {
    1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 50: "esp", 51: "ah", 58: "icmpv6", 108: "comp",
    132: "sctp",
    136: "udplite",
}  # fmt: skip
OF_ETHER_TYPE = {0x800: "ip", 0x86DD: "ip6", 0x806: "arp", 0x8100: "vlan", 0x88A8: "vlan"}
_WRITTEN = {
    "saddr_ether": "saddr ether",
    "saddr_ip": "saddr ip",
    "daddr_ether": "daddr ether",
    "daddr_ip": "daddr ip",
}


def field_at(header: str, start: int, size: int) -> Field | None:
    """The field of just these bits."""
    return next((field for field in HEADERS[header] if (field.start, field.size) == (start, size)), None)


def fields_in(header: str, start: int, size: int) -> list[Field]:
    """Fields that fill these bits, one after the other; none if they do not."""
    found = []
    at = start
    while at < start + size:
        field = next(
            (each for each in HEADERS[header] if each.start == at and at + each.size <= start + size), None
        )
        if field is None:
            return []
        found.append(field)
        at += field.size
    return found


def field_text(header: str, field: Field) -> str:
    """`tcp dport`."""
    return f"{header} {_WRITTEN.get(field.name, field.name)}"


EXTENSION_HEADERS = {
    0: ("hbh", _fields("nexthdr:inet_proto:8 hdrlength:8")),
    43: ("rt", _fields("nexthdr:inet_proto:8 hdrlength:8 type:8 seg-left:8")),
    44: (
        "frag",
        _fields("nexthdr:inet_proto:8 reserved:8 frag-off:13 reserved2:2 more-fragments:1 id:32"),
    ),
    60: ("dst", _fields("nexthdr:inet_proto:8 hdrlength:8")),
    135: ("mh", _fields("nexthdr:inet_proto:8 hdrlength:8 type:mh_type:8 reserved:8 checksum:16")),
}
TCP_OPTIONS = {
    0: ("eol", _fields("kind:8")), 1: ("nop", _fields("kind:8")),
    2: ("maxseg", _fields("kind:8 length:8 size:16")), 3: ("window", _fields("kind:8 length:8 count:8")),
    4: ("sack-perm", _fields("kind:8 length:8")), 5: ("sack", _fields("kind:8 length:8 left:32 right:32")),
    8: ("timestamp", _fields("kind:8 length:8 tsval:32 tsecr:32")), 19: ("md5sig",
    _fields("kind:8 length:8")),
    30: ("mptcp", _fields("kind:8 length:8 subtype:4")), 34: ("fastopen", _fields("kind:8 length:8")),
}  # fmt: skip


_IP_OPTION = _fields("type:8 length:8 ptr:8 addr:32")
IP_OPTIONS = {
    7: ("rr", _IP_OPTION), 131: ("lsrr", _IP_OPTION), 137: ("ssrr", _IP_OPTION),
    148: ("ra", _fields("type:8 length:8 value:16")),
}  # fmt: skip
_CHUNK = "type:8 flags:8 length:16"
_INIT = "init-tag:32 a-rwnd:32 num-outbound-streams:16 num-inbound-streams:16 initial-tsn:32"
SCTP_CHUNKS = {
    number: (name, _fields(f"{_CHUNK} {fields}".rstrip()))
    for number, name, fields in (
        (0, "data", "tsn:32 stream:16 ssn:16 ppid:32"),
        (1, "init", _INIT),
        (2, "init-ack", _INIT),
        (3, "sack", "cum-tsn-ack:32 a-rwnd:32 num-gap-ack-blocks:16 num-dup-tsns:16"),
        (4, "heartbeat", ""), (5, "heartbeat-ack", ""), (6, "abort", ""), (7, "shutdown", "cum-tsn-ack:32"),
        (8, "shutdown-ack", ""), (9, "error", ""), (10, "cookie-echo", ""), (11, "cookie-ack", ""),
        (12, "ecne", "lowest-tsn:32"), (13, "cwr", "lowest-tsn:32"), (14, "shutdown-complete", ""),
        (128, "asconf-ack", "seqno:32"), (192, "forward-tsn", "new-cum-tsn:32"), (193, "asconf", "seqno:32"),
    )
}  # fmt: skip
_OPTIONS: tuple[tuple[str, dict[int, tuple[str, tuple[Field, ...]]]], ...] = (
    ("", EXTENSION_HEADERS), ("tcp option ", TCP_OPTIONS), ("ip option ", IP_OPTIONS),
    ("sctp chunk ", SCTP_CHUNKS), ("dccp option ", {}),
)  # fmt: skip
"""By NFT_EXTHDR_OP_* (src/exthdr.c, tcpopt.c, ipopt.c, sctp_chunk.c, dccpopt.c)."""


def _option(operation: int, kind: int) -> tuple[str, tuple[Field, ...]]:
    """What a header or option is written like, and its fields."""
    prefix, known = _OPTIONS[operation] if operation < len(_OPTIONS) else (f"op-{operation} ", {})
    name, fields = known.get(kind, (str(kind), ()))
    return prefix + name, fields


def extension_field(operation: int, kind: int, start: int, size: int) -> tuple[str, DataType]:
    """The name and type of a field of an extension header or option; by its numbers if it has no name."""
    header, fields = _option(operation, kind)
    found = next((field for field in fields if (field.start, field.size) == (start, size)), None)
    if found is not None:
        return f"{header} {found.name}", found.type
    return f"tcp option @{kind},{start},{size}" if operation == 1 else f"{header} @{start},{size}", INTEGER


def exists_text(operation: int, kind: int) -> str:
    """The header or option as a whole."""
    return _option(operation, kind)[0] if operation else f"exthdr {_option(operation, kind)[0]}"


META = {
    0: ("length", HOST_INTEGER), 1: ("protocol", BY_NAME["ether_type"]),
    2: ("priority", BY_NAME["classid"]), 3: ("mark", BY_NAME["mark"]), 4: ("iif", BY_NAME["iface_index"]),
    5: ("oif", BY_NAME["iface_index"]), 6: ("iifname", BY_NAME["ifname"]), 7: ("oifname", BY_NAME["ifname"]),
    8: ("iiftype", BY_NAME["iface_type"]), 9: ("oiftype", BY_NAME["iface_type"]), 10: ("skuid",
    BY_NAME["uid"]),
    11: ("skgid", BY_NAME["gid"]), 12: ("nftrace", HOST_INTEGER),
    13: ("rtclassid", BY_NAME["realm"]), 14: ("secmark", HOST_INTEGER),
    15: ("nfproto", BY_NAME["nf_proto"]), 16: ("l4proto", BY_NAME["inet_proto"]), 17: ("ibrname",
    BY_NAME["ifname"]),
    18: ("obrname", BY_NAME["ifname"]), 19: ("pkttype", BY_NAME["pkt_type"]),
    20: ("cpu", HOST_INTEGER), 21: ("iifgroup", BY_NAME["devgroup"]),
    22: ("oifgroup", BY_NAME["devgroup"]), 23: ("cgroup", HOST_INTEGER),
    24: ("random", INTEGER), 25: ("ipsec", BY_NAME["boolean"]), 26: ("iifkind", BY_NAME["ifname"]),
    27: ("oifkind", BY_NAME["ifname"]), 28: ("ibrpvid", HOST_INTEGER),
    29: ("ibrvproto", BY_NAME["ether_type"]), 30: ("time", DATE), 31: ("day", BY_NAME["day"]),
    32: ("hour", BY_NAME["hour"]), 33: ("sdif", BY_NAME["iface_index"]), 34: ("sdifname", BY_NAME["ifname"]),
    35: ("broute", HOST_INTEGER), 37: ("ibrhwaddr", BY_NAME["ether_addr"]),
}  # fmt: skip
"""NFT_META_*."""
UNQUALIFIED = {4, 5, 6, 7, 21, 22}
"""Keys that are written without `meta`."""
CT = {
    0: ("state", BY_NAME["ct_state"]), 1: ("direction", BY_NAME["ct_dir"]), 2: ("status",
    BY_NAME["ct_status"]),
    3: ("mark", BY_NAME["mark"]), 4: ("secmark", HOST_INTEGER), 5: ("expiration", TIME),
    6: ("helper", BY_NAME["string"]), 7: ("l3proto", BY_NAME["nf_proto"]), 8: ("saddr", BY_NAME["invalid"]),
    9: ("daddr", BY_NAME["invalid"]), 10: ("protocol", BY_NAME["inet_proto"]),
    11: ("proto-src", BY_NAME["inet_service"]), 12: ("proto-dst", BY_NAME["inet_service"]),
    13: ("label", BY_NAME["ct_label"]), 14: ("packets", HOST_INTEGER),
    15: ("bytes", HOST_INTEGER), 16: ("avgpkt", HOST_INTEGER),
    17: ("zone", HOST_INTEGER), 18: ("event", BY_NAME["ct_event"]),
    19: ("ip saddr", BY_NAME["ipv4_addr"]), 20: ("ip daddr", BY_NAME["ipv4_addr"]),
    21: ("ip6 saddr", BY_NAME["ipv6_addr"]), 22: ("ip6 daddr", BY_NAME["ipv6_addr"]),
    23: ("id", INTEGER),
}  # fmt: skip
"""NFT_CT_*."""
SOCKET = {
    0: ("transparent", HOST_INTEGER), 1: ("mark", BY_NAME["mark"]),
    2: ("wildcard", HOST_INTEGER), 3: ("cgroupv2", BY_NAME["cgroupsv2"]),
}  # fmt: skip
RT = {
    0: ("classid", BY_NAME["realm"]), 1: ("ip nexthop", BY_NAME["ipv4_addr"]),
    2: ("ip6 nexthop", BY_NAME["ipv6_addr"]), 3: ("mtu", HOST_INTEGER),
    4: ("ipsec", BY_NAME["boolean"]),
}  # fmt: skip
