"""Memory that can never be answered is named for what it is: another processor's, or encrypted."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol.errors import ImageError, KernelNotFound, UnusableKernel
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.kernel_file.packages import members, read_vmlinuz
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.banner import scan_banners
from hybridbridge_vol.snapshot.foreign_memory import encrypted, noise_share, other_processor
from hybridbridge_vol.workflow.describe_image import describe
from hybridbridge_vol.workflow.fetch.apt import apt_cache, apt_download, apt_state
from hybridbridge_vol.workflow.fetch.apt_sources import SOURCES, debian_archives, machine_sources

Lab = Any
PAGE = 4096
GUEST_SECONDS = 300


def test_a_real_guest_is_of_64_bit_x86_and_not_encrypted(lab: Lab, generation: str) -> None:
    with open_image(lab.sample(generation).dump) as image:
        assert other_processor(image, scan_banners(image)[0][0]) is None
        assert encrypted(image) is None
        noise, pages = noise_share(image)
        assert noise < pages / 3


def test_memory_that_only_its_guest_can_read_is_called_encrypted(lab: Lab, tmp_path: Path) -> None:
    """As the host sees a confidential guest: noise wherever the guest has written, zeros elsewhere."""
    path = tmp_path / "encrypted.raw"
    zeros = bytes(PAGE)
    with open(lab.sample("6.1 two CPUs").dump, "rb") as plain, open(path, "wb") as file:
        while page := plain.read(PAGE):
            file.write(os.urandom(PAGE) if page != zeros else zeros)
    with pytest.raises(KernelNotFound, match=r"no Linux kernel.*almost certainly encrypted.*SEV, TDX.*LiME"):
        open_session(path, tmp_path / "store").close()


def test_memory_that_is_noise_in_part_is_perhaps_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "half.raw"
    path.write_bytes((os.urandom(9 * PAGE) + b"text" * (PAGE // 4)) * 400)
    with open_image(path) as image:
        assert "perhaps encrypted" in str(encrypted(image))
    path.write_bytes((os.urandom(PAGE) + b"text" * (PAGE // 4)) * 2000)
    with open_image(path) as image:
        assert encrypted(image) is None


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Debian's kernels for arm64 and 32-bit x86, and an emulator for arm64."""
    folder = tmp_path_factory.mktemp("other processors")
    (folder / "apt.conf").write_text('APT::Architectures { "amd64"; "arm64"; "i386"; };\n')
    main, _security = debian_archives(machine_sources(SOURCES))
    line = main.line("oldstable").replace("arch=amd64", "arch=amd64,arm64,i386")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APT_CONFIG", str(folder / "apt.conf"))
        state = apt_state(folder / "apt", [line])
        names = {name.partition(":")[0] for name in apt_cache(state, "pkgnames").split()}
        wanted = [
            max(name for name in names if re.fullmatch(rf"linux-image-6\.1\.0-\d+-{flavour}", name)) + arch
            for flavour, arch in (("cloud-arm64", ":arm64"), ("686", ":i386"))
        ]
        for package in (*wanted, "qemu-system-arm"):
            apt_download(state, [package], folder)
    (arm,), (i386,) = folder.glob("linux-image-*_arm64.deb"), folder.glob("linux-image-*_i386.deb")
    (emulator,) = folder.glob("qemu-system-arm_*.deb")
    (binary,) = members(emulator, "usr/bin/qemu-system-aarch64")
    program = folder / "qemu-system-aarch64"
    program.write_bytes(binary.data)
    program.chmod(0o755)
    return {"arm64": arm, "32-bit x86": i386, "emulator": program}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "machine", "console"),
    [
        ("arm64", ["-M", "virt,memory-backend=ram", "-cpu", "cortex-a57"], "ttyAMA0"),
        ("32-bit x86", ["-M", "pc,memory-backend=ram"], "ttyS0"),
    ],
)
def test_a_guest_of_another_processor_is_named_and_no_package_is_offered(
    packages: dict[str, Path], tmp_path: Path, processor: str, machine: list[str], console: str
) -> None:
    emulator = str(packages["emulator"]) if processor == "arm64" else "qemu-system-x86_64"
    if processor == "arm64" and subprocess.run([emulator, "--version"], check=False).returncode:
        pytest.skip("the emulator for arm64 does not run on this machine")
    (tmp_path / "vmlinuz").write_bytes(read_vmlinuz(packages[processor]))
    image = tmp_path / "memory.raw"
    run_until_panic(emulator, machine, console, tmp_path / "vmlinuz", image)
    with pytest.raises(UnusableKernel, match=f"is for {processor}; only kernels of 64-bit x86"):
        open_session(image, tmp_path / "store").close()
    facts = describe(image, tmp_path / "store")
    assert facts.package is None
    assert "hb trust" not in str(facts.next_step)
    assert f"is for {processor}" in str(facts.next_step)


def run_until_panic(emulator: str, machine: list[str], console: str, kernel: Path, image: Path) -> None:
    """Boot a kernel without a root file system, and keep the memory with which it gave up."""
    ram = image.with_name("ram")
    command = [
        emulator, *machine, "-m", "256M", "-nodefaults", "-display", "none", "-nic", "none", "-no-reboot",
        "-object", f"memory-backend-file,id=ram,size=256M,mem-path={ram},share=on", "-kernel", str(kernel),
        "-append", f"console={console} panic=0", "-serial", f"file:{image.with_name('console')}",
    ]  # fmt: skip
    guest = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + GUEST_SECONDS
        shown = image.with_name("console")
        while not (shown.exists() and b"end Kernel panic" in shown.read_bytes()):
            assert guest.poll() is None and time.monotonic() < deadline
            time.sleep(0.5)
        shutil.copyfile(ram, image)
    finally:
        guest.kill()
        guest.wait()


def test_an_elf_core_of_another_processor_is_named(tmp_path: Path) -> None:
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 4, 183, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    path = tmp_path / "arm.elf"
    path.write_bytes(head + bytes(1 << 20))
    with pytest.raises(ImageError, match=r"a machine with arm64 .*only that of 64-bit x86"):
        open_image(path).close()
