"""Operations behind the files of /dev: of character devices, of the drivers of type `misc`, of disks.

Sources: fs/char_dev.c, drivers/base/map.c, drivers/char/misc.c, block/bdev.c (Linux 5.10 to 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, Operations, each

_MINOR_BITS = 20
"""MINORBITS, include/linux/kdev_t.h."""
_OF_ANY = "base_probe"
"""What asks for a module where no driver is registered (`chrdev_init`)."""
_OF_CDEV = "exact_match"
"""By which `cdev_add` enters a `struct cdev`."""


class DeviceFiles:
    """Of one snapshot."""

    def __init__(self, memory: TypedMemory, names: KernelNames) -> None:
        self._memory = memory
        self._names = names

    def all(self) -> Iterator[Found]:
        """The operations of each range of character devices, of each `misc` device, and of each disk."""
        yield from self._characters()
        memory = self._memory
        yield from each(memory.list(memory.ring("misc_list"), "miscdevice", "list"), self._misc)
        head = memory.at(memory.word(memory.symbol("blockdev_superblock")), "super_block", "s_inodes")
        yield from each(memory.list(head, "inode", "i_sb_list"), self._disk)

    def _characters(self) -> Iterator[Found]:
        memory = self._memory
        table = memory.at(memory.word(memory.symbol("cdev_map")), "kobj_map", "probes")
        following = memory.types.offset("probe", "next")
        for first in memory.pointers(table, memory.types.count("kobj_map", "probes")):
            yield from each(memory.chain(first, following), self._range)

    def _range(self, entry: int) -> Iterator[Found]:
        memory = self._memory
        find = memory.get(entry, "probe", "get")
        name = self._names.function(find)
        if name == _OF_ANY:
            return
        device, count = memory.get(entry, "probe", "dev"), memory.get(entry, "probe", "range")
        major, minor = device >> _MINOR_BITS, device & (1 << _MINOR_BITS) - 1
        last = f"-{minor + count - 1}" if count > 1 else ""
        what = f"character device {major}:{minor}{last}"
        if name != _OF_CDEV:
            yield Hook(f"{what} (lookup)", find, entry)
            return
        cdev = memory.get(entry, "probe", "data")
        yield Operations(what, "file_operations", memory.get(cdev, "cdev", "ops"), cdev)

    def _misc(self, device: int) -> Iterator[Found]:
        memory = self._memory
        name = memory.text(memory.get(device, "miscdevice", "name"))
        table = memory.get(device, "miscdevice", "fops")
        yield Operations(f"device {name}", "file_operations", table, device)

    def _disk(self, inode: int) -> Iterator[Found]:
        memory, types = self._memory, self._memory.types
        device = inode - types.offset("bdev_inode", "vfs_inode") + types.offset("bdev_inode", "bdev")
        disk = memory.get(device, "block_device", "bd_disk")
        if disk:
            name = memory.name(disk, "gendisk", "disk_name")
            table = memory.get(disk, "gendisk", "fops")
            yield Operations(f"disk {name}", "block_device_operations", table, disk)
