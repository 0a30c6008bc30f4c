"""A guest that has mounted a folder of its own by NFS: its kernel is server and client."""

from __future__ import annotations

from pathlib import Path

import own_guest

PROGRAM = Path(__file__).parent / "guest" / "nfs.c"
MODULES = ("nfsd", "nfsv4")
PLACE = "/mnt"
"""Where it is mounted."""


def image_of(kernel: str) -> Path:
    """The guest's memory, made only once; `kernel` as `samples.kernels.fetch` takes it."""
    return own_guest.image_of("nfs", kernel, PROGRAM, MODULES)
