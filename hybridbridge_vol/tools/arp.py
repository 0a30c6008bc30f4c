"""arp: the IPv4 neighbours, as `arp -n` shows them."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.route import ATF_COM, HARDWARE_TYPES, arp_letters, parse_arp
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.network.table_lines import parsed_lines

PATH = "/proc/net/arp"


class Arp(Tool):
    name = "arp"
    help = "IPv4 neighbours and their hardware addresses, as `arp -n` shows them"
    notes = (
        "Reads /proc/net/arp. Addresses are always numeric: the names that they resolve to are not in the "
        "image. The neighbours of IPv6 are in no file of /proc; `ip --neigh` asks the kernel for them."
    )
    options = (
        Option("interface", str, "only neighbours on this interface", short="i"),
        Option("all", bool, "all of them, as is done without it", short="a"),
        Option("numeric", bool, "numbers for addresses, as is done without it", short="n"),
    )
    columns = (
        Column("ADDRESS", "str", "protocol address"),
        Column("HWTYPE", "str", "kind of hardware address; `(incomplete)` while nobody has answered"),
        Column("HWADDRESS", "str", "hardware address"),
        Column("FLAGS", "str", "C complete, M permanent, P published, ! not to be published"),
        Column("MASK", "str", "of a published network"),
        Column("IFACE", "str", "interface"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for entry, sources in parsed_lines(kernel, PATH, parse_arp):
            if isinstance(entry, Unavailable):
                yield Row((entry,) * len(self.columns))
                continue
            if options["interface"] not in (None, entry.interface):
                continue
            complete = bool(entry.flags & ATF_COM)
            kind = HARDWARE_TYPES.get(entry.hardware_type, f"{entry.hardware_type:#x}")
            yield Row(
                (
                    entry.address,
                    kind if complete else "(incomplete)",
                    entry.hardware_address if complete else None,
                    arp_letters(entry.flags),
                    None if entry.mask == "*" else entry.mask,
                    entry.interface,
                ),
                sources=sources,
            )


TOOL = Arp()
