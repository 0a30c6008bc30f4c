"""The modules of a kernel package, in an order in which they can be loaded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from hybridbridge_vol.kernel_file.archives.streams import decompressed_bytes
from hybridbridge_vol.kernel_file.packages import members


@dataclass(frozen=True)
class Module:
    """A module to load. One that is not `required` may refuse to load: on a CPU that lacks what it drives."""

    name: str
    data: bytes
    required: bool


def load_order(package: Path, wanted: Iterable[str]) -> list[Module]:
    """The `wanted` modules that the package has, and before them those that they depend on, or ask for by a
    softdep."""
    files = {}
    algorithms = {}
    for member in members(package, "*/kernel/*.ko*"):
        name = PurePosixPath(member.name).name.split(".ko")[0].replace("-", "_")
        files[name] = member.data
        if "/crypto/" in member.name:
            algorithms[name] = member.data
    needed = Counter[str]()
    ordered: dict[str, bytes] = {}
    visiting: set[str] = set()

    @cache
    def of_algorithm(alias: str) -> list[str]:
        return sorted(name for name, data in algorithms.items() if alias in aliases(decompressed_bytes(data)))

    def visit(name: str, required: bool) -> None:
        if name not in files:
            return
        needed[name] += required
        if name in visiting:
            return
        visiting.add(name)
        data = decompressed_bytes(files[name])
        for asked in softdeps(data):
            underscored = asked.replace("-", "_")
            for helper in [underscored] if underscored in files else of_algorithm(asked):
                visit(helper, False)
        for dependency in dependencies(data):
            visit(dependency, required)
        ordered[name] = data

    for name in wanted:
        visit(name.replace("-", "_"), True)
    return [Module(name, data, needed[name] > 0) for name, data in ordered.items()]


def dependencies(module: bytes) -> list[str]:
    """The names in the `depends=` line of a module's .modinfo section, with underscores."""
    return [
        name.replace("-", "_") for line in _modinfo(module, b"depends") for name in line.split(",") if name
    ]


def softdeps(module: bytes) -> list[str]:
    """What should be loaded before a module, if it can be (`softdep=pre: crc32c`, include/linux/module.h,
    MODULE_SOFTDEP): modules, or algorithms by their alias."""
    found = []
    for line in _modinfo(module, b"softdep"):
        place = ""
        for word in line.split():
            if word.endswith(":"):
                place = word
            elif place == "pre:":
                found.append(word)
    return found


def aliases(module: bytes) -> list[str]:
    """The other names of a module: of algorithms (include/linux/crypto.h, MODULE_ALIAS_CRYPTO), and patterns
    of devices."""
    return _modinfo(module, b"alias")


def _modinfo(module: bytes, key: bytes) -> list[str]:
    """The lines of .modinfo with this key."""
    return [
        value.decode("utf-8", "replace")
        for value in re.findall(rb"(?:^|(?<=\0))" + key + rb"=([^\0]*)\0", module)
    ]
