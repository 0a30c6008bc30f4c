"""A stored kernel's type information (BTF), kept beside the kernel: taking it out of the linked kernel takes
a tenth of a second."""

from __future__ import annotations

import contextlib
from weakref import WeakKeyDictionary

import lz4.frame

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.btf import btf_range
from hybridbridge_vol.kernel_file.struct_layout import StructLayouts
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.linked_kernel import linked_kernel
from hybridbridge_vol.trust.stored_kernel import StoredKernel

FORMAT = 1
_layouts: WeakKeyDictionary[StoredKernel, StructLayouts] = WeakKeyDictionary()
"""Of kernels that are in use: looking through all types takes 20 ms, and several parts of a tool ask."""


def struct_layouts(kernel: StoredKernel) -> StructLayouts:
    """Where its structures have their fields. Raises what `type_information` does."""
    found = _layouts.get(kernel)
    if found is None:
        found = _layouts[kernel] = StructLayouts(type_information(kernel), kernel.name)
    return found


def type_information(kernel: StoredKernel) -> bytes:
    """Its `.BTF` section. KernelFileError if it was built without, StoreError or KernelFileError if its files
    cannot be read."""
    path = kernel.folder / f"btf-{FORMAT}"
    with contextlib.suppress(OSError, RuntimeError):  # made again when absent or damaged
        return bytes(lz4.frame.decompress(path.read_bytes()))
    place = btf_range(kernel.symbols)
    if place is None:
        raise KernelFileError(f"{kernel.name}: carries no type information (CONFIG_DEBUG_INFO_BTF)")
    text = kernel.text_link_vaddr
    data = bytes(linked_kernel(kernel).flat[place[0] - text : place[1] - text])
    with contextlib.suppress(OSError):  # a read-only store works, only slower
        files.write_atomically(path, bytes(lz4.frame.compress(data, content_checksum=True)))
    return data
