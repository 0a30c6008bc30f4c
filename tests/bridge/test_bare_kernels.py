"""Kernels that bring less than a distribution's: functions only in their symbol table, no relocations.

Debian's kernels serve, with what they bring taken away, so that what was recovered is used on real guests:
the trusted kernel boots at another address by it, and the twin is moved back by it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fidelity import assert_faithful

from benchmarks.fidelity import compare
from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.kernel_file import kernel as kernel_module
from hybridbridge_vol.kernel_file.kallsyms import find_symbols
from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.carry_kernels import export_kernels, import_kernels
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.make import Sample

Lab = Any

pytestmark = pytest.mark.slow


def bare_kernel(sample: Sample, folder: Path, patch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The sample's vmlinux without relocations, which from now on names its functions only, and its
    System.map."""
    kernel = KernelImage.from_file(sample.kernel_package)
    symbols = kernel.symbols
    end = max(segment.file_offset + segment.file_size for segment in kernel.segments)
    vmlinux, system_map = folder / "vmlinux", folder / "System.map"
    vmlinux.write_bytes(kernel.vmlinux[:end])
    system_map.write_text("".join(f"{vaddr:016x} {kind} {name}\n" for vaddr, kind, name in symbols))
    bounds = [("_text", "_etext"), ("_sinittext", "_einittext")]
    text = [(symbols.address(first), symbols.address(last)) for first, last in bounds]

    def functions(image: Any, vaddr: int | None, name: str) -> Symbols:
        return Symbols.build(
            symbol for symbol in find_symbols(image, vaddr, name) if any(a <= symbol[0] < b for a, b in text)
        )

    patch.setattr(kernel_module, "find_symbols", functions)
    return vmlinux, system_map


@pytest.mark.parametrize("name", ["5.10 nokaslr", "6.1 two CPUs", "6.12", "7.x"])
def test_a_kernel_with_functions_only_and_without_relocations_answers_as_the_whole_one(
    lab: Lab, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = lab.sample(name)
    vmlinux, system_map = bare_kernel(sample, tmp_path, monkeypatch)
    store = Store(tmp_path / "store")
    with pytest.raises(KernelFileError, match="names its functions only"):
        enroll(store, vmlinux)
    entry = enroll(store, vmlinux, symbols=system_map)
    enroll_modules_of(sample, store)
    kernel = store.find(entry.name)
    assert kernel.kernel_image().recovered
    assert all(boot.layout.kernel_delta for boot in kernel.boots())
    # what is exported is complete, too
    export_kernels(store, [entry.name], tmp_path / "kernels.tar")
    carried = Store(tmp_path / "carried")
    assert import_kernels(carried, tmp_path / "kernels.tar") == [entry.name]
    assert sorted(carried.find(entry.name).symbols) == sorted(kernel.symbols)
    monkeypatch.undo()  # what is stored is complete
    with open_session(sample.dump, store.root, mode=Mode.AUTO) as session:
        assert_faithful(compare(sample.truth, session))
        expected = lab.session(name)
        # where KASLR moved the kernel, `check` shows the numbers that say how far: they were 0 as linked
        names = ("ps", "lsof", "ss", "hidden") + (("check",) if session.bridge.layout.shift == 0 else ())
        for tool in map(tools.load, names):
            options = tool.defaults()
            cells = [[row.cells for row in tool.rows(one, options)] for one in (session, expected)]
            assert cells[0] == cells[1], tool.name
        assert session.statistics.unattributed == {}


def enroll_modules_of(sample: Sample, store: Store) -> None:
    """Give a stored kernel the modules of the sample's package."""
    from hybridbridge_vol.trust import modules
    from samples.kernels import modules_package

    for kernel in store.kernels():
        modules.keep(kernel.folder, modules.module_files(modules_package(sample.kernel_package)))
