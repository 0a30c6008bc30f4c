"""A module as its file has it, laid out as the loader lays it out: what a comparison with a snapshot needs,
in columns.

A kernel with every module of its package loaded has four thousand of them with millions of references. So
they are taken from the files once, stored (`module_store.py`), and filled in with a few operations on whole
columns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

TEXT, RODATA, LATER, DATA = range(4)
"""Segments, which are the first places: code; constants; data that is constant after initialisation; data.
They lie in memory in this order before 6.4, and each by itself since (kernel/module/main.c,
`layout_sections`)."""
SEGMENTS = (TEXT, RODATA, LATER, DATA)
NEAR_RELATIVE, NEAR, FAR, FAR_RELATIVE = range(4)
"""Kinds of references, in the order in which a segment has them: 32 bits, relative to the field or not, and
64 bits."""
IS_FAR = (False, False, True, True)
IS_RELATIVE = (True, False, False, True)

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.uint32]
Signed = npt.NDArray[np.int64]
Vaddrs = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class LinkedSegment:
    """One segment. Offsets count from its beginning.

    `content` is what the file has; bytes that it has not are zero. `sections` are the starts and ends, one
    after the other, of what is compared. The references are sorted by kind, `counts` are how many there are
    of each: the field at `offsets` takes the address of `targets`, a number of a place, plus `addends`.
    `voters` are the numbers of some references to each place of the module itself, place after place.
    """

    content: Bytes
    sections: Numbers
    offsets: Numbers
    targets: Numbers
    addends: Signed
    counts: Numbers
    voters: Numbers
    length: Numbers
    """One number: the bytes that it takes, also where there is no `content`."""

    def __len__(self) -> int:
        return int(self.length[0])

    def kinds(self) -> list[tuple[int, slice]]:
        """Each kind of reference, and which of the references are of it."""
        ends = np.cumsum(self.counts).tolist()
        starts = [0, *ends[:-1]]
        return [(kind, slice(start, end)) for kind, (start, end) in enumerate(zip(starts, ends, strict=True))]


@dataclass(frozen=True)
class Sites:
    """Where the loader and the running kernel rewrite the code: offsets in it (see
    `check.patch_tables.PatchTables`). Tables with several columns are flat, entry after entry."""

    alternatives: Numbers
    """code, size, replacement, size of the replacement"""
    paravirt: Numbers
    """code, size"""
    branches: Numbers
    """code, size, target"""
    static_calls: Numbers
    """code, 1 for a tail call, place of the key"""
    keys: Signed
    """Offset of each static call's key from its place."""
    mcount: Numbers
    returns: Numbers
    retpolines: Numbers
    locks: Numbers
    seals: Numbers
    calls: Numbers
    """Direct calls, which call-depth tracking redirects."""
    preambles: Numbers


@dataclass(frozen=True)
class LinkedModule:
    """One module. A place is what references lead to: a segment, another section, the beginning of memory
    (`absolute`), and behind these the symbols of the kernel and of other modules (`imports`).

    `exports` are the symbols that others can refer to: place and offset. `own_struct` is the place and the
    offset of its `struct module`, None if it has none. Of `LATER` and `DATA` there is no content, and of
    their references only those that may lead to functions or to tables of functions.
    """

    name: str
    build_id: str
    segments: tuple[LinkedSegment, LinkedSegment, LinkedSegment, LinkedSegment]
    absolute: int
    imports: list[str]
    exports: dict[str, tuple[int, int]]
    own_struct: tuple[int, int] | None
    sites: Sites

    @property
    def places(self) -> int:
        """How many places there are."""
        return self.absolute + 1 + len(self.imports)


def columns(of: LinkedSegment | Sites) -> list[npt.NDArray[np.generic]]:
    """The columns of one of the above, in the order of their declaration."""
    return [getattr(of, item.name) for item in fields(of)]
