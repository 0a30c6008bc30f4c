"""ip rule: the rules that say which routing table is looked into."""

from __future__ import annotations

from hybridbridge_vol.netlink.ip_names import RULE_ACTIONS, TABLES
from hybridbridge_vol.netlink.rtnetlink import RTM_GETRULE, parse_rule
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column
from hybridbridge_vol.tools.network.ip.view import FAMILIES, FAMILY, Rows, View, network

RULE_COLUMNS = (
    Column("PRIORITY", "int", "rules are tried in this order"),
    FAMILY,
    Column("FROM", "str", "source, or all"),
    Column("TO", "str", "destination, or all"),
    Column("IIF", "str", "incoming interface"),
    Column("OIF", "str", "outgoing interface"),
    Column("FWMARK", "hex", "mark of the packet"),
    Column("ACTION", "str", "lookup, blackhole, unreachable, prohibit, goto, nop"),
    Column("TABLE", "str", "table to look into"),
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
                "FWMARK": rule.mark,
                "ACTION": RULE_ACTIONS.get(rule.action, str(rule.action)),
                "TABLE": TABLES.get(rule.table, str(rule.table)) if rule.action == 1 else None,
            },
            sources,
        )
