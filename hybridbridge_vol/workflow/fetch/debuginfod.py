"""A kernel by its build id from the debuginfod servers that the user has configured (debuginfod(8)).

These sign nothing: what they serve is trusted as far as `DEBUGINFOD_URLS` and the connection are. The
kernel's ELF that comes is as linked; whether it can be used is seen when it is read.
"""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from hybridbridge_vol.errors import FetchError
from hybridbridge_vol.kernel_file.archives.streams import MAX_MEMBER_SIZE
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.snapshot.banner import text_places

URLS = "DEBUGINFOD_URLS"
_SECONDS = 60
"""A server that is silent for so long has nothing to say."""
_PIECE = 1 << 20
_NOTE = 128
"""Bytes of vmcoreinfo that are looked at: it begins with OSRELEASE and BUILD-ID (kernel/crash_core.c)."""


def servers() -> list[str]:
    """The servers that are configured."""
    return os.environ.get(URLS, "").split()


def build_id_of(image: PhysicalImage, release: str) -> str | None:
    """The build id of the kernel of a release, as its vmcoreinfo has it, in hex. Reads the whole image."""
    start = f"OSRELEASE={release}\n"
    for paddr in text_places(image, start):
        note = image.read_available(paddr, _NOTE) or b""
        match = re.match(rb"BUILD-ID=([0-9a-f]{16,64})\n", note[len(start) :])
        if match:
            return match[1].decode()
    return None


def fetch_by_build_id(build_id: str, folder: Path) -> Path:
    """The kernel's ELF with a build id, written into `folder`. FetchError if no server has it."""
    reasons = []
    for server in servers():
        for kind in ("executable", "debuginfo"):
            url = f"{server.rstrip('/')}/buildid/{build_id}/{kind}"
            try:
                return _download(url, folder / "vmlinux")
            except (OSError, ValueError, http.client.HTTPException) as error:
                reasons.append(f"{url}: {' '.join(str(error).split()) or type(error).__name__}")
    raise FetchError(f"no debuginfod server has build id {build_id} ({'; '.join(reasons)})")


def _download(url: str, path: Path) -> Path:
    """OSError, ValueError, HTTPException."""
    if not url.startswith(("https://", "http://")):
        raise ValueError("not an address of a server")
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer, open(path, "wb") as file:
        while piece := answer.read(_PIECE):
            if file.tell() + len(piece) > MAX_MEMBER_SIZE:
                raise ValueError("larger than a kernel")
            file.write(piece)
    return path
