"""Volatility's own linux.* plugins with the tables that `hb isf` writes, on real images."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from generations import Lab

from hybridbridge_vol.kernel_file.isf.table import btf_section, isf_of, write_isf
from hybridbridge_vol.kernel_file.kernel import KernelImage
from samples import apt

DRIVER = Path(__file__).parents[1] / "support" / "volatility_driver.py"

FAULTS = {
    # a mapping of the System V shared memory with number 0: its inode, of number 0, is taken for an invalid
    # one
    "linux.elfs.Elfs": "no attribute 'i_size'",
    "linux.library_list.LibraryList": "no attribute 'i_size'",
    "linux.malware.malfind.Malfind": "no attribute 'i_size'",
    "linux.proc.Maps": "no attribute 'i_size'",
    # the test of the table's producer is the wrong way round: all but dwarf2json's are refused
    "linux.malware.hidden_modules.Hidden_modules": "table produced by dwarf2json",
    # names of modules' exported symbols where they are offsets (CONFIG_HAVE_ARCH_PREL32_RELOCATIONS), after
    # all others; kernels since 7.0 have no kallsyms_relative_base
    "linux.kallsyms.Kallsyms": "takes a Pointer|'NoneType' and 'int'",
    # memory that only looks like a socket's file
    "linux.sockscan.Sockscan": "no attribute 'socket'",
}
"""Where Volatility 2.28 fails whatever the table says, and with what words."""
FAULTS_7 = FAULTS | {
    # struct taint_flag has no `module` by 7.2
    "linux.lsmod.Lsmod": "taint_flag.module",
    "linux.malware.modxview.Modxview": "taint_flag.module",
    "linux.pscallstack.PsCallStack": "'NoneType' and 'int'",
}
FULL = {
    "linux.boottime.Boottime", "linux.capabilities.Capabilities", "linux.elfs.Elfs", "linux.envars.Envars",
    "linux.iomem.IOMem", "linux.ip.Addr", "linux.ip.Link", "linux.kmsg.Kmsg", "linux.kthreads.Kthreads",
    "linux.lsof.Lsof", "linux.malware.check_idt.Check_idt", "linux.malware.check_syscall.Check_syscall",
    "linux.malware.process_spoofing.ProcessSpoofing", "linux.malware.tty_check.Tty_Check",
    "linux.mountinfo.MountInfo",
    "linux.pagecache.Files", "linux.pidhashtable.PIDHashTable", "linux.psaux.PsAux", "linux.pslist.PsList",
    "linux.psscan.PsScan", "linux.pstree.PsTree", "linux.sockstat.Sockstat", "linux.vmcoreinfo.VMCoreInfo",
}  # fmt: skip
"""Plugins that have rows for any guest."""


def answers(lab: Lab, name: str, folder: Path, *plugins: str) -> dict[str, dict[str, Any]]:
    """What plugins, by default all, answer for a sample with the table of its kernel."""
    sample = lab.sample(name)
    symbols = folder / "symbols"
    symbols.mkdir()
    write_isf(isf_of(KernelImage.from_file(sample.kernel_package)), symbols / "kernel.json")
    command = [sys.executable, "-W", "ignore", str(DRIVER), str(sample.raw), str(symbols), *plugins]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=True, env=environment)
    return {answer["name"]: answer for answer in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
def test_plugins_that_ask_for_variables_of_many_types_answer(lab: Lab, tmp_path: Path) -> None:
    asked = (
        "linux.boottime.Boottime", "linux.ip.Addr", "linux.kthreads.Kthreads",
        "linux.malware.check_afinfo.Check_afinfo", "linux.malware.check_idt.Check_idt",
        "linux.malware.tty_check.Tty_Check", "linux.pscallstack.PsCallStack",
        "linux.tracing.tracepoints.CheckTracepoints",
    )  # fmt: skip
    found = answers(lab, "6.1 two CPUs", tmp_path, *asked)
    assert {name: answer["error"] for name, answer in found.items()} == dict.fromkeys(asked)
    # a clean guest: every handler belongs to the kernel, nothing of it was replaced
    assert found["linux.malware.check_afinfo.Check_afinfo"]["rows"] == []
    assert ["0", "asm_exc_divide_error"] in [
        [row[0], row[-1]] for row in found["linux.malware.check_idt.Check_idt"]["rows"]
    ]
    # asleep, as the kernel's own symbols name it: they are looked up through kallsyms's parts
    assert any(row[-3] == "schedule" for row in found["linux.pscallstack.PsCallStack"]["rows"])
    error_text = lab.sample("6.1 two CPUs").truth.command("ip addr")
    addresses = {
        address for address in re.findall(r"inet6? ([^/]+)/", error_text) if not address.startswith("fe80")
    }
    assert addresses <= {row[5] for row in found["linux.ip.Addr"]["rows"]}


@pytest.mark.slow
def test_every_plugin_answers_or_fails_by_its_own_fault(lab: Lab, tmp_path: Path, generation: str) -> None:
    faults = FAULTS_7 if generation.startswith("7") else FAULTS
    found = answers(lab, generation, tmp_path)
    assert len(found) > 45
    for name, answer in found.items():
        if answer["error"] is not None:
            assert re.search(faults.get(name, "$^"), answer["error"]), f"{name}: {answer['error']}"
        assert answer["rows"] or name not in FULL, name
    pids = {int(row[0]) for row in found["linux.psaux.PsAux"]["rows"]}
    assert pids <= set(lab.sample(generation).truth.processes)


# --- another reader of the same BTF -----------------------------------------------------------------------

MEMBER = re.compile(
    r"\t(?:[^\s].*[ *(])?(?P<name>\w+)\)?(?:\(.*\))?(?:\[\w*\])*(?::\d+)?;"
    r"\s+/\*\s+(?P<byte>\d+)(?::\s*(?P<bit>\d+))?\s+\d+\s+\*/"
)

SIZE = re.compile(r"^\t/\* size: (\d+)", re.MULTILINE)


@pytest.fixture(scope="module")
def pahole(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Debian's pahole, unpacked and not installed."""
    root = tmp_path_factory.mktemp("pahole")
    for package in apt.download(apt.with_libraries(["pahole"], ("trixie",)), ("trixie",)):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    loader = next(root.glob("**/ld-linux-x86-64.so.2"))
    return [
        str(loader),
        "--library-path",
        str(root / "usr/lib/x86_64-linux-gnu"),
        str(root / "usr/bin/pahole"),
    ]


@pytest.mark.slow
def test_members_lie_where_pahole_says(lab: Lab, tmp_path: Path, pahole: list[str], generation: str) -> None:
    kernel = KernelImage.from_file(lab.sample(generation).kernel_package)
    types = isf_of(kernel)["user_types"]
    (tmp_path / "btf").write_bytes(btf_section(kernel))
    done = subprocess.run(
        [*pahole, "-F", "btf", tmp_path / "btf"], capture_output=True, text=True, check=True, timeout=120
    )
    structs = re.findall(r"^struct (\w+) \{\n(.*?)^\}", done.stdout, re.MULTILINE | re.DOTALL)
    count = Counter(name for name, _body in structs)
    compared = 0
    for name, body in structs:
        if count[name] > 1:  # of several with one name each reader takes its own
            continue
        assert (size := SIZE.search(body)) is None or types[name]["size"] == int(size[1]), name
        for member in map(MEMBER.match, body.splitlines()):
            field = types[name]["fields"].get(member["name"]) if member else None
            if member is None or field is None:
                continue
            bit = field["offset"] * 8 + field["type"].get("bit_position", 0)
            assert bit == int(member["byte"]) * 8 + int(member["bit"] or 0), f"{name}.{member['name']}"
            compared += 1
    assert compared > 30_000
