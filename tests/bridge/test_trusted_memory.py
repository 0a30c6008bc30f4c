"""What the trusted kernel allocates lies in its own range of addresses, however much it is."""

from __future__ import annotations

from typing import Any

import pytest

from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.machine.cpu import GS_BASE_MSR
from hybridbridge_vol.units import PAGE_SIZE, U64

Lab = Any

_GFP_KERNEL = 0xCC0  # include/linux/gfp.h, since 6.8 gfp_types.h
_MOST = 1000
"""Pages of per-CPU memory: the first chunk has fewer than a hundred."""


def per_cpu_page(session: Session) -> int:
    """The virtual address of a new page of per-CPU memory of the trusted kernel's only CPU."""
    bridge = session.bridge
    name = "pcpu_alloc_noprof" if "pcpu_alloc_noprof" in bridge.kernel.symbols else "pcpu_alloc"
    offset = session.caller.call(bridge.home(name), PAGE_SIZE, 8, 0, _GFP_KERNEL, label=name) & U64
    assert offset != 0
    return (offset + bridge.machine.read_msr(GS_BASE_MSR)) & U64


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.SLOW])
def test_per_cpu_memory_beyond_the_first_chunk_is_the_trusted_kernels(
    lab: Lab, generation: str, mode: Mode
) -> None:
    path = lab.sample(generation).dump
    with open_session(path, lab.store.root, mode=mode) as session:
        layout = session.bridge.boot.layout
        pages = [per_cpu_page(session)]
        # the first chunk is in the direct map, all others are in the vmalloc area behind it
        while len(pages) < _MOST and pages[-1] < layout.vmalloc_base:
            pages.append(per_cpu_page(session))
        pages += [per_cpu_page(session) for _ in range(3)]
        assert len(pages) < _MOST
        assert [hex(page) for page in pages if page not in layout] == []
        # mounting takes per-CPU memory, and so does each network namespace
        expected = lab.session(generation)
        for file in ("/proc/1/status", "/proc/mounts", "/proc/net/dev"):
            assert session.files.read(file) == expected.files.read(file)
        assert session.statistics.unattributed == {}
