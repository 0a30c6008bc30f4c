"""A stored kernel's type information (BTF), kept beside the kernel: taking it out of the linked kernel takes
a tenth of a second."""

from __future__ import annotations

import contextlib

import lz4.frame

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.btf import btf_range
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.linked_kernel import linked_kernel
from hybridbridge_vol.trust.stored_kernel import StoredKernel

FORMAT = 1


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
