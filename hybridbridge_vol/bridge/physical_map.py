"""The guest-physical address map of a bridge's machines.

Everything lies below 1 TiB: Unicorn faults on page-table entries with more than 40 physical bits.

    0                  the trusted kernel's RAM                    one boot, copy-on-write      rolled back
    4 GiB              the proxy task's user memory                paths, buffers
    4 GiB + 16 MiB     programs of several calls
    4 GiB + 64 MiB     data of added modules                       zero at first                rolled back
    128 GiB            page tables of the snapshot's address space
    192 GiB            the twin, and the trusted code of modules
    248 GiB            pages of devices                        zeros, whatever is written
    256 GiB            the image, at its own physical addresses    copy-on-write                rolled back

Page tables and the twin are not rolled back with a failed call: they follow from the image and from what is
proven, not from what calls do.
"""

from __future__ import annotations

USER_PADDR = 4 << 30
PROGRAM_PADDR = (4 << 30) + (16 << 20)
ADDED_PADDR = (4 << 30) + (64 << 20)
TABLES_PADDR = 128 << 30
TWIN_PADDR = 192 << 30
DEVICES_PADDR = 248 << 30
SNAPSHOT_PADDR = 256 << 30
MAX_SNAPSHOT = (1 << 40) - SNAPSHOT_PADDR
"""Bytes of physical address space that an image may have."""
