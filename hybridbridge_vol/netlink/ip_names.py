"""What `ip` calls the numbers of rtnetlink (iproute2; the numbers are those of include/uapi/linux)."""

from __future__ import annotations

Flags = tuple[tuple[int, str], ...]

NO_CARRIER = "NO-CARRIER"
LINK_FLAGS: Flags = (
    (0x8, "LOOPBACK"), (0x2, "BROADCAST"), (0x10, "POINTOPOINT"), (0x1000, "MULTICAST"), (0x80, "NOARP"),
    (0x200, "ALLMULTI"), (0x100, "PROMISC"), (0x400, "MASTER"), (0x800, "SLAVE"), (0x4, "DEBUG"),
    (0x8000, "DYNAMIC"), (0x4000, "AUTOMEDIA"), (0x2000, "PORTSEL"), (0x20, "NOTRAILERS"), (0x1, "UP"),
    (0x10000, "LOWER_UP"), (0x20000, "DORMANT"), (0x40000, "ECHO"),
)  # fmt: skip
_COMMON_FLAGS: Flags = (
    (0x02, "nodad"), (0x04, "optimistic"), (0x08, "dadfailed"), (0x10, "home"), (0x20, "deprecated"),
    (0x40, "tentative"), (0x80, "dynamic"), (0x100, "mngtmpaddr"), (0x200, "noprefixroute"),
    (0x400, "autojoin"), (0x800, "stable-privacy"),
)  # fmt: skip
ADDRESS_FLAGS: tuple[Flags, Flags] = (
    ((0x01, "secondary"), *_COMMON_FLAGS),
    ((0x01, "temporary"), *_COMMON_FLAGS),
)
"""Of IPv4 and of IPv6, with IFA_F_PERMANENT turned round: what is not permanent is dynamic."""
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
HARDWARE = {
    1: "ether", 32: "infiniband", 280: "can", 512: "ppp", 519: "rawip", 768: "ipip", 769: "tunnel6",
    772: "loopback", 776: "sit", 778: "gre", 801: "ieee802.11", 803: "ieee802.11/radiotap", 823: "gre6",
    824: "netlink", 825: "6lowpan", 65534: "none",
}  # fmt: skip
NEIGHBOUR_STATES = {
    0x00: "NONE", 0x01: "INCOMPLETE", 0x02: "REACHABLE", 0x04: "STALE", 0x08: "DELAY", 0x10: "PROBE",
    0x20: "FAILED", 0x40: "NOARP", 0x80: "PERMANENT",
}  # fmt: skip
NEIGHBOUR_FLAGS: Flags = (
    (0x80, "router"), (0x08, "proxy"), (0x10, "extern_learn"), (0x20, "offload"), (0x02, "self"),
    (0x04, "master"), (0x01, "use"), (0x40, "sticky"),
)  # fmt: skip
ROUTE_TYPES = {
    0: "unspec", 1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole",
    7: "unreachable", 8: "prohibit", 9: "throw", 10: "nat", 11: "xresolve",
}  # fmt: skip
PROTOCOLS = {
    0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt",
    11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp", 17: "mrouted",
    18: "keepalived", 42: "babel", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
TABLES = {0: "unspec", 253: "default", 254: "main", 255: "local"}
ROUTE_FLAGS: Flags = (
    (0x01, "dead"), (0x04, "onlink"), (0x02, "pervasive"), (0x08, "offload"), (0x10, "linkdown"),
    (0x20, "unresolved"), (0x40, "trap"), (0x100, "notify"), (0x200, "cache"), (0x400, "equalize"),
    (0x800, "prefix"), (0x4000, "rt_offload"), (0x8000, "rt_trap"), (0x20000000, "rt_offload_failed"),
)  # fmt: skip
PREFERENCES = {0: "medium", 1: "high", 3: "low"}
ADDRESS_MODES = {0: "eui64", 1: "none", 2: "stable_secret", 3: "random"}
RULE_FLAGS: Flags = ((0x04, "unresolved"), (0x08, "iif detached"), (0x10, "oif detached"))
RULE_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}


def names_of(value: int, flags: Flags) -> list[str]:
    """The names of the bits that are set, in ip's order; those without a name as one number."""
    rest = value
    for bit, _name in flags:
        rest &= ~bit
    return [name for bit, name in flags if value & bit] + [hex(rest)] * (rest != 0)
