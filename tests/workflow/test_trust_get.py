"""From an image to its trusted kernel, by the machine's own apt: from a signed archive in a folder, and
(slow) from its real mirror."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from debian_archive import Archive, new_key, sign, write_archive

from hybridbridge_vol.cli.main import main
from hybridbridge_vol.errors import FetchError
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.kernel_origin import KernelOrigin, origin_of
from hybridbridge_vol.trust import modules
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.fetch import apt_sources, debian, debuginfod
from hybridbridge_vol.workflow.fetch.fetch_kernel import fetch_packages
from hybridbridge_vol.workflow.trust_get import trust_banner, trust_kernel_of

Lab = Any
Mirror = Callable[..., Path]

DEBIAN_7 = (
    "Linux version 7.2.9-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-15 (Debian 15.1.0-1)) #1 SMP "
    "PREEMPT_DYNAMIC Debian 7.2.9-1 (2026-10-01)"
)
OF_7 = {
    "linux-image-7.2.9-cloud-amd64=7.2.9-1": (
        "linux-base, linux-binary-7.2.9-cloud-amd64 (= 7.2.9-1), linux-modules-7.2.9-cloud-amd64 (= 7.2.9-1)"
    ),
    "linux-binary-7.2.9-cloud-amd64=7.2.9-1": "",
    "linux-modules-7.2.9-cloud-amd64=7.2.9-1": "",
    "linux-base": "",
}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_key(tmp_path_factory.mktemp("keys") / "home")


@pytest.fixture
def mirror(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """`mirror(archive)` is the machine's Debian mirror from then on, signed and checked; the lists that apt
    keeps are in a cache of their own."""

    def made(archive: Archive, signed: bool = True, kernels: dict[str, Path] | None = None) -> Path:
        root = tmp_path / "mirror"
        write_archive(root / "debian", archive, kernels)
        if signed:
            sign(root / "debian", key)
        (root / "etc").mkdir()
        # that a machine's owner trusts an archive without a signature makes no kernel of it a trusted one
        line = f"deb [signed-by={key} trusted=yes] file:{root}/debian bookworm main\n"
        (root / "etc" / "sources.list").write_text(line)
        (root / "os-release").write_text('NAME="Debian"\nID=debian\n')
        monkeypatch.setattr(apt_sources, "SOURCES", root / "etc")
        monkeypatch.setattr(debian, "OS_RELEASE", root / "os-release")
        monkeypatch.setattr(debian, "state_folder", lambda: tmp_path / "cache")
        return root / "debian"

    return made


def test_a_kernel_s_package_brings_the_packages_that_it_is_split_into(mirror: Mirror, tmp_path: Path) -> None:
    mirror({"bookworm": OF_7})
    assert fetched(origin(DEBIAN_7), tmp_path) == [
        "linux-binary-7.2.9-cloud-amd64_7.2.9-1_amd64.deb",
        "linux-image-7.2.9-cloud-amd64_7.2.9-1_amd64.deb",
        "linux-modules-7.2.9-cloud-amd64_7.2.9-1_amd64.deb",
    ]


def test_other_suites_of_the_mirror_are_asked_too(mirror: Mirror, tmp_path: Path) -> None:
    mirror({"bookworm": {"zlib1g": ""}, "unstable": OF_7})
    assert "linux-binary-7.2.9-cloud-amd64_7.2.9-1_amd64.deb" in fetched(origin(DEBIAN_7), tmp_path)


def test_another_version_of_the_package_is_another_kernel(mirror: Mirror, tmp_path: Path) -> None:
    mirror({"bookworm": {"linux-image-7.2.9-cloud-amd64=7.2.9-3": ""}})
    with pytest.raises(FetchError, match=r"7\.2\.9-1 in .*7\.2\.9-3, which is another") as caught:
        fetched(origin(DEBIAN_7), tmp_path)
    assert "Debian's archive of snapshots keeps every version" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kernel_that_no_suite_has_is_named_with_the_way_out(mirror: Mirror, tmp_path: Path) -> None:
    mirror({"bookworm": {"zlib1g": ""}})
    with pytest.raises(
        FetchError, match=r"apt has no linux-image-7\.2\.9-cloud-amd64 7\.2\.9-1.*hb trust add"
    ):
        fetched(origin(DEBIAN_7), tmp_path)


def test_an_archive_without_a_signature_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror({"bookworm": OF_7}, signed=False)
    with pytest.raises(FetchError, match="not signed"):
        fetched(origin(DEBIAN_7), tmp_path)


def test_a_package_that_was_changed_after_it_was_signed_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    package = mirror({"bookworm": OF_7}) / "pool" / "linux-image-7.2.9-cloud-amd64_7.2.9-1_amd64.deb"
    package.write_bytes(package.read_bytes()[:-1] + b"x")
    with pytest.raises(FetchError, match="apt-get failed"):
        fetched(origin(DEBIAN_7), tmp_path)


@pytest.mark.parametrize(
    ("banner", "commands"),
    [
        (
            "Linux version 6.5.6-300.fc39.x86_64 (mockbuild@x) (gcc) #1 SMP",
            "Fedora 39 run: dnf -q --releasever=39 download kernel-core-6.5.6-300.fc39.x86_64; ",
        ),
        (
            "Linux version 5.15.0-91-generic (buildd@x) (gcc) #101-Ubuntu SMP",
            (
                "Ubuntu run: apt-get download linux-image-5.15.0-91-generic=5.15.0-91.101; "
                "apt-get download linux-modules-5.15.0-91-generic=5.15.0-91.101; "
            ),
        ),
        (
            "Linux version 5.14.21-150500.55.39-default (geeko@buildhost) (gcc) #1 SMP",
            "zypper --non-interactive --pkg-cache-dir . download 'kernel-default = 5.14.21-150500.55.39.1'; ",
        ),
        (
            "Linux version 6.6.8-arch1-1 (linux@archlinux) (gcc) #1 SMP",
            "pacman -Sw --noconfirm --cachedir . linux (if it has another version: the Arch Linux Archive",
        ),
        (
            "Linux version 6.1.70-0-virt (buildozer@build-3-18-x86_64) (gcc) #1-Alpine SMP",
            "Alpine v3.18 run: apk fetch linux-virt=6.1.70-r0; ",
        ),
    ],
)
def test_commands_are_named_for_a_machine_that_has_the_client(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, banner: str, commands: str
) -> None:
    mirror({"bookworm": {"zlib1g": ""}})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError) as caught:
        fetch_packages(origin(banner), tmp_path)
    assert commands in str(caught.value)
    assert "hb trust add" in str(caught.value)


@pytest.mark.parametrize(("level", "is_asked"), [("PackageOptional", False), ("PackageRequired", True)])
def test_pacman_is_asked_only_if_it_insists_on_signatures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, is_asked: bool
) -> None:
    """What pacman 6.0 prints; the client itself is in no package of every Debian release."""
    programs, folder = tmp_path / "bin", tmp_path / "fetched"
    programs.mkdir()
    folder.mkdir()
    for name, line in (
        ("pacman-conf", f"echo {level}; echo PackageTrustedOnly"),
        ("pacman", "echo > linux.zst"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    asked = partial(
        fetch_packages, origin("Linux version 6.6.8-arch1-1 (linux@archlinux) (gcc) #1 SMP"), folder
    )
    if is_asked:
        assert asked() == [folder / "linux.zst"]
    else:
        with pytest.raises(FetchError, match="would take packages without a signature: set SigLevel"):
            asked()
        assert not list(folder.iterdir())


def test_a_banner_without_a_distribution_is_not_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="does not name a distribution"):
        trust_banner(Store(tmp_path / "store"), "Linux version 6.9.1 (me@home) (gcc) #1 SMP Fri May 17")


def test_a_kernel_of_another_build_is_not_added(mirror: Mirror, lab: Lab, tmp_path: Path) -> None:
    sample = lab.sample("6.1 two CPUs")
    stored = lab.kernel("6.1 two CPUs").banner
    banner = stored.replace("#1 SMP", "#2 SMP")
    made = origin(banner)
    package = f"{made.packages[0]}={made.version}"
    mirror({"bookworm": {package: ""}}, kernels={package: sample.kernel_package})
    store = Store(tmp_path / "store")
    with pytest.raises(FetchError, match="another build.*nothing was added"):
        trust_banner(store, banner)
    assert store.kernels() == []


@pytest.mark.slow
def test_an_image_is_answered_after_its_kernel_was_fetched_from_the_real_mirror(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "state_folder", lambda: tmp_path / "cache")
    sample = lab.sample("6.1 two CPUs")
    store = Store(tmp_path / "store")
    gotten = trust_kernel_of(store, sample.dump)
    (kernel,) = store.kernels()
    assert gotten.name == kernel.name == lab.kernel("6.1 two CPUs").name
    assert gotten.files and gotten.checked == "signatures checked by apt"
    assert len(modules.names(kernel.folder)) > 100
    with open_session(sample.dump, store.root) as session:
        assert session.system.uname().release == kernel.release
    assert trust_kernel_of(store, sample.dump).files == ()


def serve(folder: Path) -> ThreadingHTTPServer:
    """A server of the files in a folder, as debuginfod's protocol has them (debuginfod(8))."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_the_build_id_is_in_the_image(lab: Lab) -> None:
    kernel = lab.kernel("6.1 two CPUs")
    with open_image(lab.sample("6.1 two CPUs").dump) as image:
        assert debuginfod.build_id_of(image, kernel.release) == kernel.build_id
        assert debuginfod.build_id_of(image, "9.9.9") is None


def test_what_no_server_has_is_named_with_what_the_client_said(
    mirror: Mirror, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, kernel = lab.sample("6.1 two CPUs"), lab.kernel("6.1 two CPUs")
    mirror({"bookworm": {"zlib1g": ""}})
    server = serve(tmp_path / "mirror")
    monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:{server.server_port} file:///etc")
    with pytest.raises(FetchError, match=f"apt has no .*no debuginfod server has build id {kernel.build_id}"):
        trust_banner(Store(tmp_path / "store"), kernel.banner, image=sample.dump)
    server.shutdown()


@pytest.mark.slow
def test_a_kernel_comes_by_its_build_id_where_the_client_has_it_no_more(
    mirror: Mirror, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, kernel = lab.sample("6.1 two CPUs"), lab.kernel("6.1 two CPUs")
    mirror({"bookworm": {"zlib1g": ""}})
    place = tmp_path / "served" / "buildid" / kernel.build_id / "executable"
    place.parent.mkdir(parents=True)
    place.write_bytes(kernel.kernel_image().vmlinux)
    server = serve(tmp_path / "served")
    monkeypatch.setenv("DEBUGINFOD_URLS", f"http://127.0.0.1:{server.server_port}/")
    gotten = trust_kernel_of(Store(tmp_path / "store"), sample.dump)
    server.shutdown()
    assert str(gotten) == f"{kernel.name}: trusted, from vmlinux (from debuginfod, which signs nothing)"


def test_somebody_at_a_terminal_is_asked_whether_to_fetch(lab: Lab, tmp_path: Path) -> None:
    sample = lab.sample("6.1 two CPUs")
    command = [sys.executable, "-m", "hybridbridge_vol", "run", str(sample.dump), "uname"]
    command += ["--store", str(tmp_path / "store")]
    ours, theirs = pty.openpty()
    os.write(ours, b"no\n")
    done = subprocess.run(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, timeout=120, check=False
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode().replace("\r", "")
    os.close(ours)
    release = lab.kernel("6.1 two CPUs").release
    assert f"no trusted kernel for {release}; fetch linux-image-{release} (Debian)? [y/N] " in shown
    assert "hb trust add FILE" in shown
    assert (done.returncode, done.stdout) == (1, b"")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    assert b"[y/N]" not in done.stderr


@pytest.mark.slow
def test_a_run_fetches_the_kernel_that_it_lacks(
    mirror: Mirror, lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sample = lab.sample("6.1 two CPUs")
    made = origin(lab.kernel("6.1 two CPUs").banner)
    package = f"{made.packages[0]}={made.version}"
    mirror({"bookworm": {package: ""}}, kernels={package: sample.kernel_package})
    status = main(["run", str(sample.dump), "uname", "--fetch", "--store", str(tmp_path / "store")])
    out, err = capfd.readouterr()
    assert (status, made.release in out) == (0, True)
    assert f"trusted, from linux-image-{made.release}_" in err
    assert "signatures checked by apt" in err


def origin(banner: str) -> KernelOrigin:
    found = origin_of(banner)
    assert found is not None
    return found


def fetched(found: KernelOrigin, tmp_path: Path) -> list[str]:
    folder = tmp_path / "fetched"
    folder.mkdir()
    return [path.name for path in fetch_packages(found, folder)]
