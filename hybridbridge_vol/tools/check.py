"""check: differences between the snapshot's kernel and the trusted one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Column, Options, Row, Tool


class Check(Tool):
    name = "check"
    help = "Kernel code, constants and tables of functions that differ from the trusted kernel's"
    notes = (
        "Compares text, .rodata (with the system call tables and all constant tables of operations), "
        "function pointers that were linked into data, the interrupt descriptor table, the vDSO, and code, "
        "constants and linked function pointers of the listed modules. A pointer that trusted code stores "
        "there is accepted. A change by boot-time patching at a site that the kernel's own tables list is "
        "accepted if it is exactly what the kernel itself would write there. A clean kernel gives no row. A "
        "change by the kernel's own tracer, a kprobe, a livepatch or a program of BPF is reported by that "
        "name, with the function that is called. Registers of the processors are compared where the "
        "image's format has them: all of them in a state that QEMU or libvirt has saved; IDTR, CR0 and CR4 "
        "in QEMU's dumps. Other formats lack them, and with them the entry point of system calls "
        "(MSR_LSTAR). Not compared: pointers that the kernel stores while it runs, and modules that are not "
        "listed. A table joins many rows of one module and cause to one, which says how many they are; "
        "--format json has them all."
    )
    runs_kernel = False
    columns = (
        Column(
            "WHAT",
            "str",
            "text, rodata, syscall, data, idt, vdso, module; traced, kprobe, livepatch, bpf: changed by the "
            "kernel's own means; register: of a processor; mapping: page tables lead elsewhere; missing: "
            "cannot be checked",
        ),
        Column("ADDRESS", "hex", "its virtual address"),
        Column("OFFSET", "hex", "its offset in the image file"),
        Column("SYMBOL", "str", "the symbol that holds it"),
        Column("EXPECTED", "str", "the trusted kernel's content: disassembly, name or bytes"),
        Column("FOUND", "str", "the image's content"),
        Column("LEADS", "str", "where the found code or pointer leads"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # disassembling takes capstone, which takes 0.1 s to load: no other tool needs it
        from hybridbridge_vol.check.integrity import differences

        for one in differences(kernel):
            found = Unavailable(one.found or "") if one.what == "missing" else one.found
            leads = _with_doubt(one.leads or "", one.doubt) if one.doubt else one.leads
            yield Row((one.what, one.vaddr, one.offset, one.symbol, one.expected, found, leads))

    def for_table(self, rows: Iterable[Row]) -> Iterable[Row]:
        from hybridbridge_vol.check.grouping import grouped

        return grouped(rows)


def _with_doubt(leads: str, doubt: str) -> Unavailable:
    return Unavailable(leads if doubt in leads else "; ".join(filter(None, (leads, doubt))))


TOOL = Check()
