"""Small static programs for the guest, out of C, on a machine that has no compiler.

The compiler (tcc) and the C library (musl) come as Debian packages of together 1.3 MB and are used where they
are unpacked; compiling takes milliseconds.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from hybridbridge_vol.kernel_file.packages import members
from samples.apt import AptError, download, own_suite
from samples.unpacked import unpacked

_PACKAGES = ("tcc", "musl-dev")
_TCC = "usr/lib/x86_64-linux-gnu/tcc"
_MUSL = "usr/lib/x86_64-linux-musl"


@cache
def _tree() -> Path:
    """The unpacked packages."""
    return unpacked("compiler", download(_PACKAGES, (own_suite(),)), _unpack)


def _unpack(package: Path, target: Path) -> None:
    for member in members(
        package, "usr/bin/tcc", f"{_TCC}/*", f"{_MUSL}/*", "usr/include/x86_64-linux-musl/*"
    ):
        path = target / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not member.link:
            path.write_bytes(member.data)
            path.chmod(member.mode & 0o777)


def sources(source: Path) -> list[Path]:
    """A C file, and the files beside it that it includes."""
    included = re.findall(r'^#include "([^"]+)"$', source.read_text(), re.MULTILINE)
    return [source, *(source.parent / name for name in included)]


def compile_static(source: Path) -> bytes:
    """The ELF program that a C file makes. AptError with the compiler's message if it does not compile."""
    tree = _tree()
    tcc, musl = tree / _TCC, tree / _MUSL
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "program"
        command: list[str | Path] = [
            tree / "usr/bin/tcc", f"-B{tcc}", "-nostdinc",
            f"-I{tcc}/include", f"-I{tree}/usr/include/x86_64-linux-musl", "-nostdlib", "-static",
            "-o", target, musl / "crt1.o", musl / "crti.o", source, musl / "libc.a", tcc / "libtcc1.a",
            musl / "libc.a", musl / "crtn.o",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = done.stderr.strip().splitlines()
            raise AptError(f"{source.name} does not compile: {words[-1] if words else 'no reason given'}")
        return target.read_bytes()
