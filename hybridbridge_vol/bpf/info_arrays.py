"""The arrays that commands of bpf(2) fill in beside their structures (include/uapi/linux/bpf.h, 5.10 to
7.2)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.bpf.objects import (
    BTF,
    LINK,
    LINK_ITER,
    LINK_KPROBE_MULTI,
    LINK_PERF_EVENT,
    LINK_RAW_TRACEPOINT,
    LINK_UPROBE_MULTI,
    PERF_EVENT,
    PROG,
    Link,
)


class Array(NamedTuple):
    """Where a structure has an array's pointer and its count of elements; `size` is an element's in bytes, or
    where the structure has it, if `size_at`."""

    pointer_at: int
    count_at: int
    size: int
    size_at: bool = False

    def read(self, structure: bytes) -> tuple[int, int]:
        """The pointer, and how many bytes it points to. Zeros beyond the end of a shorter, older
        structure."""
        data = structure.ljust(256, b"\0")
        size = struct.unpack_from("<I", data, self.size)[0] if self.size_at else self.size
        return struct.unpack_from("<Q", data, self.pointer_at)[0], size * struct.unpack_from(
            "<I", data, self.count_at
        )[0]


XLATED, MAP_IDS, KSYMS = Array(32, 20, 1), Array(56, 52, 4), Array(112, 104, 8)
"""Of a program: its code before it was compiled, the ids of its maps, the addresses of its functions."""
_OF_PROGRAMS = (
    Array(24, 16, 1), XLATED, MAP_IDS, KSYMS, Array(120, 108, 4),
    Array(136, 144, 132, True), Array(152, 148, 172, True), Array(160, 168, 176, True), Array(184, 180, 8),
)  # fmt: skip
"""jited_prog_insns, xlated_prog_insns, map_ids, jited_ksyms, jited_func_lens, func_info, line_info,
jited_line_info, prog_tags."""
_OF_TYPES = (Array(0, 8, 1), Array(16, 24, 1))
_OF_LINKS = {
    LINK_RAW_TRACEPOINT: (Array(16, 24, 1),),
    LINK_ITER: (Array(16, 24, 1),),
    LINK_KPROBE_MULTI: (Array(16, 24, 8), Array(40, 24, 8)),
    LINK_UPROBE_MULTI: (Array(16, 48, 1), Array(24, 52, 8), Array(32, 52, 8), Array(40, 52, 8)),
    LINK_PERF_EVENT: (Array(24, 32, 1),),
}
QUERY_ARRAYS = (Array(16, 24, 4), Array(32, 24, 4), Array(40, 24, 4), Array(48, 24, 4))
"""Of BPF_PROG_QUERY: prog_ids, prog_attach_flags, link_ids, link_attach_flags."""
TASK_ARRAYS = (Array(16, 12, 1),)
"""Of BPF_TASK_FD_QUERY: the name."""


def arrays_of(kind: str, link: int = 0) -> tuple[Array, ...]:
    """Those of `struct bpf_KIND_info`; `link` is the type of a link."""
    if kind == LINK:
        return _OF_LINKS.get(link, ())
    return {PROG: _OF_PROGRAMS, BTF: _OF_TYPES}.get(kind, ())


def place_of(link: Link) -> Array | None:
    """Of a link, the name or the addresses that it is attached to; None if it has neither."""
    if link.type == LINK_PERF_EVENT and struct.unpack_from("<I", link.data, 16)[0] == PERF_EVENT:
        return None
    return next(iter(arrays_of(LINK, link.type)), None)
