"""bpf: eBPF programs, maps, links and types, who keeps them, where they are attached, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool

_ID = Column("ID", "int", "the kernel's number of it")
_NAME = Column("NAME", "str", "its name")
_OWNERS = Column("OWNERS", "str", "processes with a descriptor of it: name(PID)")
_PINNED = Column("PINNED", "str", "its files in bpf file systems")
_BTF = Column("BTF", "int", "id of its type information")
_MEMLOCK = Column("MEMLOCK", "int", "bytes that are charged for it")

MAP_COLUMNS = (
    _ID,
    Column("TYPE", "str", "hash, array, ringbuf ..."),
    _NAME,
    Column("KEY", "int", "bytes of a key"),
    Column("VALUE", "int", "bytes of a value"),
    Column("MAX", "int", "elements that it may have"),
    Column("FLAGS", "hex", "BPF_F_*"),
    _MEMLOCK,
    Column("FROZEN", "str", "yes: no process may change it"),
    _BTF,
    Column("PROGRAMS", "str", "ids of programs that use it"),
    _OWNERS,
    _PINNED,
)
LINK_COLUMNS = (
    _ID,
    Column("TYPE", "str", "tracing, xdp, cgroup, perf_event ..."),
    Column("PROG", "int", "id of its program"),
    Column("PROGNAME", "str", "name of its program"),
    Column("ATTACH", "str", "the kind of attachment"),
    Column("WHERE", "str", "function, tracepoint, interface, control group ... that it attaches to"),
    _OWNERS,
    _PINNED,
)
BTF_COLUMNS = (
    _ID,
    Column("NAME", "str", "vmlinux, or the module that it describes; else what was loaded with a program"),
    Column("SIZE", "int", "bytes"),
    Column("KERNEL", "str", "yes: the kernel's own or a module's"),
    Column("PROGRAMS", "str", "ids of programs that use it"),
    Column("MAPS", "str", "ids of maps that use it"),
    _OWNERS,
)
ELEMENT_COLUMNS = (
    Column("MAP", "int", "id of the map"),
    Column("KEY", "str", "the key in hexadecimal"),
    Column("VALUE", "str", "the value in hexadecimal; of maps for each processor one after the other"),
    Column("TYPED", "str", "key and value by their types, where the map has type information"),
)
CODE_COLUMNS = (
    Column("PROG", "int", "id of the program"),
    Column("INDEX", "int", "number of the instruction"),
    Column("CODE", "str", "its bytes"),
    Column("TEXT", "str", "the instruction"),
)


class Bpf(Tool):
    name = "bpf"
    help = "eBPF programs, maps and their contents, links, types, owners, attach points, translated code"
    notes = (
        "Asks the snapshot's kernel by bpf(2), as bpftool does; processes that hold an object are found "
        "by their "
        "descriptors, files by the bpf file systems of process 1. Where a program is attached is known of "
        "links, "
        "perf events, control groups, interfaces (XDP) and filters of traffic; not of sockets that a program "
        "filters and whose process has closed its descriptor of it. MARKS names helpers that write memory of "
        "processes or interfere otherwise, places that hide or collect something, and programs that nothing "
        "which is known keeps. They are hints: good software uses these, too. --prog disassembles the "
        "code that "
        "the kernel has checked and translated."
    )
    example = "--maps"
    options = (
        Option("maps", bool, "maps"),
        Option("links", bool, "links"),
        Option("btf", bool, "type information"),
        Option("map", int, "the elements of the maps with these ids", many=True),
        Option("prog", int, "the translated code of the programs with these ids", many=True),
    )
    columns = (
        _ID,
        Column("TYPE", "str", "kprobe, tracing, xdp, sched_cls, cgroup_skb ..."),
        _NAME,
        Column("TAG", "str", "checksum of its instructions"),
        Column("ATTACHED", "str", "where it is attached"),
        Column("MARKS", "str", "what is remarkable: helpers, attach points, nothing that keeps it"),
        Column("LOADED", "time", "when it was loaded"),
        Column("UID", "int", "user who loaded it"),
        Column("GPL", "str", "yes: its licence is compatible with GPL"),
        Column("MAPS", "str", "ids of its maps"),
        _BTF,
        Column("XLATED", "int", "bytes of its translated code"),
        Column("JITED", "int", "bytes of its compiled code"),
        _MEMLOCK,
        Column("ADDRESS", "hex", "virtual address of its compiled code"),
        Column("RUNS", "int", "how often it ran, if that is counted (kernel.bpf_stats_enabled)"),
        _OWNERS,
        _PINNED,
    )
    moments = (Moment("LOADED", "created", "BPF program loaded"),)
    moment_text = ("ID", "TYPE", "NAME", "ATTACHED", "UID", "OWNERS")

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        for option, columns in (
            ("map", ELEMENT_COLUMNS), ("prog", CODE_COLUMNS), ("maps", MAP_COLUMNS), ("links", LINK_COLUMNS),
            ("btf", BTF_COLUMNS),
        ):  # fmt: skip
            if options[option]:
                return columns
        return self.columns

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.ebpf import contents, tables

        if options["map"]:
            return contents.elements(kernel, options["map"])
        if options["prog"]:
            return contents.code(kernel, options["prog"])
        for option, rows in (("maps", tables.maps), ("links", tables.links), ("btf", tables.types)):
            if options[option]:
                return rows(kernel, len(self.columns_for(options)))
        return tables.programs(kernel, len(self.columns))


TOOL = Bpf()
