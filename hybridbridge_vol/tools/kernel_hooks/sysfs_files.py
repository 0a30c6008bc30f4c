"""Operations behind the files of /sys.

A file's node has the operations of its kind and a `struct attribute`; the object of its folder says how that
is read and written, and the driver's own structure, which begins with the attribute, has the functions.
Sources: fs/sysfs/file.c, fs/kernfs/dir.c, include/linux/kernfs.h, lib/kobject.c, drivers/base/core.c (Linux
5.10 to 7.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.list_ends import BrokenList
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.tools.kernel_hooks.values import Found, Operations, each

_FOLDER, _FILE = 1, 2
"""KERNFS_DIR, KERNFS_FILE."""
_MAX_DEPTH = 64
_MAX_NAME = 255
MAX_NODES = 1 << 20
"""Of /sys; a large machine has some hundred thousand."""
_ATTRIBUTES = {
    "kobj_sysfs_ops": "kobj_attribute",
    "dev_sysfs_ops": "device_attribute",
    "driver_sysfs_ops": "driver_attribute",
    "bus_sysfs_ops": "bus_attribute",
    "class_sysfs_ops": "class_attribute",
    "module_sysfs_ops": "module_attribute",
    "slab_sysfs_ops": "slab_attribute",
}
"""The structure around an attribute, by the operations of the folder's object."""
_BINARY = "sysfs_bin_kfops"
"""How the operations of files are named whose attribute is a `struct bin_attribute`."""


class SysfsFiles:
    """Of one snapshot."""

    def __init__(self, memory: TypedMemory, names: KernelNames) -> None:
        self._memory = memory
        self._names = names
        self._nodes = 0
        self._seen: set[int] = set()

    def all(self) -> Iterator[Found]:
        """What each file of /sys is read and written by; what many files share, once, with the first of
        them."""
        self._nodes = 0
        self._seen = set()
        yield from self._folder("/sys", self._memory.word(self._memory.symbol("sysfs_root_kn")), 0)

    def _folder(self, path: str, folder: int, depth: int) -> Iterator[Found]:
        memory = self._memory
        if depth > _MAX_DEPTH:
            raise BrokenList("/sys is nested too deeply")
        object_ = memory.get(folder, "kernfs_node", "priv")
        kind = memory.get(object_, "kobject", "ktype") if object_ else 0
        operations = memory.get(kind, "kobj_type", "sysfs_ops") if kind else 0
        yield from self._once(path, "kobj_type", kind, object_)
        yield from self._once(path, "sysfs_ops", operations, kind)
        wrapper = _ATTRIBUTES.get(self._names.function(operations), "")

        def entry(node: int) -> Iterator[Found]:
            self._nodes += 1
            if self._nodes > MAX_NODES:
                raise BrokenList(f"/sys has more than {MAX_NODES} files")
            flags = memory.get(node, "kernfs_node", "flags")
            if flags & _FOLDER:
                yield from self._folder(self._path(path, node), node, depth + 1)
            elif flags & _FILE:
                yield from self._file(path, node, wrapper)

        root = memory.at(folder, "kernfs_node", "dir.children")
        yield from each(memory.tree(root, "kernfs_node", "rb"), entry)

    def _file(self, path: str, node: int, wrapper: str) -> Iterator[Found]:
        memory = self._memory
        table = memory.get(node, "kernfs_node", "attr.ops")
        attribute = memory.get(node, "kernfs_node", "priv")
        if table in self._seen and attribute in self._seen:
            return
        path = self._path(path, node)
        yield from self._once(path, "kernfs_ops", table, node)
        if self._names.function(table).startswith(_BINARY):
            wrapper = "bin_attribute"
        if wrapper:
            yield from self._once(path, wrapper, attribute, node)

    def _once(self, what: str, struct_name: str, table: int, vaddr: int) -> Iterator[Found]:
        if table and table not in self._seen:
            self._seen.add(table)
            yield Operations(what, struct_name, table, vaddr)

    def _path(self, folder: str, node: int) -> str:
        memory = self._memory
        return f"{folder}/{memory.text(memory.get(node, 'kernfs_node', 'name'), _MAX_NAME)}"
