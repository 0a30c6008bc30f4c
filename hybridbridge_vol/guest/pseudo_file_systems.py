"""Pseudo file systems as the guest had them: tracefs, debugfs, securityfs, bpf, mqueue, configfs ...

Where the guest had one mounted, its own path walk crosses into it, from the root of the process as which it
is asked. Most exist also where nobody has mounted them: the kernel has a mount of its own. These are shown at
their usual place: the twin's `dentry_open` opens the root of their superblock
(`bridge.objects.super_blocks`), and it becomes a descriptor of the proxy task's, from which paths are looked
up. Mounting such a file system anew would give an empty one.
"""

from __future__ import annotations

import contextlib
import errno
import os
from functools import cached_property, partial
from weakref import proxy as proxy_of

from hybridbridge_vol.bridge.objects.super_blocks import SuperBlock, super_blocks, words_of
from hybridbridge_vol.errors import CallRolledBack, ParseError
from hybridbridge_vol.guest.files import SnapshotFiles
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.root_files import O_DIRECTORY, O_PATH, RootFiles
from hybridbridge_vol.guest.values import PartialFile, Unmounted
from hybridbridge_vol.machine.machine import UnmappedVirtual
from hybridbridge_vol.procfs.mounts import parse_mount
from hybridbridge_vol.procfs.sources import split_lines
from hybridbridge_vol.units import U64

PLACES = {
    "/sys/kernel/tracing": "tracefs",
    "/sys/kernel/debug/tracing": "tracefs",
    "/sys/kernel/debug": "debugfs",
    "/sys/kernel/security": "securityfs",
    "/sys/kernel/config": "configfs",
    "/sys/fs/bpf": "bpf",
    "/sys/fs/cgroup": "cgroup2",
    "/sys/fs/fuse/connections": "fusectl",
    "/sys/fs/pstore": "pstore",
    "/sys/fs/resctrl": "resctrl",
    "/sys/fs/selinux": "selinuxfs",
    "/sys/fs/smackfs": "smackfs",
    "/sys/firmware/efi/efivars": "efivarfs",
    "/proc/sys/fs/binfmt_misc": "binfmt_misc",
    "/proc/fs/nfsd": "nfsd",
    "/dev/mqueue": "mqueue",
}
"""Where which is mounted by custom (Filesystem Hierarchy Standard; systemd, src/shared/mount-setup.c); the
kernel itself shows tracefs below debugfs."""
_CGROUP2 = "cgroup2"
"""Is always there: `guest.mounting` mounts the one that the snapshot's kernel has."""
_PLACEHOLDERS = ("autofs",)
"""Stand where something would be mounted when it is first used."""
_MAKING_INODES = frozenset(PLACES.values()) | {"cgroup", "sysfs", "proc"}
"""Those that make inodes of the kernel's objects when they are looked up."""
_ALSO_BELOW = {"/sys/kernel/debug/tracing": "/sys/kernel/debug"}


class PseudoFileSystems:
    """The ones at `PLACES`. `process` is the folder of the process at whose root paths begin."""

    def __init__(
        self, proxy: ProxyCalls, kernel_files: SnapshotFiles, root_files: RootFiles, process: str
    ) -> None:
        self._proxy = proxy
        self._kernel_files = kernel_files
        self._root_files = root_files
        self._process = process
        self._root = f"{process}/root"
        self._known: dict[str, tuple[str, str] | None] = {}
        # what this holds must not hold it: a closed session's memory goes without Python's collector
        self._weakly = proxy_of(self)
        root_files.if_not_found(partial(getattr, self._weakly, "_blocks"))

    def route(self, path: str) -> tuple[str, str] | None:
        """The root and the path in it, as `RootFiles` takes them; None for a path that leads to none of
        these, or to one that is not there."""
        place = place_of(path)
        if place is None:
            return None
        if place not in self._known:
            self._known[place] = self._root_at(place)
        known = self._known[place]
        if known is None:
            return None
        root, inside = known
        return root, inside + path[len(place) :]

    @cached_property
    def unmounted(self) -> list[Unmounted]:
        """Those of a kind that the guest's kernel has, at the places where the guest had mounted nothing."""
        found = (self._unmounted_at(place) for place in PLACES if place not in _ALSO_BELOW)
        return [pseudo for pseudo in found if pseudo is not None]

    def _unmounted_at(self, place: str) -> Unmounted | None:
        kind = PLACES[place]
        if place in self._mounted or kind not in self._kinds:
            return None
        block = self._block(kind)
        if kind != _CGROUP2 and block is None:
            return Unmounted(place, kind, "", self._why_missing(kind))
        return None if self._is_hidden(place) else Unmounted(place, kind, block.device if block else "", "")

    def at(self, path: str) -> Unmounted | None:
        """What is at a place in which a path lies, if the guest had not mounted it there."""
        place = place_of(path)
        if place is None:
            return None
        found = self._unmounted_at(_ALSO_BELOW.get(place, place))
        return found._replace(place=place, kind=PLACES[place]) if found else None

    def _root_at(self, place: str) -> tuple[str, str] | None:
        kind = self._mounted.get(place)
        if kind is not None:
            return None if kind == _CGROUP2 else (self._root, place)
        kind = PLACES[place]
        block = self._block(kind)
        if block is None or kind == _CGROUP2 or self._is_hidden(place):
            return None
        own = self._weakly
        self._root_files.add_root(kind, lambda: own._opened(block))
        return kind, ""

    def _is_hidden(self, place: str) -> bool:
        """Whether the guest has files of its own at the place, which are what it saw there."""
        if place.startswith(("/sys/", "/proc/")):
            return False
        try:
            return bool(self._root_files.listdir(self._root, place))
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR)
        except CallRolledBack:
            return False

    def _why_missing(self, kind: str) -> str:
        if self._lost:
            return f"{kind}: {self._lost}"
        found = [block for block in self._blocks if block.kind == kind]
        if found:
            return f"{kind}: its superblock has no mount"
        return f"{kind}: not mounted, and the kernel keeps nothing of one that is not"

    # --- what the guest has -------------------------------------------------------------------------------

    @cached_property
    def _mounted(self) -> dict[str, str]:
        """Type by place, of what the guest had mounted at one of `PLACES`."""
        found = {}
        with contextlib.suppress(OSError, CallRolledBack):
            for line in split_lines(self._partial(f"{self._process}/mountinfo")):
                with contextlib.suppress(ParseError):
                    mount = parse_mount(line)
                    if mount.target in PLACES and mount.kind not in _PLACEHOLDERS:
                        found[mount.target] = mount.kind
        return found

    def _partial(self, path: str) -> bytes:
        """What there is of a file. OSError, CallRolledBack."""
        try:
            return self._kernel_files.read(path)
        except PartialFile as error:
            return error.partial

    @cached_property
    def _kinds(self) -> set[str]:
        """The types of file systems that the guest's kernel has."""
        try:
            lines = split_lines(self._partial("/proc/filesystems"))
        except (OSError, CallRolledBack):
            return set(PLACES.values())
        return {os.fsdecode(line.rpartition(b"\t")[2]) for line in lines}

    @cached_property
    def _blocks(self) -> list[SuperBlock]:
        """The snapshot's superblocks. Those of pseudo file systems get the inodes that they make from the
        trusted kernel from then on (symbols/linux.toml, "marked"): also the guest's own /proc and /sys, below
        `/proc/PID/root`."""
        machine = self._proxy.bridge.machine
        try:
            found = super_blocks(self._proxy.bridge)
        except (LookupError, KeyError):
            return []
        self._proxy.caller.without_sockets()
        mark = self._proxy.bridge.boot.layout.guard_hole.start
        mark_at = self._proxy.bridge.prepared.file_systems.mark_at
        for block in found:
            if block.kind in _MAKING_INODES:
                with self._proxy.bridge.space.all_lent(), contextlib.suppress(UnmappedVirtual):
                    machine.write_u64(block.vaddr + mark_at, mark)
        self._proxy.caller.mark()
        return found

    @cached_property
    def _lost(self) -> str:
        """Why superblocks cannot be looked for; empty if they can."""
        return "" if self._blocks else "the kernel's list of superblocks cannot be followed"

    def _block(self, kind: str) -> SuperBlock | None:
        """The superblock of a kind that belongs to the proxy task's namespaces: of mqueue each ipc namespace
        has its own. Of several that fit, the oldest."""
        fitting = [block for block in self._blocks if block.kind == kind and block.mount]
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        bridge = self._proxy.bridge
        read, proxy_task = bridge.machine.read_u64, bridge.prepared.proxy_task
        ours = {read(vaddr) for vaddr in bridge.namespaces}
        ours.add(read(proxy_task.cred + proxy_task.cred_user_namespace))
        return max(fitting, key=lambda block: len(ours & words_of(bridge, block)))

    def _opened(self, block: SuperBlock) -> int:
        """A descriptor of the proxy task's for the root of a superblock. OSError, CallRolledBack."""
        try:
            form = self._proxy.bridge.prepared.file_systems
            path = self._proxy.caller.put_words(*form.path(block.mount, block.root))
            cred = self._proxy.bridge.prepared.proxy_task.cred
            file = self._proxy.function("dentry_open", path, O_PATH | O_DIRECTORY, cred)
            if -4096 < file < 0:
                raise OSError(-file, os.strerror(-file), block.kind)
            return self._proxy.install(file & U64, block.kind)
        except KeyError as error:
            raise OSError(errno.EOPNOTSUPP, f"this kernel has no symbol {error}", block.kind) from None


def place_of(path: str) -> str | None:
    """The innermost of `PLACES` that a path is at or below."""
    if not path.startswith(_BEGINNINGS):
        return None
    found = (place for place in PLACES if path == place or path.startswith(f"{place}/"))
    return max(found, key=len, default=None)


_BEGINNINGS = ("/sys/kernel/", "/sys/fs/", "/sys/firmware/efi/", "/proc/sys/fs/", "/proc/fs/", "/dev/mqueue")
"""How all of `PLACES` begin: most paths are none of them."""
