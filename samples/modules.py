"""Kernel modules out of a kernel package, in an order in which they can be loaded."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from hybridbridge_vol.image.packages import members


def load_order(package: Path, wanted: Iterable[str]) -> list[tuple[str, bytes]]:
    """`(name, contents)` of the `wanted` modules that the package has, and those they depend on before them."""
    files = {}
    for member in members(package, "*/kernel/*.ko*"):
        name = PurePosixPath(member.name).name.split(".ko")[0].replace("-", "_")
        files[name] = member
    ordered: dict[str, bytes] = {}

    def visit(name: str) -> None:
        if name in ordered or name not in files:
            return
        data = _plain(files[name].data)
        for dependency in _dependencies(data):
            visit(dependency)
        ordered[name] = data

    for name in wanted:
        visit(name)
    return list(ordered.items())


def _plain(data: bytes) -> bytes:
    if data.startswith(b"\xfd7zXZ"):
        return lzma.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def _dependencies(module: bytes) -> list[str]:
    """The `depends=` line of a module's .modinfo."""
    match = re.search(rb"(?:^|\0)depends=([\w,-]*)\0", module)
    return [name.replace("-", "_") for name in match[1].decode().split(",") if name] if match else []
