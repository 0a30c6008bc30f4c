"""The kernel and its modules out of a kernel package, the modules in an order in which they can be loaded."""

from __future__ import annotations

import gzip
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
        files[name] = member.data
    ordered: dict[str, bytes] = {}
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in visiting or name not in files:
            return
        visiting.add(name)
        data = _plain(files[name])
        for dependency in dependencies(data):
            visit(dependency)
        ordered[name] = data

    for name in wanted:
        visit(name.replace("-", "_"))
    return list(ordered.items())


def _plain(data: bytes) -> bytes:
    if data.startswith(b"\xfd7zXZ"):
        return lzma.decompress(data)
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def dependencies(module: bytes) -> list[str]:
    """The names in the `depends=` line of a module's .modinfo section, with underscores."""
    match = re.search(rb"(?:^|\0)depends=([\w,-]*)\0", module)
    return [name.replace("-", "_") for name in match[1].decode().split(",") if name] if match else []
