"""Guests of hypervisors: their kernels' own code, finding itself under KVM, VMware, Hyper-V or Xen, has
chosen clocks, locks and calls.

No accelerator is needed: a kernel is booted in our machine, whose CPUID and ports say what a hypervisor's
would, up to its first program. Its memory is the image.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from default_run import in_default_run
from generations import GENERATIONS
from unicorn import x86_const as x86
from xen import LEAVES as XEN_LEAVES
from xen import Xen

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.kernel_file.kernel import KernelImage
from hybridbridge_vol.machine import devices
from hybridbridge_vol.trust import boot
from hybridbridge_vol.trust.files import write_sparse
from hybridbridge_vol.trust.placement import LINUX_LAYOUT
from hybridbridge_vol.units import START_KERNEL_MAP

Lab = Any


_LEAF = 0x40000000
_HYPERVISOR = 1 << 31  # leaf 1, ECX
# Documentation/virt/kvm/x86/cpuid.rst: the clocks, asynchronous page faults, stolen time, interrupts' ends,
# locks, flushes ...
_KVM_FEATURES = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 24))
_VMWARE_PORT, _VMWARE_GET_HZ, _VMWARE_MAGIC = 0x5658, 45, 0x564D5868  # arch/x86/include/asm/vmware.h
_TSC_HZ = 1_000_000_000
# Hyper-V's "Hypervisor Top Level Functional Specification", Feature and Interface Discovery: its interface,
# and what it offers: a time counter, a page for hypercalls, numbers of CPUs, a page with the TSC's rate,
# waiting CPUs that give theirs away; and what it advises: flushes and interrupts of other CPUs by hypercall
_HYPERV_INTERFACE = 0x31237648
_HYPERV_FEATURES = sum(1 << bit for bit in (1, 5, 6, 9, 10))
_HYPERV_ADVICE = sum(1 << bit for bit in (2, 10))
_HYPERV_TICK_NS = 100
_FOREVER = 0xFFFFFFFF
_FILES = (
    "/proc/uptime",
    "/proc/stat",
    "/proc/1/sched",
    "/proc/1/stat",
    "/proc/timer_list",
    "/proc/interrupts",
    "/proc/schedstat",
)


def package_of(lab: Lab, generation: str) -> Path:
    """The package of a generation's kernel, which is trusted before its tests change how a kernel boots."""
    package: Path = lab.sample(generation).kernel_package
    return package


def booted(
    package: Path,
    path: Path,
    patch: pytest.MonkeyPatch,
    signature: bytes,
    leaves: dict[int, tuple[int, ...]],
    before_capture: Callable[[], None] = lambda: None,
) -> list[str]:
    """Boot a kernel with the hypervisor's CPUID leaves and write its memory to `path`; what it printed."""
    plain = devices.cpuid_leaf

    def leaf(number: int, levels: int = 4) -> tuple[int, ...]:
        if number == 1:
            eax, ebx, ecx, edx = plain(1, levels)
            return eax, ebx, ecx | _HYPERVISOR, edx
        known = {_LEAF: (max(leaves), *struct.unpack("<3I", signature.ljust(12, b"\0")))} | leaves
        return known.get(number) or plain(number, levels)

    patch.setattr(devices, "cpuid_leaf", leaf)
    # the clock is the hypervisor's, and there may be a second CPU, without which there are no locks to share
    # with the host
    line = boot.COMMAND_LINE.replace("nosmp maxcpus=0", "maxcpus=1 possible_cpus=2")
    line = line.replace("clocksource=jiffies", "").replace("tsc_early_khz=1000000", "")
    patch.setattr(boot, "COMMAND_LINE", line)
    kernel = boot.boot(KernelImage.from_file(package), LINUX_LAYOUT)
    before_capture()
    write_sparse(path, kernel.ram.view)
    return kernel.machine.devices.console


def assert_understood(lab: Lab, path: Path) -> None:
    answers = []
    for mode in (Mode.AUTO, Mode.SLOW):
        with open_session(path, lab.store.root, mode=mode) as session:
            since_boot = session.clocks.boottime()
            assert 0 < since_boot < 1
            assert float(session.files.read("/proc/uptime").split()[0]) == pytest.approx(since_boot, abs=0.01)
            answers.append([since_boot, *map(session.files.read, _FILES)])
            check = tools.load("check")
            assert list(check.rows(session, check.defaults())) == []
            assert session.rolled_back == 0
    assert answers[0] == answers[1]


@pytest.mark.parametrize("generation", in_default_run(GENERATIONS, "7.x"))
def test_a_guest_of_kvm(lab: Lab, generation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = package_of(lab, generation)
    write_bases = boot._write_bases

    def write_clocks(machine: Any, kernel: KernelImage, layout: Any) -> None:
        """What KVM writes to the clock pages of the CPUs (struct pvclock_vcpu_time_info), once: the TSC as it
        is."""
        write_bases(machine, kernel, layout)
        clocks = kernel.symbols.address("hv_clock_boot") - START_KERNEL_MAP
        for cpu in range(32):
            machine.memory.write(
                clocks + 64 * cpu, struct.pack("<IIQQIbBxx", 2, 0, 0, 5_000_000, 1 << 31, 1, 1)
            )

    monkeypatch.setattr(boot, "_write_bases", write_clocks)
    features: dict[int, tuple[int, ...]] = {_LEAF + 1: (_KVM_FEATURES, 0, 0, 0)}
    console = "\n".join(booted(package, tmp_path / "image", monkeypatch, b"KVMKVMKVM", features))
    assert "Booting paravirtualized kernel on KVM" in console
    assert "Switched to clocksource kvm-clock" in console
    assert_understood(lab, tmp_path / "image")


@pytest.mark.slow
def test_a_guest_of_vmware(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = package_of(lab, "6.1 two CPUs")
    port_in = devices.Devices._port_in

    def backdoor(self: Any, uc: Any, port: int, size: int, data: object) -> int:
        if port != _VMWARE_PORT:
            return port_in(self, uc, port, size, data)
        is_hz = uc.reg_read(x86.UC_X86_REG_RCX) & 0xFFFF == _VMWARE_GET_HZ
        uc.reg_write(x86.UC_X86_REG_RBX, 0 if is_hz else _VMWARE_MAGIC)
        return _TSC_HZ if is_hz else 6

    monkeypatch.setattr(devices.Devices, "_port_in", backdoor)
    timing: dict[int, tuple[int, ...]] = {_LEAF + 0x10: (_TSC_HZ // 1000, 66_000, 0, 0)}
    console = "\n".join(booted(package, tmp_path / "image", monkeypatch, b"VMwareVMware", timing))
    assert "Booting paravirtualized kernel on VMware hypervisor" in console
    assert_understood(lab, tmp_path / "image")


@pytest.mark.slow
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_guest_of_hyper_v(
    lab: Lab, generation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = package_of(lab, generation)
    write_bases = boot._write_bases

    def write_clock(machine: Any, kernel: KernelImage, layout: Any) -> None:
        """What Hyper-V writes to the page that the guest shows it (struct ms_hyperv_tsc_page): the time is
        the upper half of TSC times scale, in 100 ns."""
        write_bases(machine, kernel, layout)
        page = kernel.symbols.address("tsc_pg") - START_KERNEL_MAP
        scale = (1 << 64) * 1_000_000_000 // (_TSC_HZ * _HYPERV_TICK_NS)
        machine.memory.write(page, struct.pack("<IIQq", 1, 0, scale, 0))

    monkeypatch.setattr(boot, "_write_bases", write_clock)
    leaves: dict[int, tuple[int, ...]] = {
        _LEAF + 1: (_HYPERV_INTERFACE, 0, 0, 0),
        _LEAF + 2: (0x4563, 0xA0000, 0, 0),
        _LEAF + 3: (_HYPERV_FEATURES, 0, 0, 0),
        _LEAF + 4: (_HYPERV_ADVICE, _FOREVER, 0, 0),
        _LEAF + 5: (240, 512, 0, 0),
    }
    console = "\n".join(booted(package, tmp_path / "image", monkeypatch, b"Microsoft Hv", leaves))
    assert "Hypervisor detected: Microsoft Hyper-V" in console
    assert "PV spinlocks enabled" in console
    assert "Hyper-V: Using hypercall for remote TLB flush" in console
    assert "Switched to clocksource hyperv_clocksource_tsc_page" in console
    assert_understood(lab, tmp_path / "image")


@pytest.mark.parametrize("generation", in_default_run(GENERATIONS, "6.1 two CPUs"))
def test_a_guest_of_xen(lab: Lab, generation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fully virtualized one. Without a local APIC, which our machine lacks, it has no clock by Xen."""
    package = package_of(lab, generation)
    xen, write_bases, port_in = Xen(), boot._write_bases, devices.Devices._port_in

    def divert(machine: Any, kernel: KernelImage, layout: Any) -> None:
        write_bases(machine, kernel, layout)
        xen.divert(machine, kernel)

    def answer(self: Any, uc: Any, port: int, size: int, data: object) -> int:
        answered = xen.answer(uc, port)
        return port_in(self, uc, port, size, data) if answered is None else answered

    monkeypatch.setattr(boot, "_write_bases", divert)
    monkeypatch.setattr(devices.Devices, "_port_in", answer)
    path = tmp_path / "image"
    console = "\n".join(booted(package, path, monkeypatch, b"XenVMMXenVMM", XEN_LEAVES, xen.restore))
    assert "Booting paravirtualized kernel on Xen HVM" in console
    assert "Xen HVM callback vector for event delivery is enabled" in console
    assert_understood(lab, path)
