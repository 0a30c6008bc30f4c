"""What the engines' own files say of containers. The guest wrote them: any value may be of another type.

Sources: moby's `container.Container` (config.v2.json, hostconfig.json), containers/storage (containers.json),
the OCI runtime specification (config.json), the annotations of containerd's CRI plugin (pkg/cri/annotations)
and of CRI-O, lxc.container.conf(5), and systemd's /run/systemd/machines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.toolkit.cells import Unavailable, utc
from hybridbridge_vol.tools.host.key_values import parse_key_values
from hybridbridge_vol.tools.host.places import find_places
from hybridbridge_vol.tools.host.text_file import list_folder, read_text

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

DOCKER = "/var/lib/docker/containers"
STORAGES = ("/var/lib/containers/storage", "/run/containers/storage")
TASKS = "/run/containerd/io.containerd.runtime.v2.task"
LXC = (
    "/var/lib/lxc",
    "/var/lib/incus/containers",
    "/var/lib/lxd/containers",
    "/var/snap/lxd/common/lxd/containers",
)
MACHINES = "/run/systemd/machines"
MAX_ITEMS = 256
"""Mounts, ports and annotations of one container that are shown."""
MAX_CONTAINERS = 1 << 14
"""Containers of one engine whose files are read."""


@dataclass(frozen=True)
class Metadata:
    """What is known of a container by its engine's files; empty where they do not say. `lack`: what of them
    could not be read."""

    engine: str
    id: str
    path: str = ""
    name: str = ""
    image: str = ""
    pod: str = ""
    hostname: str = ""
    command: str = ""
    root: str = ""
    state: str = ""
    created: str = ""
    started: str = ""
    pid: int | None = None
    mounts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    lack: Unavailable | None = None


def at(value: Json, *keys: str) -> Json:
    """What stands below these keys; None if anything on the way is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def word(value: Json, *keys: str) -> str:
    """The same as text; empty if it is none."""
    found = at(value, *keys)
    return found if isinstance(found, str) else ""


def words(value: Json, *keys: str) -> list[str]:
    """The texts of the list below these keys."""
    found = at(value, *keys)
    return [item for item in found[:MAX_ITEMS] if isinstance(item, str)] if isinstance(found, list) else []


def objects(value: Json, *keys: str) -> list[Json]:
    """The list below these keys."""
    found = at(value, *keys)
    return found[:MAX_ITEMS] if isinstance(found, list) else []


def read_json(files: Files, path: str) -> tuple[Json, Unavailable | None] | None:
    """A file of JSON; None if there is none; why it could not be read."""
    found = read_text(files, path)
    if found is None:
        return None
    if found.lack is not None:
        return None, found.lack
    try:
        value: Json = json.loads("\n".join(line.text for line in found.lines))
    except (ValueError, RecursionError) as error:
        return None, Unavailable(f"{path}: damaged: {str(error)[:80]}")
    return value, None


class MetadataFiles:
    """Reads the engines' files."""

    def __init__(self, files: Files, homes: list[str]) -> None:
        self._files = files
        storages = (*STORAGES, *(f"{home}/.local/share/containers/storage" for home in homes))
        self._stores = tuple(f"{storage}/overlay-containers" for storage in storages)

    def all(self) -> Iterator[Metadata]:
        """Every container of which there are files; and a `Metadata` without id for a folder that cannot be
        listed in full, and for those of one engine of which it is not known whether they are there."""
        for engine, folders, read in (
            ("docker", (DOCKER,), self._docker),
            ("podman", self._stores, self._store),
            ("containerd", (TASKS,), self._tasks),
            ("lxc", LXC, self._lxc),
            ("systemd-nspawn", (MACHINES,), self._machines),
        ):
            there, unknown = find_places(self._files, folders)
            for folder in there:
                yield from read(folder)
            for places in unknown:
                yield Metadata(engine, "", places.paths[0], lack=places.lack)

    def _names(self, engine: str, path: str, lacks: list[Metadata]) -> list[str]:
        folder = list_folder(self._files, path)
        if folder is not None and folder.lack is not None:
            lacks.append(Metadata(engine, "", path, lack=folder.lack))
        return list(folder.names[:MAX_CONTAINERS]) if folder is not None else []

    def _docker(self, folder: str) -> Iterator[Metadata]:
        lacks: list[Metadata] = []
        for name in self._names("docker", folder, lacks):
            path = f"{folder}/{name}/config.v2.json"
            found = read_json(self._files, path)
            if found is None:
                continue
            config, lack = found
            host = read_json(self._files, f"{folder}/{name}/hostconfig.json")
            yield _of_docker(name, path, config, lack, host[0] if host else None)
        yield from lacks

    def _store(self, folder: str) -> Iterator[Metadata]:
        """`overlay-containers` of a storage (containers/storage): podman and CRI-O."""
        lacks: list[Metadata] = []
        known: dict[str, Metadata] = {}
        index = read_json(self._files, f"{folder}/containers.json")
        if index is not None and index[1] is not None:
            lacks.append(Metadata("podman", "", f"{folder}/containers.json", lack=index[1]))
        for item in index[0][:MAX_CONTAINERS] if index is not None and isinstance(index[0], list) else ():
            stored = _of_storage(f"{folder}/containers.json", item)
            known[stored.id] = stored
        for name in self._names("podman", folder, lacks):
            config = read_json(self._files, f"{folder}/{name}/userdata/config.json")
            if config is not None:
                base = known.pop(name, Metadata("podman", name))
                yield _of_oci(base, f"{folder}/{name}/userdata/config.json", *config)
        yield from known.values()
        yield from lacks

    def _tasks(self, folder: str) -> Iterator[Metadata]:
        lacks: list[Metadata] = []
        for space in self._names("containerd", folder, lacks):
            for name in self._names("containerd", f"{folder}/{space}", lacks):
                path = f"{folder}/{space}/{name}/config.json"
                config = read_json(self._files, path)
                if config is not None:
                    made = _of_oci(Metadata("containerd", name), path, *config)
                    root = (
                        made.root
                        if made.root.startswith("/")
                        else f"{folder}/{space}/{name}/{made.root or 'rootfs'}"
                    )
                    yield replace(made, root=root, engine="docker" if space == "moby" else made.engine)
        yield from lacks

    def _lxc(self, folder: str) -> Iterator[Metadata]:
        lacks: list[Metadata] = []
        for name in self._names("lxc", folder, lacks):
            path = f"{folder}/{name}/config"
            found = read_text(self._files, path)
            if found is None:
                continue
            settings = [
                (key.strip(), value.strip())
                for key, _equals, value in (line.text.partition("=") for line in found.lines)
            ]
            values = dict(settings)
            mounts = tuple(value for key, value in settings if key == "lxc.mount.entry")
            yield Metadata(
                "lxc", name, path, name, hostname=values.get("lxc.uts.name", ""),
                root=values.get("lxc.rootfs.path", values.get("lxc.rootfs", "")), mounts=mounts[:MAX_ITEMS],
                lack=found.lack,
            )  # fmt: skip
        yield from lacks

    def _machines(self, folder: str) -> Iterator[Metadata]:
        lacks: list[Metadata] = []
        for name in self._names("systemd-nspawn", folder, lacks):
            found = read_text(self._files, f"{folder}/{name}")
            if found is None or name.startswith("unit:"):
                continue
            values = parse_key_values(found.lines)
            leader = values.get("LEADER", "")
            engine = values.get("SERVICE") or "machine"
            yield Metadata(
                engine, name, found.path, values.get("NAME", name), root=values.get("ROOT", ""),
                pid=int(leader) if leader.isdecimal() and len(leader) < 10 else None,
                started=_of_microseconds(values.get("REALTIME", "")), lack=found.lack,
            )  # fmt: skip
        yield from lacks


def _of_docker(name: str, path: str, config: Json, lack: Unavailable | None, host: Json) -> Metadata:
    state = at(config, "State")
    running = {True: "running", False: "not running"}.get(at(state, "Running") is True, "")
    if at(state, "Paused") is True:
        running = "paused"
    pid = at(state, "Pid")
    marks = []
    if at(host, "Privileged") is True:
        marks.append("privileged")
    ports = _docker_ports(at(config, "NetworkSettings", "Ports")) or _docker_ports(at(host, "PortBindings"))
    return Metadata(
        "docker", name, path, word(config, "Name").lstrip("/"), word(config, "Config", "Image"), "",
        word(config, "Config", "Hostname"), " ".join([word(config, "Path"), *words(config, "Args")]).strip(),
        state=running if isinstance(state, dict) else "", created=word(config, "Created"),
        started=word(state, "StartedAt"), pid=pid if isinstance(pid, int) and pid > 0 else None,
        mounts=_docker_mounts(config, host), ports=ports, marks=tuple(marks), lack=lack,
    )  # fmt: skip


def _docker_mounts(config: Json, host: Json) -> tuple[str, ...]:
    points = at(config, "MountPoints")
    found = [
        f"{word(item, 'Source') or word(item, 'Name')}:{word(item, 'Destination')}"
        for item in (list(points.values())[:MAX_ITEMS] if isinstance(points, dict) else ())
    ]
    return tuple(dict.fromkeys((*found, *words(host, "Binds"))))


def _docker_ports(ports: Json) -> tuple[str, ...]:
    found = []
    for port, bindings in list(ports.items())[:MAX_ITEMS] if isinstance(ports, dict) else ():
        for binding in objects({"all": bindings}, "all"):
            found.append(f"{word(binding, 'HostIp') or '*'}:{word(binding, 'HostPort')}->{port}")
    return tuple(found)


def _of_storage(path: str, item: Json) -> Metadata:
    try:
        details: Json = json.loads(word(item, "metadata") or "{}")
    except (ValueError, RecursionError):
        details = None
    names = words(item, "names")
    return Metadata(
        "podman", word(item, "id"), path, names[0] if names else word(details, "name"),
        word(details, "image-name") or word(item, "image"), word(details, "pod-name"),
        created=word(item, "created"),
    )  # fmt: skip


_CRI = "io.kubernetes.cri."
_CRIO = "io.kubernetes.cri-o."
_MANAGER = "io.container.manager"
"""By this both say who they are: libpod, cri-o."""
_NAMES = (f"{_CRI}container-name", "io.kubernetes.container.name", "nerdctl/name")
_IMAGES = (f"{_CRI}image-name", f"{_CRIO}ImageName", f"{_CRIO}Image", "io.podman.annotations.image")
_PODS = (
    (f"{_CRI}sandbox-namespace", f"{_CRI}sandbox-name"),
    ("io.kubernetes.pod.namespace", "io.kubernetes.pod.name"),
)


def _of_oci(base: Metadata, path: str, config: Json, lack: Unavailable | None) -> Metadata:
    """With what an OCI config.json says."""
    notes = at(config, "annotations")
    is_crio = isinstance(notes, dict) and any(str(key).startswith(_CRIO) for key in notes)
    is_crio = is_crio and word(notes, _MANAGER) != "libpod"  # podman before 5 writes some of CRI-O's, too
    return replace(
        base,
        engine="cri-o" if is_crio else base.engine,
        path=path,
        name=base.name or _first(notes, _NAMES),
        image=base.image or _first(notes, _IMAGES),
        pod=base.pod or _pod(notes),
        hostname=word(config, "hostname"),
        command=" ".join(words(config, "process", "args")),
        root=word(config, "root", "path"),
        mounts=tuple(_bind_mounts(config)),
        lack=lack,
    )


def _first(notes: Json, keys: tuple[str, ...]) -> str:
    return next((word(notes, key) for key in keys if word(notes, key)), "")


def _pod(notes: Json) -> str:
    for space, name in _PODS:
        if word(notes, name):
            return "/".join(filter(None, (word(notes, space), word(notes, name))))
    return ""


def _bind_mounts(config: Json) -> Iterator[str]:
    for item in objects(config, "mounts"):
        if word(item, "type") == "bind" or {"bind", "rbind"} & set(words(item, "options")):
            yield f"{word(item, 'source')}:{word(item, 'destination')}"


def _of_microseconds(text: str) -> str:
    return utc(int(text) / 1e6).replace(" ", "T") if text.isdecimal() and len(text) < 18 else ""
