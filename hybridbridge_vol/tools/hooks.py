"""hooks: every function that the kernel calls by a pointer which can be registered while it runs."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool

KINDS = (
    "ftrace", "kprobe", "uprobe", "tracepoint", "perf", "netfilter", "packet", "protocol", "notifier", "tty",
    "interrupt", "format", "security", "proc", "filesystem", "device", "sysfs", "descriptor",
    "timer", "work", "kthread", "pointer",
)  # fmt: skip


class Hooks(Tool):
    name = "hooks"
    help = "Functions that the kernel calls by pointers, checked against the trusted code"
    notes = (
        "The tracers' handlers (ftrace, kprobes, uprobes, tracepoints, performance events), netfilter "
        "hooks, receivers of packets, protocols, chains of notifiers, line disciplines and drivers of "
        "terminals, interrupt handlers, formats of programs, security hooks, the tables behind files of "
        "/proc, /dev, /sys and of file systems, of open files and sockets, timers, work items, kernel "
        "threads. All are shown; --suspicious leaves out what is trusted: a function that begins in code "
        "of the trusted package which the image has unchanged. A module that the package has no file for "
        "(built on the machine, say) is named and is not trusted. A table in constants, which `check` "
        "compares, is one row; of others each function that is not trusted has a row. Kind pointer needs no "
        "list: where there is code that no listed module has, or a listed module that the package has no "
        "file for, all memory is searched for pointers to it that no other kind has shown, or to a structure "
        "with one (8 at most from fields of one kind). Not shown: what a "
        "handler of the kernel's own does on another's behalf (a BPF program, a command of a trace "
        "event)."
    )
    example = "--kind netfilter --kind packet"
    options = (
        Option("suspicious", bool, "only what is not trusted", short="s"),
        Option("kind", str, f"only these kinds: {', '.join(KINDS)}", many=True),
    )
    columns = (
        Column("KIND", "str", "what kind of handler"),
        Column("WHAT", "str", "when it is called; of a table the function's name"),
        Column("FUNCTION", "hex", "the function, or the table of functions"),
        Column("SYMBOL", "str", "its name, by the trusted files; of other code by the image itself"),
        Column("MODULE", "str", "kernel, or the module that it is in; empty: no module"),
        Column("VERDICT", "str", "trusted, or what is wrong"),
        Column("OBJECT", "hex", "the structure that has the pointer"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.kernel_hooks.all_kinds import hooks

        kinds = options["kind"] or KINDS
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise OptionError(f"--kind {unknown[0]}: there are {', '.join(KINDS)}")
        for kind, cells, sources in hooks(kernel, kinds):
            if not options["suspicious"] or cells[4] != "trusted":
                yield Row((kind, *cells), sources=sources)


TOOL = Hooks()
