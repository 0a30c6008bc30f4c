"""yara: what YARA rules find in memory, and whose it is."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.allowance import LONG_ANSWER_MEMORY, LONG_ANSWER_SECONDS
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import PID, chosen

SCOPES = ("processes", "files", "kernel", "free", "all")


class Yara(Tool):
    name = "yara"
    help = "Matches of YARA rules in memory: of processes, files, the kernel, and free memory"
    notes = (
        "Needs the library yara-x: pip install 'hybridbridge-vol[yara]'. Each physical page is searched "
        "once, where it lies for the first process that has it mapped; the others are named. What is "
        "searched at once are neighbouring pages of one mapping that are in memory, or neighbouring pages of "
        "a file: a rule whose strings lie further apart does not match. Scope files: files that no process "
        "has mapped; kernel: all other memory that is in use; free: what is not. All processors are used "
        "that this process may run on, or --jobs of them. The rules file may include others of its folder. "
        "With --resume FILE a search that was interrupted, or ended at a limit, goes on where it was, by the "
        "same command; the image, the rules and the other options must be the same."
    )
    example = "rules.yar --scope all"
    options = (
        Option("rules", str, "file with the rules", positional=True, of_this_machine=True),
        Option("scope", str, f"what is searched: {', '.join(SCOPES)} (default: processes)", many=True),
        PID,
        Option("jobs", int, "at most so many processors (default: all that this process may run on)"),
        Option(
            "resume", str,
            "file of this machine that notes what was searched; if it is there, the search goes on from it",
            is_written=True,
        ),
    )  # fmt: skip
    columns = (
        Column("RULE", "str", "name of the rule"),
        Column("PATTERN", "str", "name of the string in it; nothing for a rule without"),
        Column("KIND", "str", "process, file; slab, page table, kernel, anonymous (of no process), free"),
        Column("PID", "int", "process id"),
        Column("COMM", "str", "name of the executable, as the kernel stores it"),
        Column("AT", "hex", "where the match begins: address in the process, or offset in the file"),
        Column("PADDR", "hex", "its physical address"),
        Column("OFFSET", "hex", "its offset in the image; nothing where that is compressed"),
        Column("SIZE", "int", "bytes that match"),
        Column("CONTENT", "str", "the first of them: text, or hexadecimal"),
        Column("PATH", "str", "the file, or what the mapping is of"),
        Column("ALSO", "str", "other processes that have the page mapped, and where"),
    )

    seconds, memory = LONG_ANSWER_SECONDS, LONG_ANSWER_MEMORY

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.physical_memory.yara_rules import YaraRules
        from hybridbridge_vol.tools.physical_memory.yara_scan import Scan

        scopes = frozenset(options["scope"] or ("processes",))
        for unknown in scopes - set(SCOPES):
            raise OptionError(f"--scope {unknown}: there is {', '.join(SCOPES)}")
        if "all" in scopes:
            scopes = frozenset(SCOPES)
        jobs, journal = options["jobs"], options["resume"]
        if jobs is not None and jobs < 1:
            raise OptionError(f"--jobs {jobs}: at least one processor")
        pids = chosen(kernel, options)
        return Scan(kernel, YaraRules(options["rules"]), scopes, pids, jobs, journal).rows()


TOOL = Yara()
