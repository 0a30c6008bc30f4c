"""route: the routing tables, as `route -n` and `route -6 -n` show them."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.route import RTF_REJECT, Route, mask_text, parse_ipv6_route, parse_route
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.table_lines import parsed_lines

PATH, PATH6 = "/proc/net/route", "/proc/net/ipv6_route"

DESTINATION = Column("DESTINATION", "str", "network or host; of IPv6 with its prefix length")
GATEWAY = Column("GATEWAY", "str", "next hop; 0.0.0.0 or :: for none")
GENMASK = Column("GENMASK", "str", "the destination's mask (IPv4)")
FLAGS = Column(
    "FLAGS",
    "str",
    "U up, G gateway, H host, ! rejected, D dynamic, M modified; of IPv6 also A from an advertisement, "
    "e expires, n no next hop",
)
IFACE = Column("IFACE", "str", "interface")
EXTRA = (
    Column(
        "MSS",
        "int",
        "maximum segment size of TCP and 40 for its headers, as `netstat -r` prints it; 0 for none (IPv4)",
    ),
    Column("WINDOW", "int", "window of TCP, 0 for none (IPv4)"),
    Column("IRTT", "int", "initial round trip time, 0 for none (IPv4)"),
)


class Routes(Tool):
    name = "route"
    help = "Routes of IPv4 and IPv6, as `route -n` shows them"
    notes = (
        "Reads /proc/net/route (the main table; `ip --route` shows all tables) and /proc/net/ipv6_route (all "
        "tables). Without -4 or -6 both are shown. Addresses are always numeric."
    )
    example = "-6"
    options = (
        Option("inet", bool, "only IPv4", short="4"),
        Option("inet6", bool, "only IPv6", short="6"),
        Option("extended", bool, "also MSS, window and round trip time", short="e"),
        Option("numeric", bool, "numbers for addresses, as is done without it", short="n"),
    )
    columns = (
        DESTINATION,
        GATEWAY,
        GENMASK,
        FLAGS,
        Column("METRIC", "int", "distance; the smallest wins"),
        Column("REF", "int", "references"),
        Column("USE", "int", "look-ups"),
        IFACE,
    )

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        return (*self.columns[:-1], *EXTRA, IFACE) if options["extended"] else self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        columns = self.columns_for(options)
        for found, source in routes(kernel, *families(options)):
            if isinstance(found, Unavailable):
                yield Row((found,) * len(columns))
                continue
            cells = route_cells(found)
            yield Row(tuple(cells[column.name] for column in columns), sources=(source,) if source else ())


def families(options: Options) -> tuple[bool, bool]:
    """Whether to show IPv4 and IPv6: what was asked for, or both."""
    neither = not options["inet"] and not options["inet6"]
    return options["inet"] or neither, options["inet6"] or neither


def routes(
    kernel: GuestKernel, inet: bool, inet6: bool
) -> Iterator[tuple[Route | Unavailable, Source | None]]:
    """The routes of the kernel's tables, in its order, or why they or one of them cannot be read."""
    for path, head, parse in ((PATH, 1, parse_route),) * inet + ((PATH6, 0, parse_ipv6_route),) * inet6:
        for found, sources in parsed_lines(kernel, path, parse, head):
            yield found, sources[0] if sources else None


def route_cells(route: Route) -> dict[str, Cell]:
    """A route's cells by the names of columns."""
    inet = route.mtu is not None
    rejected = inet and bool(route.flags & RTF_REJECT)
    return {
        "DESTINATION": route.destination if inet else f"{route.destination}/{route.prefix}",
        "GATEWAY": "-" if rejected else route.gateway,
        "GENMASK": mask_text(route.prefix) if inet else None,
        "FLAGS": route.letters,
        "METRIC": route.metric,
        "REF": route.references,
        "USE": route.use,
        "MSS": route.mtu,
        "WINDOW": route.window,
        "IRTT": route.irtt,
        "IFACE": "-" if rejected else route.interface,
    }


TOOL = Routes()
