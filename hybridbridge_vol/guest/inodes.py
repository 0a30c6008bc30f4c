"""Files by their inodes: those that no path leads to.

The snapshot's inodes are found on its superblocks' lists (`bridge.objects.inode_cache`). One is opened by the
kernel's own code: `dentry_open` with a dentry that it has, or with one that `d_obtain_alias` makes for it in
the trusted kernel's memory, and a mount of its superblock. From there on it is an open file like any other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from hybridbridge_vol.bridge.objects.inode_cache import BrokenList, CachedInode, InodeCache
from hybridbridge_vol.bridge.objects.inode_fields import find_inode_fields
from hybridbridge_vol.errors import AttachError, kernel_error, pointer_error
from hybridbridge_vol.guest import magic_links
from hybridbridge_vol.guest.descriptors import Descriptors, OpenFile
from hybridbridge_vol.guest.file_attributes import FileAttributes
from hybridbridge_vol.guest.file_reader import FileReader
from hybridbridge_vol.guest.inode_paths import path_of
from hybridbridge_vol.guest.proxy_calls import BUFFER_AT, PATH_SIZE, ProxyCalls
from hybridbridge_vol.units import U64

_O_PATH, _O_NONBLOCK, _O_DIRECTORY = 0o10000000, 0o4000, 0o200000
MADE_UP = frozenset(
    (
        "aio", "anon_inodefs", "apparmorfs", "bdev", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2",
        "configfs", "cpuset", "dax", "debugfs", "devmem", "devpts", "dmabuf", "drm", "efivarfs", "fusectl",
        "guest_memfd", "iomem", "mqueue", "nsfs", "nullfs", "pidfs", "pipefs", "proc", "pstore", "resctrl",
        "rpc_pipefs", "secretmem", "securityfs", "selinuxfs", "smackfs", "sockfs", "sysfs", "tracefs",
    )
)  # fmt: skip
"""Types of file systems whose files the kernel makes up: they have no content of their own."""

_NEEDS_ITS_DENTRY = ("overlay", "ecryptfs")
"""File systems that are stacked on others: which file there is meant, the dentry says (`d_fsdata`)."""


class SnapshotInodes:
    """Implements `guest.kernel.Inodes`, and opens what it lists."""

    def __init__(self, proxy: ProxyCalls, descriptors: Descriptors, reader: FileReader) -> None:
        self._proxy = proxy
        self._descriptors = descriptors
        self._reader = reader
        self._known: dict[int, CachedInode] | None = None
        self._broken: list[BrokenList] = []

    def cached(self) -> tuple[list[CachedInode], list[BrokenList]]:
        """See `guest.kernel.Inodes`."""
        return list(self._listed.values()), self._broken

    @property
    def _listed(self) -> dict[int, CachedInode]:
        """By their addresses; OSError."""
        if self._known is None:
            try:
                cache = InodeCache(self._proxy.bridge, find_inode_fields(self._proxy.caller), MADE_UP)
            except AttachError as error:
                raise OSError(errno.EOPNOTSUPP, str(error), "the inode cache") from None
            self._known = {}
            for item in cache.inodes():
                if isinstance(item, BrokenList):
                    self._broken.append(item)
                else:
                    self._known[item.vaddr] = item
        return self._known

    def name(self, inode: CachedInode) -> str:
        """See `guest.kernel.Inodes`. OSError, CallRolledBack."""
        self._check_mount(inode)
        where = self._struct_path(inode, inode.dentry_vaddr)
        buffer = self._proxy.buffer()
        answer = self._proxy.function("d_path", where, buffer, PATH_SIZE) & U64
        offset = answer - buffer
        if not 0 <= offset < PATH_SIZE:
            raise kernel_error(answer - (1 << 64), path_of(inode.vaddr))
        text = self._proxy.caller.get(BUFFER_AT + offset, PATH_SIZE - offset)
        return os.fsdecode(text.split(b"\0")[0])

    def open(self, vaddr: int, flags: int) -> OpenFile:
        """Open an inode. OSError if it is none that the kernel lists, CallRolledBack."""
        inode = self._listed.get(vaddr)
        if inode is None:
            raise OSError(errno.ENOENT, "no inode on the kernel's lists is there", path_of(vaddr))
        self._check_mount(inode)
        dentry = inode.dentry_vaddr or self._made_dentry(inode)
        where = self._struct_path(inode, dentry)
        cred = self._proxy.bridge.prepared.proxy_task.cred
        file = self._proxy.function("dentry_open", where, flags, cred) & U64
        if (error := pointer_error(file, path_of(vaddr))) is not None:
            raise error
        return self._descriptors.opened(self._proxy.install(file, path_of(vaddr)), path_of(vaddr))

    def _struct_path(self, inode: CachedInode, dentry: int) -> int:
        """The address of a struct path of ours that leads to a dentry of the inode."""
        form = self._proxy.bridge.prepared.file_systems
        return self._proxy.caller.put_words(*form.path(inode.super.mount_vaddr, dentry))

    def _made_dentry(self, inode: CachedInode) -> int:
        """The virtual address of a dentry of ours for an inode that has none."""
        if inode.super.kind in _NEEDS_ITS_DENTRY:
            reason = (
                "its directory entry, in which its file system keeps what it is made of, is not in memory"
            )
            raise OSError(errno.EOPNOTSUPP, reason, path_of(inode.vaddr))
        call, bridge = self._proxy.caller.call, self._proxy.bridge
        if not call(bridge.home("igrab"), inode.vaddr, label="igrab"):  # d_obtain_alias drops a reference
            raise OSError(errno.ESTALE, "the kernel was about to free the inode", path_of(inode.vaddr))
        dentry = call(bridge.home("d_obtain_alias"), inode.vaddr, label="d_obtain_alias") & U64
        if (error := pointer_error(dentry, path_of(inode.vaddr))) is not None:
            raise error
        return dentry

    @contextlib.contextmanager
    def opened_to_read(self, vaddr: int) -> Iterator[OpenFile]:
        """A regular file or a directory, open. A device is not opened: its driver would be run."""
        mode = self.attributes(vaddr).mode
        magic_links.check_mode(path_of(vaddr), mode)
        with self.open(vaddr, _O_DIRECTORY if stat.S_ISDIR(mode) else _O_NONBLOCK) as file:
            self._proxy.labels.forget(file.path)
            yield file

    def attributes(self, vaddr: int) -> FileAttributes:
        """statx(2)."""
        with self.open(vaddr, _O_PATH) as file:
            return self._reader.attributes(file)

    def readlink(self, vaddr: int) -> str:
        """The target of a symbolic link."""
        with self.open(vaddr, _O_PATH) as file:
            return self._reader.link_target(file)

    @staticmethod
    def _check_mount(inode: CachedInode) -> None:
        if not inode.super.mount_vaddr:
            reason = "its file system is mounted nowhere any more"
            raise OSError(errno.ENODEV, reason, path_of(inode.vaddr))
