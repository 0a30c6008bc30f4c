"""Names of single types of BTF, which is large: the kernel's own has a hundred thousand."""

from __future__ import annotations

from hybridbridge_vol.bpf import objects as bpf
from hybridbridge_vol.bpf.btf_names import BtfNames
from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import BpfInfo
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import attempt

_START, _END = "__start_BTF", "__stop_BTF"
"""Around the kernel's own (include/asm-generic/vmlinux.lds.h)."""
_LARGEST = 64 << 20
"""Bytes; real ones have up to ten million."""
_VMLINUX = b"vmlinux"


class TypeNames:
    """By the id of a BTF object and the number of a type."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel
        self._known: dict[int, BtfNames | None] = {}
        self._own: BtfNames | None = None

    def name(self, obj: int, number: int) -> str:
        """The name of a type; empty if it has none or cannot be read."""
        if obj not in self._known:
            self._known[obj] = self._read(obj)
        names = self._known[obj]
        return "" if names is None else names.name(number)

    def _read(self, obj: int) -> BtfNames | None:
        info = attempt(f"bpf btf {obj}", lambda: self._kernel.bpf.info(bpf.BTF, obj))
        if isinstance(info, Unavailable):
            return None
        is_kernel = bpf.parse_btf_info(info.data).is_kernel
        return self._of_kernel(info) if is_kernel else BtfNames(info.arrays["data"])

    def _of_kernel(self, info: BpfInfo) -> BtfNames | None:
        """The kernel's own, or a module's, whose types go on where the kernel's end."""
        if self._own is None:
            try:
                bridge = self._kernel.bridge
                start, end = bridge.snapshot(_START), bridge.snapshot(_END)
            except (KeyError, AttachError):
                return None
            if not 0 < end - start <= _LARGEST:
                return None
            self._own = BtfNames(bridge.virtual_memory.read_padded(start, end - start))
        if info.arrays["name"] == _VMLINUX:
            return self._own
        return BtfNames(info.arrays["data"], self._own)
