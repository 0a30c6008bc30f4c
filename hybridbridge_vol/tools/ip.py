"""ip: links, addresses, neighbours, routes and rules, as the kernel answers rtnetlink."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.ip.address import ADDRESS_COLUMNS, addresses
from hybridbridge_vol.tools.network.ip.link import LINK_COLUMNS, links
from hybridbridge_vol.tools.network.ip.neighbour import NEIGHBOUR_COLUMNS, neighbours
from hybridbridge_vol.tools.network.ip.route import ROUTE_COLUMNS, routes
from hybridbridge_vol.tools.network.ip.rule import RULE_COLUMNS, rules
from hybridbridge_vol.tools.network.ip.view import Rows, View


class Ip(Tool):
    name = "ip"
    help = "Links and addresses; neighbours, routes and rules, as ip shows them"
    notes = (
        "Asks the snapshot's kernel by rtnetlink, as ip does. Without an option links and their addresses "
        "are shown (ip addr). Where a driver's code would be needed and cannot be run, links come from "
        "/sys/class/net, and what is not there says so."
    )
    example = "--neigh -6"
    options = (
        Option("link", bool, "links with their counters (ip -s link)"),
        Option(
            "neigh",
            bool,
            "neighbours (ip neigh; with --all also those that are never asked for, or answered for)",
        ),
        Option("route", bool, "routes of all tables (ip route show table all)"),
        Option("rule", bool, "rules of routing (ip rule)"),
        Option("inet", bool, "only IPv4", short="4"),
        Option("inet6", bool, "only IPv6", short="6"),
        Option("all", bool, "leave nothing out", short="a"),
    )
    columns = ADDRESS_COLUMNS

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        for option, columns in (
            ("link", LINK_COLUMNS),
            ("neigh", NEIGHBOUR_COLUMNS),
            ("route", ROUTE_COLUMNS),
            ("rule", RULE_COLUMNS),
        ):
            if options[option]:
                return columns
        return self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        columns = self.columns_for(options)
        makers: dict[tuple[Column, ...], Callable[[View], Rows]] = {
            LINK_COLUMNS: links,
            NEIGHBOUR_COLUMNS: neighbours,
            ROUTE_COLUMNS: routes,
            RULE_COLUMNS: rules,
        }
        for cells, sources in makers.get(columns, addresses)(View(kernel, options)):
            if isinstance(cells, Unavailable):
                yield Row((cells,) * len(columns), sources=sources)
            else:
                yield Row(tuple(cells.get(column.name) for column in columns), sources=sources)


TOOL = Ip()
