"""The code that the snapshot's kernel maps into processes, as it has it itself; `check` compares that with
the package's."""

from __future__ import annotations

from hybridbridge_vol.bridge.attachment import Bridge
from hybridbridge_vol.check.vdso_images import vdso_images
from hybridbridge_vol.trust.linked_kernel import linked_kernel


def kernels_vdso(bridge: Bridge) -> tuple[bytes, ...]:
    """The images for each kind of program, those that the image holds."""
    kernel = bridge.kernel
    images = vdso_images(linked_kernel(kernel).flat, kernel.symbols, kernel.text_link_vaddr)
    found = (bridge.virtual_memory.static(one.start, one.size) for one in images)
    return tuple(data for data in found if data is not None)
