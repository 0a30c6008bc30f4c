"""A Debian archive in a folder, as apt reads one, with or without a signature."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from package_makers import deb

Archive = Mapping[str, Mapping[str, str]]
"""Suite to packages with what they depend on. Packages are of version 1, or of the one in `NAME=VERSION`."""


def write_archive(root: Path, archive: Archive, kernels: Mapping[str, Path] | None = None) -> None:
    """A Debian archive (https://wiki.debian.org/DebianRepository/Format). Packages are small ones, but for
    those in `kernels`, which are the `.deb` given there."""
    (root / "pool").mkdir(parents=True)
    for suite, packages in archive.items():
        index = "".join(
            _entry(root, name, depends, (kernels or {}).get(name)) for name, depends in packages.items()
        )
        place = root / "dists" / suite / "main" / "binary-amd64" / "Packages"
        place.parent.mkdir(parents=True)
        place.write_text(index)
        digest = hashlib.sha256(index.encode()).hexdigest()
        (root / "dists" / suite / "Release").write_text(
            f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
            f"Date: Thu, 01 Jan 2026 00:00:00 UTC\n"
            f"SHA256:\n {digest} {len(index)} main/binary-amd64/Packages\n"
        )


def _entry(root: Path, name: str, depends: str, kernel: Path | None) -> str:
    """Put a package into the pool; its paragraph of the index."""
    name, _equals, version = name.partition("=")
    version = version or "1"
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: nobody\n"
    control += f"Description: {name}\n" + (f"Depends: {depends}\n" if depends else "")
    made = deb([("usr/share/" + name, 0o100644, name.encode())], "none", control)
    data = kernel.read_bytes() if kernel else made
    file = f"pool/{name}_{version}_amd64.deb"
    (root / file).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return f"{control}Filename: {file}\nSize: {len(data)}\nSHA256: {digest}\n\n"


def new_key(folder: Path) -> Path:
    """A signing key in `folder`, made for a test; the file with its public part."""
    folder.mkdir(mode=0o700)
    _gpg(folder, "--passphrase", "", "--quick-generate-key", "nobody <nobody@example.org>", "ed25519")
    public = folder / "public.gpg"
    _gpg(folder, "--output", str(public), "--export")
    return public


def sign(root: Path, key: Path) -> None:
    """Sign every suite of an archive."""
    for release in root.glob("dists/*/Release"):
        signed = release.with_name("InRelease")
        signed.unlink(missing_ok=True)
        _gpg(key.parent, "--output", str(signed), "--clear-sign", str(release))


def _gpg(home: Path, *arguments: str) -> None:
    command = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments]
    subprocess.run(command, check=True, env=os.environ | {"GNUPGHOME": str(home)}, timeout=60)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True, timeout=60)
