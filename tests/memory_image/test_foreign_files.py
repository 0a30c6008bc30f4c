"""Files of foreign formats are named, in one line with the way out."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.open import open_image

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
MEMORY = bytes(range(256)) * (3 * MIB // 256)


def tar(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("dump.raw")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("dump.raw", data)
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def lz4(data: bytes) -> bytes:
    import lz4.frame

    return bytes(lz4.frame.compress(data))


def named(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("pack", "command"),
    [
        (gzip.compress, "gzip -dk"), (lzma.compress, "xz -dk"), (bz2.compress, "bzip2 -dk"),
        (zstd, "zstd -d"), (lz4, "lz4 -d"), (zipped, "unzip"), (tar, "tar -xf"),
    ],
)  # fmt: skip
def test_packed_files_of_real_programs_are_named_with_the_command_that_unpacks_them(
    tmp_path: Path, pack: Callable[[bytes], bytes], command: str
) -> None:
    path = tmp_path / "a dump"
    path.write_bytes(pack(MEMORY))
    assert f"{command} '{path}'" in named(path)


@pytest.mark.parametrize(
    ("offset", "magic", "words"),
    [
        (0, b"7z\xbc\xaf\x27\x1c", "7z x"), (0, b"Rar!\x1a\x07\x01\0", "unrar"),
        (0, b"EVF\t\r\n\xff\0", "ewfexport"), (0, b"QFI\xfb", "QCOW2"), (0, b"KDMV", r"VMDK.*\.vmem"),
        (0, b"COWD", "VMDK"), (0, b"# Disk DescriptorFile", "VMDK"), (0x40, b"\x7f\x10\xda\xbe", "VDI"),
        (0, b"conectix", "VHD"), (0, b"vhdxfile", "VHDX"), (512, b"EFI PART", "GPT"),
        (4086, b"SWAPSPACE2", "swap area"), (4086, b"S1SUSPEND", "hibernation"),
        (0, b"PAGEDU64", "Windows crash dump"), (0, b"PAGEDUMP", "Windows crash dump"),
        (0, b"MDMP", "Windows minidump"), (0, b"HIBR", "Windows hibernation"),
        (0, b"hibr", "Windows hibernation"), (0, b"\xcf\xfa\xed\xfe", "Mach-O"),
        (0, b"\x14\x20\x28\x01", r"Hyper-V saved state.*LiME.*hvsavedstate"),
        (0, b"\x7fVirtualBox SavedState V2.0", "dumpvmcore"),
        (0x202, b"HdrS", "hb trust add"), (0, b"!<arch>\n", "hb trust add"),
        (0, b"<!DOCTYPE html>", "web page"),
    ],
)  # fmt: skip
def test_other_files_are_named_by_their_magic(tmp_path: Path, offset: int, magic: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes((bytes(offset) + magic).ljust(4 * MIB, b"\0"))
    with pytest.raises(ImageError, match=words):
        open_image(path)
    named(path)


def test_volatilitys_command_line_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(MEMORY))
    vol = [
        str(Path(sys.executable).parent / "vol"),
        "-q",
        "-p",
        str(ROOT / "plugins"),
        "-f",
        str(path),
        "hb.ps",
    ]
    done = subprocess.run(vol, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr == f"hb.ps: {path}: compressed (gzip); decompress it first: gzip -dk {path}\n"
