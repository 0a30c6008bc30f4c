"""The `typeof` of a set: the expression whose type it has, as nft keeps it in the set's user data
(nftables 1.0.6, src/expression.c and payload.c, *_build_udata)."""

from __future__ import annotations

from hybridbridge_vol.netlink.nftables.headers import CT, HEADERS, META, SOCKET, UNQUALIFIED
from hybridbridge_vol.netlink.nftables.messages import user_data

_EXPRESSION, _DATA = 0, 1
_PAYLOAD, _META, _SOCKET, _CT, _CONCAT = 7, 9, 10, 12, 13
"""Of nft's enum expr_types."""
_HEADERS = (
    "", "ah", "esp", "comp", "icmp", "igmp", "udp", "udplite", "tcp", "dccp", "sctp", "th", "ip", "ip6",
    "icmpv6",
    "arp", "vlan", "ether",
)  # fmt: skip
"""By nft's enum proto_desc_id."""


_OTHERWISE = {
    "vlan": ("pcp", "cfi", "dei", "id", "type"),
    "arp": (
        "htype", "ptype", "hlen", "plen", "operation", "saddr ether", "daddr ether", "saddr ip", "daddr ip",
    ),
}  # fmt: skip
"""Headers whose fields nft counts in another order than they stand in."""


def _u32(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "little")


def typeof_text(data: bytes | None) -> str | None:
    """`ip saddr . tcp dport`; None if there is none, or one that is not known here."""
    if data is None:
        return None
    found = user_data(data)
    return _expression(_u32(found.get(_EXPRESSION)), found.get(_DATA, b""))


def _expression(kind: int, data: bytes) -> str | None:
    found = user_data(data)
    if kind == _CONCAT:
        parts = []
        for _number, nested in sorted(found.items()):
            inner = user_data(nested)
            parts.append(_expression(_u32(inner.get(0)), inner.get(1, b"")))
        return None if None in parts or not parts else " . ".join(part for part in parts if part)
    if kind == _PAYLOAD:
        return _payload(_u32(found.get(0)), _u32(found.get(1)))
    key = _u32(found.get(0))
    if kind == _META and key in META:
        return META[key][0] if key in UNQUALIFIED else f"meta {META[key][0]}"
    if kind == _CT and key in CT:
        return f"ct {CT[key][0]}"
    return f"socket {SOCKET[key][0]}" if kind == _SOCKET and key in SOCKET else None


def _payload(header: int, field: int) -> str | None:
    """nft counts the fields of a header from 1; those of the headers that are named here follow one another
    as they do there."""
    name = _HEADERS[header] if header < len(_HEADERS) else ""
    fields = _OTHERWISE.get(name) or tuple(each.name for each in HEADERS.get(name, ()))
    return f"{name} {fields[field - 1]}" if 0 < field <= len(fields) else None
