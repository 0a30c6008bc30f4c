"""Foreign formats: files that are often given instead of a memory image. Each is named, with the way out.

No magic here may lie where a machine's memory has data of its own: the first page has interrupt vectors and
the BIOS's variables, and Linux leaves it alone.
"""

from __future__ import annotations

import shlex

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.image_file import ImageFile

_DECOMPRESS = "compressed ({}); decompress it first: {}"
_UNPACK = "an archive ({}); unpack it first: {}"
_DISK = "a disk image ({}), not memory"
_WINDOWS = "a Windows {}, not Linux memory; Volatility's windows.* plugins may read it"
_PACKAGE = "a package, not a memory image; 'hb trust add FILE' takes it"
_HYPER_V = (
    "a Hyper-V saved state (.vmrs), which is not read; take its memory from inside of the guest (LiME, AVML) "
    "or convert it on the Hyper-V host with LeechCore (hvsavedstate://)"
)
_OLD_XEN = "a Xen core in the format before Xen 3.1, which is not read; dump again with 'xl dump-core'"
_MACH_O = "a Mach-O file (of macOS), not Linux memory"

_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", _DECOMPRESS.format("gzip", "gzip -dk FILE")),
    (0, b"\x1f\x9d", _DECOMPRESS.format("compress", "gzip -dk FILE")),
    (0, b"\xfd7zXZ\0", _DECOMPRESS.format("xz", "xz -dk FILE")),
    (0, b"\x28\xb5\x2f\xfd", _DECOMPRESS.format("zstd", "zstd -d FILE")),
    (0, b"BZh", _DECOMPRESS.format("bzip2", "bzip2 -dk FILE")),
    (0, b"\x04\x22\x4d\x18", _DECOMPRESS.format("lz4", "lz4 -d FILE")),
    (0, b"\x02\x21\x4c\x18", _DECOMPRESS.format("lz4", "lz4 -d FILE")),
    (0, b"LZIP\1", _DECOMPRESS.format("lzip", "lzip -dk FILE")),
    (0, b"\x89LZO\0\r\n\x1a\n", _DECOMPRESS.format("lzop", "lzop -d FILE")),
    (0, b"PK\x03\x04", _UNPACK.format("zip", "unzip FILE")),
    (0, b"7z\xbc\xaf\x27\x1c", _UNPACK.format("7z", "7z x FILE")),
    (0, b"Rar!\x1a\x07", _UNPACK.format("rar", "unrar x FILE")),
    (257, b"ustar", _UNPACK.format("tar", "tar -xf FILE")),
    (0, b"EVF\x09\r\n\xff\0", "an EnCase image (E01); export what it holds first: ewfexport FILE"),
    (0, b"EVF2\r\n\x81\0", "an EnCase image (Ex01); export what it holds first: ewfexport FILE"),
    (
        0,
        b"\x7fVirtualBox SavedState",
        "a VirtualBox saved state; resume it and run 'VBoxManage debugvm VM dumpvmcore'",
    ),
    (
        0,
        b"\x14\x20\x28\x01",
        _HYPER_V,
    ),
    (0, b"\xed\xeb\x0f\xf0", _OLD_XEN),
    (0, b"\xee\xeb\x0f\xf0", _OLD_XEN),
    (0, b"ZDMP", _WINDOWS.format("crash dump compressed by DumpIt") + " after z2dmp has unpacked it"),
    (0, b"LinuxGuestRecord", "a guest saved by Xen; restore it and write its memory with 'xl dump-core'"),
    (0, b"VMA\0", "a Proxmox backup, not memory"),
    (0, b"QFI\xfb", _DISK.format("QCOW2")),
    (0, b"QED\0", _DISK.format("QED")),
    (0, b"KDMV", _DISK.format("VMDK") + "; a VMware guest's memory is its .vmem, or the .vmss or .vmsn"),
    (0, b"COWD", _DISK.format("VMDK") + "; a VMware guest's memory is its .vmem, or the .vmss or .vmsn"),
    (
        0,
        b"# Disk Descriptor",
        _DISK.format("VMDK") + "; a VMware guest's memory is its .vmem, or the .vmss or .vmsn",
    ),
    (0x40, b"\x7f\x10\xda\xbe", _DISK.format("VDI")),
    (0, b"conectix", _DISK.format("VHD")),
    (0, b"vhdxfile", _DISK.format("VHDX")),
    (0, b"LUKS\xba\xbe", _DISK.format("LUKS")),
    (0, b"hsqs", _DISK.format("SquashFS")),
    (512, b"EFI PART", _DISK.format("GPT")),
    (4086, b"SWAPSPACE2", "a Linux swap area: pages that were not in memory, and not memory"),
    (4086, b"SWAP-SPACE", "a Linux swap area: pages that were not in memory, and not memory"),
    (
        4086,
        b"S1SUSPEND",
        "a Linux hibernation image in a swap area, which is not read; resume it and dump its memory",
    ),
    (0, b"PAGEDU64", _WINDOWS.format("crash dump")),
    (0, b"PAGEDUMP", _WINDOWS.format("crash dump")),
    (0, b"MDMP", _WINDOWS.format("minidump")),
    (0, b"hibr", _WINDOWS.format("hibernation file")),
    (0, b"HIBR", _WINDOWS.format("hibernation file")),
    (0, b"wake", _WINDOWS.format("hibernation file")),
    (0, b"RSTR", _WINDOWS.format("hibernation file")),
    (0, b"\xcf\xfa\xed\xfe", _MACH_O),
    (0, b"\xce\xfa\xed\xfe", _MACH_O),
    (0, b"\xca\xfe\xba\xbe", _MACH_O),
    (0x202, b"HdrS", "a kernel (vmlinuz), not a memory image; 'hb trust add FILE' takes it"),
    (0, b"!<arch>\n", _PACKAGE),
    (0, b"\xed\xab\xee\xdb", _PACKAGE),
    (0, b"MZ", "a Windows or EFI program, not a memory image"),
    (0, b"%PDF", "a PDF document, not a memory image"),
    (0, b"\x89PNG", "a picture, not a memory image"),
    (0, b"\xff\xd8\xff", "a picture, not a memory image"),
    (0, b"<!DOCTYPE", "a web page, not a memory image; the download may have failed"),
    (0, b"<html", "a web page, not a memory image; the download may have failed"),
)


def refuse_foreign(file: ImageFile) -> None:
    """ImageError that names the format, if the file is of one that is listed here."""
    for offset, magic, what in _KINDS:
        if file.head[offset : offset + len(magic)] == magic:
            raise ImageError(f"{file.path}: {what.replace('FILE', shlex.quote(str(file.path)))}")
