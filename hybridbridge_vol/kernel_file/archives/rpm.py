"""The headers of an `.rpm` (RPM file format, versions 3 and 4)."""

from __future__ import annotations

import io
import struct
from typing import IO

from hybridbridge_vol.kernel_file.archives.streams import Slice, read_exactly

RPM_MAGIC = b"\xed\xab\xee\xdb"
RPMTAG_REQUIRENAME = 1049

_MAX_HEADER_SIZE = 256 << 20
"""rpm itself allows no more (lib/header_internal.h, HEADER_DATA_MAX)."""
_LEAD_SIZE = 96
_HEADER_MAGIC = b"\x8e\xad\xe8"
_INTRO_SIZE, _ENTRY_SIZE = 16, 16
_STRING_TYPES = (6, 8, 9)


def rpm_payload(stream: IO[bytes]) -> Slice:
    """The compressed cpio behind lead, signature and header. ValueError or EOFError if these are damaged."""
    _header_offset, payload_offset = _find_header(stream)
    stream.seek(0, io.SEEK_END)
    return Slice(stream, payload_offset, stream.tell() - payload_offset)


def rpm_strings(stream: IO[bytes], tag: int) -> list[str]:
    """The strings of one tag of the header; empty if it does not have the tag."""
    header_offset, payload_offset = _find_header(stream)
    stream.seek(header_offset)
    header = read_exactly(stream, payload_offset - header_offset, 2 * _MAX_HEADER_SIZE)
    (entries,) = struct.unpack_from(">I", header, 8)
    store = _INTRO_SIZE + _ENTRY_SIZE * entries
    for entry in range(_INTRO_SIZE, store, _ENTRY_SIZE):
        found, kind, offset, count = struct.unpack_from(">IIII", header, entry)
        if found == tag and kind in _STRING_TYPES and store + offset < len(header):
            strings = header[store + offset :].split(b"\0", min(count, len(header)))[:count]
            return [string.decode("utf-8", "replace") for string in strings]
    return []


def _find_header(stream: IO[bytes]) -> tuple[int, int]:
    """Where the header behind lead and signature begins and ends. The signature alone is padded, to 8."""
    start = end = _LEAD_SIZE
    for alignment in (8, 1):
        start = end
        stream.seek(start)
        intro = read_exactly(stream, _INTRO_SIZE)
        entries, size = struct.unpack_from(">II", intro, 8)
        if intro[:3] != _HEADER_MAGIC or _ENTRY_SIZE * entries + size > _MAX_HEADER_SIZE:
            raise ValueError("no header where one should be")
        end = start + _INTRO_SIZE + _ENTRY_SIZE * entries + size
        end += -end % alignment
    return start, end
