"""The header that rpm keeps of an installed package (RPM file format, "Header": numbers are big-endian; in
its database without the first eight bytes)."""

from __future__ import annotations

import struct
from typing import NamedTuple

_NAME, _INSTALLED, _FOLDER_OF, _FILES, _FOLDERS = 1000, 1008, 1116, 1117, 1118
"""RPMTAG_NAME, INSTALLTIME, DIRINDEXES, BASENAMES, DIRNAMES (include/rpm/rpmtag.h)."""
_INT32, _STRING, _STRINGS, _TEXT = 4, 6, 8, 9
_ENTRY = struct.Struct(">IIII")
MAX_ENTRIES = 1 << 16
"""Tags of one header."""
MAX_FILES = 1 << 20
"""Files of one package."""


class RpmPackage(NamedTuple):
    """`installed` in seconds."""

    name: str
    installed: float
    paths: list[str]


def parse_rpm_header(data: bytes) -> RpmPackage | None:
    """None if it is damaged."""
    if len(data) < 8:
        return None
    count, size = struct.unpack_from(">II", data)
    store = 8 + _ENTRY.size * count
    if count > MAX_ENTRIES or store + size > len(data):
        return None
    places = {}
    for at in range(8, store, _ENTRY.size):
        tag, kind, offset, number = _ENTRY.unpack_from(data, at)
        places[tag] = (kind, store + offset, number)
    names = _strings(data, places.get(_NAME))
    times = _numbers(data, places.get(_INSTALLED))
    files, folders = _strings(data, places.get(_FILES)), _strings(data, places.get(_FOLDERS))
    of_files = _numbers(data, places.get(_FOLDER_OF))
    if not names or not times or len(files) != len(of_files) or max(of_files, default=-1) >= len(folders):
        return None
    return RpmPackage(
        names[0], float(times[0]), [folders[of] + name for name, of in zip(files, of_files, strict=True)]
    )


_Place = tuple[int, int, int]
"""Type, offset and count of a tag's values."""


def _strings(data: bytes, place: _Place | None) -> list[str]:
    if place is None or place[0] not in (_STRING, _STRINGS, _TEXT) or place[2] > MAX_FILES:
        return []
    found = []
    at = place[1]
    for _ in range(1 if place[0] == _STRING else place[2]):
        end = data.find(b"\0", at)
        if end < 0:
            return []
        found.append(data[at:end].decode("utf-8", "surrogateescape"))
        at = end + 1
    return found


def _numbers(data: bytes, place: _Place | None) -> list[int]:
    if place is None or place[0] != _INT32 or place[2] > MAX_FILES or place[1] + 4 * place[2] > len(data):
        return []
    return list(struct.unpack_from(f">{place[2]}I", data, place[1]))
