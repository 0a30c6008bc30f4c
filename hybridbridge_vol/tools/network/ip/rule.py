"""ip rule: the rules that say which routing table is looked into."""

from __future__ import annotations

from hybridbridge_vol.netlink.attribute_text import Pairs, joined
from hybridbridge_vol.netlink.ip_names import RULE_ACTIONS, RULE_FLAGS, TABLES, names_of
from hybridbridge_vol.netlink.route_attributes import RULE
from hybridbridge_vol.netlink.rtnetlink import RTM_GETRULE, Rule, parse_rule
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column
from hybridbridge_vol.tools.network.ip.view import FAMILIES, FAMILY, MORE, Rows, View, network

_LOOKUP, _GOTO = 1, 2
_FIB_RULE_INVERT = 2
_SHOWN_FLAGS = 0x1 | _FIB_RULE_INVERT
"""FIB_RULE_PERMANENT, which ip does not show, and what has a column (include/uapi/linux/fib_rules.h)."""
_FRA_L3MDEV = 19
_ALL_BITS = 0xFFFF_FFFF

RULE_COLUMNS = (
    Column("PRIORITY", "int", "rules are tried in this order"),
    FAMILY,
    Column("INVERT", "str", "not: it holds for packets that do not match"),
    Column("FROM", "str", "source, or all"),
    Column("TO", "str", "destination, or all"),
    Column("IIF", "str", "incoming interface"),
    Column("OIF", "str", "outgoing interface"),
    Column("FWMARK", "str", "mark of the packet, and behind / the bits of it that count"),
    Column("ACTION", "str", "lookup, blackhole, unreachable, prohibit, goto, nop"),
    Column("TABLE", "str", "table to look into; of goto: the priority to go on with"),
    MORE,
)


def rules(view: View) -> Rows:
    for rule, sources in view.answers(RTM_GETRULE, parse_rule):
        if isinstance(rule, Unavailable):
            yield rule, sources
            continue
        yield (
            {
                "PRIORITY": rule.priority,
                "FAMILY": FAMILIES.get(rule.family, str(rule.family)),
                "FROM": network(rule.source, rule.source_prefix, rule.family, "all"),
                "TO": network(rule.destination, rule.destination_prefix, rule.family, "all"),
                "IIF": rule.incoming,
                "OIF": rule.outgoing,
                "INVERT": "not" if rule.flags & _FIB_RULE_INVERT else None,
                "FWMARK": _mark(rule),
                "ACTION": RULE_ACTIONS.get(rule.action, str(rule.action)),
                "TABLE": _table(rule),
                "MORE": joined(_and(view, rule)) or None,
            },
            sources,
        )


def _mark(rule: Rule) -> str | None:
    if rule.mark is None and rule.mask is None:
        return None
    mark = f"{rule.mark or 0:#x}"
    return mark if rule.mask in (None, _ALL_BITS) else f"{mark}/{rule.mask:#x}"


def _table(rule: Rule) -> str | None:
    if rule.action == _GOTO:
        return str(rule.target)
    if rule.action != _LOOKUP:
        return None
    if (_FRA_L3MDEV, b"\x01") in rule.rest:
        return "[l3mdev-table]"
    return TABLES.get(rule.table, str(rule.table))


def _and(view: View, rule: Rule) -> Pairs:
    pairs = RULE.pairs(rule.rest, view.index_name)
    if rule.tos:
        pairs.insert(0, ("tos", f"{rule.tos:#x}"))
    return pairs + [("flags", name) for name in names_of(rule.flags & ~_SHOWN_FLAGS, RULE_FLAGS)]
