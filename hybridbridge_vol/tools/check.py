"""check: what of the snapshot's kernel is not as the trusted kernel has it."""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool, Unavailable


class Check(Tool):
    name = "check"
    help = "Kernel code, constants and tables of functions that differ from the trusted kernel's"
    notes = (
        "Compares text, .rodata (with the system call tables and all constant tables of operations), function pointers that "
        "were linked into data, the interrupt descriptor table, and code and constants of the listed modules. What boot-time patching may do at the places "
        "that the kernel's own tables list is accepted if it is exactly what the kernel itself would write there. A clean "
        "kernel gives no row. What the kernel's own tracer, a kprobe or a livepatch changed is told as such, with the function that is called. Not in a memory image, and so not compared: the processor's own registers (the entry point in "
        "MSR_LSTAR, IDTR). Not compared: pointers that the kernel makes while it runs, and modules that are on no list."
    )
    runs_kernel = False
    columns = (
        Column(
            "WHAT",
            "str",
            "text, rodata, syscall, data, idt, module; traced, kprobe, livepatch: by the kernel's own means; mapping: page tables lead elsewhere; missing: cannot be checked",
        ),
        Column("ADDRESS", "hex", "where it stands, virtual"),
        Column("OFFSET", "hex", "the same in the image file"),
        Column("SYMBOL", "str", "what it is in"),
        Column("EXPECTED", "str", "what the trusted kernel has there: disassembly, name or bytes"),
        Column("FOUND", "str", "what the image has there"),
        Column("LEADS", "str", "where the code or pointer that was found leads"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # disassembling takes capstone, which takes 0.1 s to load: no other tool needs it
        from hybridbridge_vol.check.integrity import differences

        for one in differences(kernel):
            found = Unavailable(one.found or "") if one.what == "missing" else one.found
            yield Row((one.what, one.vaddr, one.offset, one.symbol, one.expected, found, one.leads))


TOOL = Check()
