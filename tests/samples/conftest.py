"""What tests of the sample maker need: a cache of their own, and an archive of Debian packages in a
folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from debian_archive import Archive, write_archive

from samples import apt, kernels
from samples.make import Spec

ARCHIVE: Archive = {
    "bullseye": {"linux-image-5.10.0-46-cloud-amd64": ""},
    "bookworm": {
        "linux-image-6.1.0-9-cloud-amd64": "",
        "linux-image-6.1.0-56-cloud-amd64": "",
        "linux-image-6.1.0-56-cloud-amd64-dbg": "",
        "linux-image-6.1.0-57-cloud-amd64-unsigned": "",
        "linux-image-6.1.0-56-amd64": "",
        "linux-image-6.1.0-57-rt-amd64": "",
        "linux-image-6.12.9+bpo-cloud-amd64": "",
        "linux-image-cloud-amd64": "linux-image-6.1.0-56-cloud-amd64",
        "procps": "libc6, libproc2-0 (>= 2:4.0.2), init-system-helpers",
        "libproc2-0": "libc6, libsystemd0 | libelogind0, zlib1g",
        "libelogind0": "",
        "libsystemd0": "libc6",
        "zlib1g": "libc6",
        "libc6": "libgcc-s1, debconf",
        "libgcc-s1": "libc6",
        "init-system-helpers": "",
        "debconf": "libdebconf",
        "libdebconf": "",
    },
    "trixie": {
        "linux-image-6.12.117+deb13-cloud-amd64": "",
        "linux-image-6.12.117+deb13-amd64": "",
        "linux-image-6.12.99+deb13-cloud-amd64": "",
    },
    "sid": {
        "linux-image-7.2.10-cloud-amd64": "linux-binary-7.2.9-cloud-amd64",
        "linux-binary-7.2.9-cloud-amd64": "",
        "linux-modules-7.2.9-cloud-amd64": "",
    },
}


def _forget() -> None:
    """Forget what mirrors were asked."""
    for asked in (apt._state, kernels.fetch, kernels.modules_package):
        asked.cache_clear()


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The archive `ARCHIVE`, which apt takes for the machine's Debian mirror; downloads go to an empty
    cache."""
    root = tmp_path_factory.mktemp("mirror")
    write_archive(root / "debian", ARCHIVE)
    (root / "etc").mkdir()
    (root / "etc" / "sources.list").write_text(f"deb [trusted=yes] file:{root}/debian bookworm main\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HB_SAMPLES", str(root / "cache"))
        patch.setattr(apt, "SOURCES", root / "etc")
        _forget()
        yield root
    _forget()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of images."""
    monkeypatch.setenv("HB_SAMPLES", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that is no kernel's: whoever tries to make an image of it is told so."""
    from package_makers import deb

    path = tmp_path / "linux-image-6.6.6-mini_1_amd64.deb"
    path.write_bytes(deb([("usr/share/doc/mini", 0o100644, b"mini")]))
    return path


@pytest.fixture
def keep(cache: Path, package: Path) -> Callable[..., Path]:
    """`keep(spec)`: the cache holds a finished image of it from now on; its folder. `version` is the
    maker's."""

    def kept(spec: Spec, version: str = "") -> Path:
        name = spec.name(package)
        folder = cache / "images" / (name[:-8] + version if version else name)
        folder.mkdir(parents=True)
        (folder / "dump.raw").write_bytes(b"memory")
        (folder / "truth.json").write_text(json.dumps({"commands": {"hostname": "sample-1\n"}}))
        (folder / "meta.json").write_text("{}")
        return folder

    return kept
