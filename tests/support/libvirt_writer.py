"""Files of `virsh save`, written for tests (libvirt: src/qemu/qemu_saveimage.h)."""

from __future__ import annotations

import struct

XML = b"<domain type='kvm'><name>web</name></domain>\0"
RAW, GZIP, ZSTD, SPARSE = 0, 1, 5, 6


def saved(
    state: bytes, form: int = RAW, version: int = 2, magic: bytes = b"LibvirtQemudSave", room: int = 65536
) -> bytes:
    """A guest whose state QEMU has written, with room for a longer description."""
    head = struct.pack("<16s5I", magic, version, len(XML) + room, 1, form, 0)
    return head.ljust(92, b"\0") + XML + bytes(room) + state
