"""Joins what the kernel says of the processes in containers with what the engines' files say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.mounts import Mount, parse_mount
from hybridbridge_vol.procfs.sources import split_lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, parsed, read_lines
from hybridbridge_vol.tools.container.groups import Membership, membership, parse_groups
from hybridbridge_vol.tools.container.metadata import Metadata, MetadataFiles
from hybridbridge_vol.tools.host.account_files import Account, parse_passwd
from hybridbridge_vol.tools.host.text_file import read_text
from hybridbridge_vol.tools.process.listing import expected, files_of, in_parts, processes

NAMESPACES = ("net", "pid", "mnt", "ipc", "uts", "user")
MAX_HOMES = 256
"""Homes in which storages of rootless podman are looked for."""
_STORES = (
    ("docker", "/docker/overlay2/"), ("podman", "/containers/storage/overlay/"),
    ("containerd", "/io.containerd.snapshotter"),
)  # fmt: skip
_CAPABILITIES = re.compile(rb"^CapEff:.*$", re.MULTILINE)
_SOCKETS = ("docker.sock", "containerd.sock", "crio.sock", "podman.sock")


@dataclass
class Container:
    """A container with its processes, rising; `lack`: why some of this could not be read."""

    member: Membership
    pids: list[int] = field(default_factory=list)
    pid: int | None = None
    """The one whose namespaces and mounts stand for it."""
    metadata: Metadata | None = None
    root: str = ""
    mounts: tuple[Mount, ...] = ()
    marks: tuple[str, ...] = ()
    lack: Unavailable | None = None


class _Known:
    """Containers with processes, by what metadata say: their id, a process, or the layer of their root."""

    def __init__(self, found: list[Container], by_root: set[Membership]) -> None:
        self._by_id = {container.member.id: container for container in found}
        self._by_pid = {pid: container for container in found for pid in container.pids}
        layers = {layer_of(_upper(one.mounts)): one for one in found if one.member in by_root}
        self._by_layer = {layer: container for layer, container in layers.items() if layer}

    def of(self, metadata: Metadata) -> Container | None:
        """The container, which has its id from then on."""
        container = self._by_id.get(metadata.id) or (self._by_pid.get(metadata.pid) if metadata.pid else None)
        if container is None and metadata.id:
            container = self._by_layer.pop(layer_of(metadata.root), None)
            if container is not None:
                container.member = container.member._replace(id=metadata.id)
                self._by_id[metadata.id] = container
        return container


class Search:
    """Finds the containers of a guest. `unread`: processes of which it cannot be said whether they are in
    one."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel
        self._files: Files = kernel.files
        self.unread: dict[int, Unavailable] = {}
        self._by_root: set[Membership] = set()
        """Those that are known by their root only: without a systemd of its own, rootless podman makes no
        control groups."""

    def containers(self) -> list[Container]:
        """Those with processes, by engine and id; then those that only files name."""
        found = self._by_groups()
        self._by_roots(found)
        for container in found.values():
            self._look_at(container)
        rest = self._with_metadata(list(found.values()))
        return [*sorted(found.values(), key=lambda item: (item.member.engine, item.member.id)), *rest]

    # --- the kernel's view --------------------------------------------------------------------------------

    def _by_groups(self) -> dict[tuple[str, str], Container]:
        found: dict[tuple[str, str], Container] = {}
        self._outside: list[int] = []
        pids = processes(self._kernel)
        for pid in expected(self._files, pids, "cgroup"):
            groups = parsed(self._files, f"/proc/{pid}/cgroup", parse_groups)
            if isinstance(groups, Unavailable):
                self.unread[pid] = groups
                continue
            member = membership(groups)
            if member is None:
                self._outside.append(pid)
                continue
            found.setdefault((member.engine, member.id), Container(member)).pids.append(pid)
        return found

    def _by_roots(self, found: dict[tuple[str, str], Container]) -> None:
        """Processes in no engine's group whose root is an overlay, in a mount namespace of their own."""
        host = self._host_spaces["mnt"]
        by_upper: dict[str, Container] = {}
        seen: dict[tuple[str, str], str | None] = {}
        for part in in_parts(self._outside):
            self._files.expect(files_of(part, "ns/mnt", "root", kind="readlink"))
            for pid in part:
                space = self._namespace(pid, "mnt")
                if not space or space == host:
                    continue
                key = space, self._link(f"/proc/{pid}/root")
                if key not in seen:
                    root = next((mount for mount in self._mounts(pid) if mount.target == "/"), None)
                    seen[key] = root.super_options if root is not None and root.kind == "overlay" else None
                options = seen[key]
                if options is None:
                    continue
                engine = next((name for name, store in _STORES if store in options), "no engine")
                if options not in by_upper:
                    member = Membership(engine, f"overlay of process {pid}", "", "")
                    self._by_root.add(member)
                    by_upper[options] = found[engine, member.id] = Container(member)
                by_upper[options].pids.append(pid)

    def _link(self, path: str) -> str:
        """Where a link leads; empty if that cannot be read."""
        try:
            return self._files.readlink(path)
        except UNREADABLE:
            return ""

    def _namespace(self, pid: int, kind: str) -> str:
        return self._link(f"/proc/{pid}/ns/{kind}")

    def _capabilities(self, pid: int) -> bytes:
        """The line of the effective ones; empty if it cannot be read."""
        try:
            match = _CAPABILITIES.search(self._files.read(f"/proc/{pid}/status"))
        except UNREADABLE:
            return b""
        return match[0] if match else b""

    def _mounts(self, pid: int) -> list[Mount]:
        data, gap = read_lines(self._files, f"/proc/{pid}/mountinfo")
        if gap:
            self.unread.setdefault(pid, gap)
        return [mount for line in split_lines(data) if not isinstance(mount := _mount(line), Unavailable)]

    # of the first process, with which others are compared

    @cached_property
    def _host_spaces(self) -> dict[str, str]:
        return {kind: self._namespace(1, kind) for kind in NAMESPACES}

    @cached_property
    def _host_mounts(self) -> list[Mount]:
        return self._mounts(1)

    @cached_property
    def _host_capabilities(self) -> bytes:
        return self._capabilities(1)

    def _look_at(self, container: Container) -> None:
        """What the kernel says of the process that shares the least with the first one: an engine's own
        processes may be in the group, too."""
        for part in in_parts(container.pids):
            self._files.expect(files_of(part, *(f"ns/{kind}" for kind in NAMESPACES), kind="readlink"))
        shared = {pid: self._shared(pid) for pid in container.pids}
        container.pid = min(container.pids, key=lambda pid: (len(shared[pid]), pid))
        mounts = self._mounts(container.pid)
        root = next((mount for mount in mounts if mount.target == "/"), None)
        container.mounts = tuple(mounts)
        container.root = _root_text(root) if root is not None else ""
        container.marks = tuple(dict.fromkeys(self._marks(container.pid, shared[container.pid], mounts)))

    def _shared(self, pid: int) -> list[str]:
        """The namespaces that a process shares with the first one."""
        return [kind for kind in NAMESPACES if self._is_shared(pid, kind)]

    def _marks(self, pid: int, shared: list[str], mounts: list[Mount]) -> Iterator[str]:
        """What a process has in common with the first one, `shared` namespaces and more."""
        yield from (f"the host's {kind} namespace" for kind in shared if kind != "user")
        if "mnt" not in shared:
            yield from _of_mounts(mounts, self._host_mounts)
        capabilities = self._capabilities(pid)
        if "user" in shared and capabilities and capabilities == self._host_capabilities:
            yield "all capabilities"

    def _is_shared(self, pid: int, kind: str) -> bool:
        host = self._host_spaces[kind]
        return bool(host) and self._namespace(pid, kind) == host

    # --- the engines' files -------------------------------------------------------------------------------

    def _with_metadata(self, found: list[Container]) -> list[Container]:
        """Give the containers their metadata; those of which there is nothing but metadata."""
        known = _Known(found, self._by_root)
        rest: dict[str, Container] = {}
        for metadata in MetadataFiles(self._files, self._homes()).all():
            container = known.of(metadata)
            if container is None or not metadata.id:
                member = Membership(metadata.engine, metadata.id, "", "")
                key = f"{metadata.engine} {metadata.id} {metadata.path if not metadata.id else ''}"
                container = rest.setdefault(key, Container(member))
            container.metadata = _merged(container.metadata, metadata)
            container.lack = container.lack or metadata.lack
        for container in found:
            if container.metadata is not None and container.member.engine == "kubernetes":
                container.member = container.member._replace(engine=container.metadata.engine)
        return list(rest.values())

    def _homes(self) -> list[str]:
        found = read_text(self._files, "/etc/passwd")
        accounts = parse_passwd(found.lines) if found is not None else ()
        homes = (account.home.rstrip("/") for account in accounts if isinstance(account, Account))
        return [home for home in dict.fromkeys(homes) if home.startswith("/") and "\0" not in home][
            :MAX_HOMES
        ]


def _mount(line: bytes) -> Mount | Unavailable:
    return attempt("mountinfo", lambda: parse_mount(line))


def _merged(first: Metadata | None, second: Metadata) -> Metadata:
    """Both together: what the first does not say is the second's."""
    if first is None:
        return second
    named = {
        name: getattr(second, name) for name in Metadata.__dataclass_fields__ if not getattr(first, name)
    }
    return replace(first, **named)


def _of_mounts(mounts: list[Mount], host: list[Mount]) -> Iterator[str]:
    """What is mounted in a container that gives it power over the host."""
    roots = {(mount.device, mount.root) for mount in host if mount.target == "/"}
    for mount in mounts:
        if (mount.device, mount.root) in roots and mount.kind != "overlay":
            yield f"the host's root at {mount.target}"
        if mount.target.endswith(_SOCKETS):
            yield f"the engine's socket at {mount.target}"


def _root_text(root: Mount) -> str:
    if root.kind != "overlay":
        return f"{root.kind} {root.source}{'' if root.root == '/' else f' {root.root}'}"
    options = _overlay_options(root)
    return f"overlay {options.get('upperdir') or 'read-only'} over {options.get('lowerdir', '')}"


def _overlay_options(root: Mount) -> dict[str, str]:
    return dict(option.partition("=")[::2] for option in root.super_options.split(","))


def _upper(mounts: Iterable[Mount]) -> str:
    """The upper directory of a root that is an overlay."""
    root = next((mount for mount in mounts if mount.target == "/" and mount.kind == "overlay"), None)
    return _overlay_options(root).get("upperdir", "") if root is not None else ""


def layer_of(path: str) -> str:
    """The folder of a container's layer in a storage, by its upper directory (`diff`) or by where it is
    mounted (`merged`); empty for another path."""
    folder, _slash, name = path.rstrip("/").rpartition("/")
    return folder if name in ("diff", "merged") else ""


def host_mounts(mounts: Iterable[Mount]) -> Iterator[str]:
    """`source:target` of bind mounts: of files and directories of another file system than the root's."""
    for mount in mounts:
        if (
            mount.target != "/"
            and mount.root != "/"
            and mount.kind not in ("proc", "sysfs", "cgroup", "cgroup2")
        ):
            yield f"{mount.root}:{mount.target}"
