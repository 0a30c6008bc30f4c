"""What marks kernels before 5.9, held by a kernel from which newer symbols were hidden: none of that age was
tried."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol.guest.registers import numbers_at
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.kernel_file.kallsyms import find_symbols
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.trust.boot import start_of_init
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_kernel import enroll

Lab = Any


def symbols(*names: str) -> Symbols:
    return Symbols.build((0x1000 * number, "T", name) for number, name in enumerate(names, 1))


def test_init_is_executed_by_what_the_kernel_has_for_it() -> None:
    assert start_of_init(symbols("do_execve", "kernel_execve", "run_init_process")) == 0x2000
    assert start_of_init(symbols("run_init_process", "do_execve")) == 0x2000
    assert start_of_init(symbols("kernel_init", "run_init_process")) == 0x2000
    with pytest.raises(KeyError, match="kernel_execve"):
        start_of_init(symbols("kernel_init"))


def test_the_numbers_of_a_regset_lie_behind_its_pointers() -> None:
    """Since 5.9 and before 4.15 behind four, between behind five, the last of which x86 leaves empty."""
    get, n, size, note = 0xFFFFFFFF81034560, 27, 8, 1
    four = struct.pack("<4Q5I", get, get, 0, 0, n, size, 8, 0, note)
    five = struct.pack("<5Q5I", get, get, 0, 0, 0, n, size, 8, 0, note)
    for data in (four, five):
        at = numbers_at(data[32:36])
        assert struct.unpack_from("<5I", data, at) == (n, size, 8, 0, note)


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["5.10 nokaslr", "6.1 two CPUs"])
def test_a_kernel_without_kernel_execve_is_booted_and_answers(
    lab: Lab, generation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = lab.sample(generation)

    def without(*arguments: Any) -> Symbols:
        return Symbols.build(each for each in find_symbols(*arguments) if each[2] != "kernel_execve")

    monkeypatch.setattr("hybridbridge_vol.kernel_file.kernel.find_symbols", without)
    store = Store(tmp_path / "store")
    enroll(store, sample.kernel_package)
    with open_session(sample.dump, store.root) as session:
        assert session.system.uname().nodename == lab.session(generation).system.uname().nodename
        assert session.files.read("/proc/1/stat") == lab.session(generation).files.read("/proc/1/stat")
