"""Tables of functions behind files: /proc, file systems, the inodes that the kernel holds.

Sources: fs/proc/internal.h, fs/proc/generic.c, fs/super.c, fs/filesystems.c (Linux 5.10 to 7.2).
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from hybridbridge_vol.bridge.objects.list_ends import Broken, BrokenList
from hybridbridge_vol.bridge.objects.some_words import ListedWords
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.snapshot.virtual_memory import UnreadableVirtual
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from hybridbridge_vol.tools.kernel_hooks.values import Found, Hook, Lost, Operations, each

MAX_ENTRIES = 1 << 16
"""Of /proc; a machine has some thousands."""
MAX_INODES = 1 << 20
_MAX_DEPTH = 32
_MAX_NAME = 255
_OF_LISTS = ("proc_seq_ops", "proc_net_seq_ops")
_OF_ONE_FUNCTION = ("proc_single_ops", "proc_net_single_ops")
"""Operations by which an entry has a table of its own, or one function (fs/proc/generic.c, proc_net.c)."""

_TABLES = ("inode_operations", "file_operations", "address_space_operations")


class FileTables:
    """Of one snapshot."""

    def __init__(self, memory: TypedMemory, names: KernelNames) -> None:
        self._memory = memory
        self._names = names
        self._entries = 0

    # --- /proc --------------------------------------------------------------------------------------------

    def proc(self) -> Iterator[Found]:
        """What each entry of /proc, and of /proc/net of each network namespace, is read by."""
        memory = self._memory
        self._entries = 0
        yield from self._folder("/proc", memory.symbol("proc_root"), 0)

        def of_net(net: int) -> Iterator[Found]:
            folder = memory.get(net, "net", "proc_net")
            place = (
                "" if net == memory.symbol("init_net") else f" in net:[{memory.get(net, 'net', 'ns.inum')}]"
            )
            if folder:
                yield from self._folder("/proc/net", folder, 0, place)

        yield from each(memory.list(memory.ring("net_namespace_list"), "net", "list"), of_net)

    def _folder(self, path: str, folder: int, depth: int, place: str = "") -> Iterator[Found]:
        memory = self._memory
        if depth > _MAX_DEPTH:
            raise BrokenList("/proc is nested too deeply")

        def entry(vaddr: int) -> Iterator[Found]:
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise BrokenList(f"/proc has more than {MAX_ENTRIES} entries")
            size = min(memory.get(vaddr, "proc_dir_entry", "namelen"), _MAX_NAME)
            own = f"{path}/{memory.text(memory.get(vaddr, 'proc_dir_entry', 'name'), size)}"
            is_folder = stat.S_ISDIR(memory.get(vaddr, "proc_dir_entry", "mode"))
            inodes = memory.get(vaddr, "proc_dir_entry", "proc_iops")
            if inodes:
                yield Operations(f"{own}{place}", "inode_operations", inodes, vaddr)
            table = memory.get(vaddr, "proc_dir_entry", "proc_ops")
            if is_folder:
                if table:
                    yield Operations(f"{own}{place}", "file_operations", table, vaddr)
                yield from self._folder(own, vaddr, depth + 1, place)
            elif table:
                yield from self._file(f"{own}{place}", table, vaddr)

        root = memory.at(folder, "proc_dir_entry", "subdir")
        yield from each(memory.tree(root, "proc_dir_entry", "subdir_node"), entry)

    def _file(self, path: str, table: int, vaddr: int) -> Iterator[Found]:
        memory = self._memory
        yield Operations(path, "proc_ops", table, vaddr)
        kind = self._names.function(table)
        of_entry = memory.get(vaddr, "proc_dir_entry", "seq_ops")
        if kind in _OF_LISTS and of_entry:
            yield Operations(path, "seq_operations", of_entry, vaddr)
        elif kind in _OF_ONE_FUNCTION and of_entry:
            yield Hook(f"{path} (single_show)", of_entry, vaddr)

    # --- file systems -------------------------------------------------------------------------------------

    def file_systems(self) -> Iterator[Found]:
        """The types of file systems; the operations of each superblock; those of its inodes, each table
        once."""
        memory = self._memory
        head = memory.symbol("file_systems")
        if memory.types.has("file_system_type", "list"):  # since 7.1
            kinds = memory.hlist(head, "file_system_type", "list")
        else:
            kinds = memory.chain(memory.word(head), memory.types.offset("file_system_type", "next"))
        yield from each(kinds, self._kind)
        blocks = memory.list(memory.ring("super_blocks"), "super_block", "s_list")
        yield from each(blocks, self._block)

    def _kind(self, kind: int) -> Iterator[Found]:
        name = self._memory.text(self._memory.get(kind, "file_system_type", "name"))
        yield Operations(f"file system type {name}", "file_system_type", kind, kind)

    def _block(self, block: int) -> Iterator[Found]:
        memory = self._memory
        kind = memory.get(block, "super_block", "s_type")
        name = memory.text(memory.get(kind, "file_system_type", "name")) if kind else "?"
        device = memory.get(block, "super_block", "s_dev")
        what = f"{name} {device >> 20}:{device & 0xFFFFF}"
        for field, struct_name in (("s_op", "super_operations"), ("s_d_op", "dentry_operations")):
            if memory.types.has("super_block", field):
                table = memory.get(block, "super_block", field)
                if table:
                    yield Operations(what, struct_name, table, block)
        yield from self._inodes(what, block)

    def _inodes(self, what: str, block: int) -> Iterator[Found]:
        memory, types = self._memory, self._memory.types
        own_mapping = types.offset("inode", "i_data")
        at = [types.offset("inode", name) for name in ("i_op", "i_fop", "i_mapping")]
        at.append(own_mapping + types.offset("address_space", "a_ops"))
        words = ListedWords(types.size("inode"), types.offset("inode", "i_sb_list"), at)
        head = memory.at(block, "super_block", "s_inodes")
        alike: dict[tuple[int, int, int | None], list[int]] = {}
        """By the three tables of an inode, without the last where the mapping is another's: how many have
        them, and the first."""

        try:
            for vaddr, found in islice(words.all(memory, head), MAX_INODES):
                if isinstance(found, UnreadableVirtual):
                    yield Lost(str(found))
                    continue
                inodes, files, mapping, pages = found
                # others are counted with their own inode
                own = pages if mapping == vaddr + own_mapping else None
                alike.setdefault((inodes, files, own), [0, vaddr])[0] += 1
        except Broken as error:
            yield Lost(str(error))
        tables: Counter[tuple[str, int]] = Counter()
        first: dict[tuple[str, int], int] = {}
        for vaddrs, (count, vaddr) in alike.items():
            for name, table in zip(_TABLES, vaddrs, strict=True):
                if table is not None:
                    tables[name, table] += count
                    first.setdefault((name, table), vaddr)
        for key, count in sorted(tables.items()):
            if key[1]:
                number = "1 inode" if count == 1 else f"{count} inodes"
                yield Operations(f"{what}, {number}", key[0], key[1], first[key])
