"""What a rule says of the headers that follow, and which comparisons nft leaves out when it lists it
(nftables 1.0.6, src/payload.c, payload_dependency_kill and its like)."""

from __future__ import annotations

from hybridbridge_vol.netlink.nftables import messages as nft
from hybridbridge_vol.netlink.nftables.headers import LINK, NETWORK, OF_ETHER_TYPE, OF_PROTOCOL, TRANSPORT
from hybridbridge_vol.netlink.nftables.values import Part, Value

_L4PROTO, _NFPROTO, _PROTOCOL, _IIFTYPE = 16, 15, 1, 8
"""NFT_META_*."""
_NETWORKS = {2: "ip", 10: "ip6", 3: "arp"}
"""By NFPROTO_*."""


class Dependencies:
    """`statements` are those of the rule so far; one that is left out becomes None. `headers` are the
    protocols that are known, by layer."""

    def __init__(self, family: int, statements: list[str | None]) -> None:
        self._family = family
        self._statements = statements
        self._known: dict[int, tuple[int, Part]] = {}
        self.headers: dict[int, str] = {LINK: "ether"}
        if family in (nft.IP, nft.IP6, nft.ARP):
            self.headers[NETWORK] = _NETWORKS[family]

    @property
    def network(self) -> str:
        """The protocol at the layer of the network, if it is known."""
        return self.headers.get(NETWORK, "")

    def learn(self, part: Part, content: bytes) -> None:
        """What a comparison says of the headers that follow."""
        value = int.from_bytes(content, "big")
        if part.origin == "meta" and part.key == _NFPROTO:
            self.headers[NETWORK] = _NETWORKS.get(value, "")
        elif (part.origin == "meta" and part.key == _PROTOCOL) or part.text in ("ether type", "vlan type"):
            header = OF_ETHER_TYPE.get(value, "")
            self.headers[LINK if header == "vlan" else NETWORK] = header
        elif (part.origin == "meta" and part.key == _L4PROTO) or part.text in ("ip protocol", "ip6 nexthdr"):
            self.headers[TRANSPORT] = OF_PROTOCOL.get(value, "")

    def note(self, part: Part, at: int) -> None:
        """A comparison that says which header follows may be left out."""
        if part.origin == "meta" and part.key == _IIFTYPE:
            self._known[LINK] = (at, part)
        elif part.origin == "meta" and part.key in (_NFPROTO, _PROTOCOL):
            self._known[NETWORK] = (at, part)
        elif part.text in ("ether type", "vlan type"):
            is_vlan = part.header == "ether" and self.headers.get(LINK) == "vlan"
            self._known[LINK if is_vlan else NETWORK] = (at, part)
        elif (part.origin == "meta" and part.key == _L4PROTO) or part.text in ("ip protocol", "ip6 nexthdr"):
            self._known[TRANSPORT] = (at, part)

    def used(self, value: Value) -> None:
        """A value is used: what it implies need not be said."""
        for part in value.parts:
            if part.origin == "payload" and part.header and part.header != "th":
                known = self._known.get(part.base)
                if known is not None and self._may_go(known[1], part):
                    self.drop(part.base)
                if part.header in ("icmp", "icmpv6"):
                    self.drop(NETWORK)
            elif part.origin == "ct" and " ip" in part.text or part.origin == "rt" and "nexthop" in part.text:
                self.drop(NETWORK)
            elif part.origin == "exthdr":
                self.drop(TRANSPORT if part.base == 1 else NETWORK)

    def _may_go(self, dependency: Part, part: Part) -> bool:
        own = {nft.IP: "ip protocol", nft.IP6: "ip6 nexthdr"}.get(self._family)
        if dependency.text in ("ip6 nexthdr", "ip protocol") and dependency.text != own:
            return False
        return not (part.base == LINK and part.header == "vlan" and dependency.key == _IIFTYPE)

    def drop(self, base: int) -> None:
        """Leave out the comparison that says which header is at a layer."""
        known = self._known.pop(base, None)
        if known is not None:
            self._statements[known[0]] = None
