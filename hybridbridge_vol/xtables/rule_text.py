"""A rule as `iptables-save -c` prints it (iptables 1.8.9, iptables/iptables.c, print_rule4)."""

from __future__ import annotations

import struct

from hybridbridge_vol.netlink.nftables.protocol_numbers import PROTOCOLS
from hybridbridge_vol.xtables import entries as xt
from hybridbridge_vol.xtables.entries import Entry, Part
from hybridbridge_vol.xtables.packet_matches import OLDER, PACKET_MATCHES
from hybridbridge_vol.xtables.state_matches import STATE_MATCHES
from hybridbridge_vol.xtables.targets import TARGETS
from hybridbridge_vol.xtables.words import words

MATCHES = PACKET_MATCHES | STATE_MATCHES
_NO_SENSE = (struct.error, ValueError, IndexError, KeyError)
_STATE_ALIAS = 0x2000
"""XT_CONNTRACK_STATE_ALIAS: written as the match `state`."""
_CONNTRACK_FLAGS_AT = 146


def rule_text(entry: Entry, family: int, names: dict[int, str]) -> str:
    """Without its counters and its chain; `names` are the chains by the offset to jump to."""
    parts = [
        _network("-s", entry.source, entry.source_mask, entry.inverted & xt.INVERTED_SOURCE),
        _network("-d", entry.destination, entry.destination_mask, entry.inverted & xt.INVERTED_DESTINATION),
        _plain("-i", entry.incoming, entry.inverted & xt.INVERTED_IN),
        _plain("-o", entry.outgoing, entry.inverted & xt.INVERTED_OUT),
    ]
    if entry.protocol:
        name = PROTOCOLS.get(entry.protocol, str(entry.protocol))
        parts.append(_plain("-p", name, entry.inverted & xt.INVERTED_PROTOCOL))
    if entry.flags & xt.FRAGMENT and family == xt.PF_INET:
        parts.append(f"{'! ' if entry.inverted & xt.INVERTED_FRAGMENT else ''}-f")
    parts += [match_text(match) for match in entry.matches]
    return words(*parts, target_text(entry, family, names))


def _plain(option: str, value: str, inverted: int) -> str:
    return f"{'! ' if inverted else ''}{option} {value}" if value else ""


def _network(option: str, address: bytes, mask: bytes, inverted: int) -> str:
    if not any(mask) and not any(address) and not inverted:
        return ""
    return _plain(option, xt.network_text(address, mask), inverted)


def unknown_text(part: Part) -> str:
    """A match or target that is not known here, or makes no sense."""
    return f"[revision {part.revision}: {part.data.hex()}]"


def match_text(match: Part) -> str:
    """`-m tcp --dport 22`."""
    name = match.name
    if name == "conntrack" and len(match.data) > _CONNTRACK_FLAGS_AT + 1:
        (flags,) = struct.unpack_from("<H", match.data, _CONNTRACK_FLAGS_AT)
        name = "state" if flags & _STATE_ALIAS else name
    save = OLDER.get((match.name, match.revision)) or MATCHES.get(match.name)
    try:
        options = unknown_text(match) if save is None else save(match.data)
    except _NO_SENSE:
        options = unknown_text(match)
    return words(f"-m {name}", options)


def target_text(entry: Entry, family: int, names: dict[int, str]) -> str:
    """`-j ACCEPT`, `-g CHAIN`, or nothing for a rule that only counts."""
    target = entry.target
    verdict = entry.verdict
    if verdict is not None:
        if verdict < 0:
            return f"-j {xt.VERDICTS.get(verdict, verdict)}"
        if verdict in names:
            return f"{'-g' if entry.flags & xt.GOTO else '-j'} {names[verdict]}"
        return "" if _falls_through(entry, verdict) else f"-j [offset {verdict}]"
    save = TARGETS.get(target.name)
    try:
        options = (
            unknown_text(target)
            if save is None
            else save(target.revision, target.data, family == xt.PF_INET6)
        )
    except _NO_SENSE:
        options = unknown_text(target)
    return words(f"-j {target.name}", options)


def _falls_through(entry: Entry, verdict: int) -> bool:
    """A rule without a target leads to the next one."""
    return entry.offset < verdict <= entry.offset + 0xFFFF
