"""Packages of Alpine and Arch Linux and unified kernel images, made of a real kernel by standard tools."""

from __future__ import annotations

import gzip
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.packages import dependencies, is_package, members, read_vmlinuz
from hybridbridge_vol.kernel_file.unified_image import inner_kernel
from hybridbridge_vol.trust import modules
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.apt import download, own_suite

Lab = Any
GENERATION = "6.1 two CPUs"
PKGINFO = "pkgname = linux-virt\npkgver = 6.1.192-r0\ndepend = initramfs-generator\ndepend = kmod\n"
MODULES = 20


@pytest.fixture(scope="module")
def tree(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel and some of its modules, unpacked."""
    root = tmp_path_factory.mktemp("tree")
    package = lab.sample(GENERATION).kernel_package
    for count, member in enumerate(members(package, "*.ko")):
        if count == MODULES:
            break
        path = root / "lib" / member.name[member.name.index("modules/") :]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(member.data)
    (root / "boot").mkdir()
    (root / "boot" / "vmlinuz-virt").write_bytes(read_vmlinuz(package))
    (root / ".PKGINFO").write_text(PKGINFO)
    return root


def tar(root: Path, *names: str, options: tuple[str, ...] = ()) -> bytes:
    return subprocess.run(
        ["tar", *options, "-cf", "-", "-C", root, *names], check=True, capture_output=True
    ).stdout


def cut(data: bytes) -> bytes:
    """A tar without the zeros that end it, as `abuild-tar --cut` leaves it."""
    data = data.rstrip(b"\0")
    return data + bytes(-len(data) % 512)


def apk(tree: Path, path: Path, *names: str) -> Path:
    """Three gzip streams: signature, control, data (https://wiki.alpinelinux.org/wiki/Apk_spec)."""
    (tree / ".SIGN.RSA.nobody.rsa.pub").write_bytes(b"no signature")
    parts = (cut(tar(tree, ".SIGN.RSA.nobody.rsa.pub")), cut(tar(tree, ".PKGINFO")), tar(tree, *names))
    path.write_bytes(b"".join(gzip.compress(part, 1) for part in parts))
    return path


def arch(tree: Path, path: Path, compress: str, *names: str) -> Path:
    """What makepkg makes: .PKGINFO first, usr/lib/modules/VERSION/vmlinuz, compressed."""
    to_usr = "--transform=s,^\\(lib\\|boot\\)/,usr/&,"
    (release,) = (item.name for item in (tree / "lib" / "modules").iterdir())
    vmlinuz = f"--transform=s,usr/boot/vmlinuz-virt,usr/lib/modules/{release}/vmlinuz,"
    data = tar(tree, ".PKGINFO", *names, options=(to_usr, vmlinuz))
    path.write_bytes(
        subprocess.run([compress, "-1", "-c"], input=data, check=True, capture_output=True).stdout
    )
    return path


def uki(tree: Path, path: Path, stub: Path) -> Path:
    """As `ukify` and dracut do it: sections added to systemd's stub."""
    (tree / "cmdline").write_text("quiet")
    sections = [
        (".cmdline", tree / "cmdline", 0x30000),
        (".linux", tree / "boot" / "vmlinuz-virt", 0x2000000),
    ]
    options = [
        word
        for name, file, vma in sections
        for word in ("--add-section", f"{name}={file}", "--change-section-vma", f"{name}={vma:#x}")
    ]
    subprocess.run(["objcopy", *options, stub, path], check=True)
    return path


def hand_made(kernel: bytes, size_in_memory: int | None = None) -> bytes:
    """A PE file with the kernel in its second section."""
    header = struct.pack("<HHIIIHH", 0x8664, 2, 0, 0, 0, 0, 0x22)
    start = 0x400
    padded = kernel + bytes(-len(kernel) % 512)
    table = struct.pack("<8sIIIIIIHHI", b".text", 16, 0x1000, 512, 0x200, 0, 0, 0, 0, 0)
    seen = len(kernel) if size_in_memory is None else size_in_memory
    table += struct.pack("<8sIIIIIIHHI", b".linux", seen, 0x2000, len(padded), start, 0, 0, 0, 0, 0)
    head = b"MZ" + bytes(0x3A) + struct.pack("<I", 0x40) + b"PE\0\0" + header + table
    return head.ljust(start, b"\0") + padded


@pytest.mark.parametrize("kind", ["apk", "pkg.tar.zst", pytest.param("pkg.tar.xz", marks=pytest.mark.slow)])
def test_a_kernel_and_its_modules_are_read_from_the_package(tree: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"linux.{kind}"
    compressors = {"pkg.tar.zst": "zstd", "pkg.tar.xz": "xz"}
    made = (
        apk(tree, path, "boot", "lib")
        if kind == "apk"
        else arch(tree, path, compressors[kind], "boot", "lib")
    )
    kernel = (tree / "boot" / "vmlinuz-virt").read_bytes()
    assert read_vmlinuz(made) == kernel
    found = dict(modules.module_files(made))
    assert found == {file.stem.replace("-", "_"): file.read_bytes() for file in tree.rglob("*.ko")}
    assert modules.release(made) == next((tree / "lib" / "modules").iterdir()).name
    assert dependencies(made) == ["initramfs-generator", "kmod"]


def test_a_tar_that_is_not_compressed_is_a_package_too(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "linux.tar"
    path.write_bytes(tar(tree, "boot"))
    assert read_vmlinuz(path) == (tree / "boot" / "vmlinuz-virt").read_bytes()


def test_a_package_without_a_kernel_names_its_dependencies(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(KernelFileError, match="a package without a kernel"):
        read_vmlinuz(apk(tree, tmp_path / "modules.apk", "lib"))


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_a_kernel_that_is_compressed_is_not_taken_for_a_package(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(pack(b"MZ a kernel" * 1000))
    with open(path, "rb") as stream:
        assert not is_package(stream)


def test_the_kernel_of_a_unified_image_is_found(tree: Path, tmp_path: Path) -> None:
    kernel = (tree / "boot" / "vmlinuz-virt").read_bytes()
    path = tmp_path / "linux.efi"
    path.write_bytes(hand_made(kernel))
    assert read_vmlinuz(path) == kernel
    assert inner_kernel(kernel, "vmlinuz") is kernel, "a vmlinuz is a PE program, too"


def test_a_damaged_unified_image_is_reported() -> None:
    whole = hand_made(b"kernel" * 1000)
    with pytest.raises(KernelFileError, match=r"^linux\.efi: its section \.linux is truncated"):
        inner_kernel(whole[:2000], "linux.efi")
    for size in (0, 2, 60, 64, 70, 90, 150):
        assert inner_kernel(whole[:size], "linux.efi") == whole[:size]


@pytest.mark.slow
def test_a_unified_image_made_by_objcopy_and_modules_given_apart_are_trusted(
    tree: Path, tmp_path: Path
) -> None:
    (package,) = download(["systemd-boot-efi"], (own_suite(),))
    (member,) = members(package, "*/linuxx64.efi.stub")
    stub = tmp_path / "stub"
    stub.write_bytes(member.data)
    store = Store(tmp_path / "store")
    entry = enroll(store, uki(tree, tmp_path / "linux.efi", stub))
    folder = store.find(entry.name).folder
    assert modules.names(folder) == []
    assert enroll(store, arch(tree, tmp_path / "modules.pkg.tar.zst", "zstd", "lib")).name == entry.name
    assert len(modules.names(folder)) == MODULES


@pytest.mark.slow
def test_a_package_of_alpine_is_trusted_with_its_modules(tree: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entry = enroll(store, apk(tree, tmp_path / "linux-virt.apk", "boot", "lib"))
    assert len(modules.names(store.find(entry.name).folder)) == MODULES
