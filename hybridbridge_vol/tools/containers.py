"""containers: those of docker, podman, containerd, CRI-O, LXC and systemd-nspawn, and others like them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.procfs.pid import parse_cmdline
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import parsed
from hybridbridge_vol.toolkit.tool import Column, Moment, Option, Options, Row, Tool
from hybridbridge_vol.tools.process.listing import comm_of

if TYPE_CHECKING:
    from hybridbridge_vol.tools.container.metadata import Metadata
    from hybridbridge_vol.tools.container.search import Container


class Containers(Tool):
    name = "containers"
    help = "Containers of docker, podman, containerd, CRI-O, LXC and systemd-nspawn, with their processes"
    notes = (
        "Processes are told apart by the paths of their control groups, as the engines name them; processes "
        "with an overlay as their root and no engine's group are containers of `no engine`, or of the "
        "engine whose store the overlay lies in. NAME, IMAGE_NAME, POD, CREATED, MOUNTS and PORTS are what "
        "the engine's own files say (docker's config.v2.json, containers.json, OCI's config.json with the "
        "annotations of Kubernetes, LXC's config, /run/systemd/machines); containers without a process are "
        "listed from these files. ROOT and MARK are what the kernel says of the first process: which "
        "namespaces it shares with the host, whether the host's root or the engine's socket is mounted in "
        "it. With any tool `--ns-of PID` answers from inside of one."
    )
    example = "--processes"
    options = (
        Option("engine", str, "only this engine's", short="e"),
        Option("id", str, "only those whose id or name begins so"),
        Option("processes", bool, "the processes of each container below it", short="p"),
    )
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "ENGINE", "str", "docker, podman, containerd, cri-o, kubernetes, lxc, systemd-nspawn, no engine"
        ),
        Column("ID", "str", "by which the engine names it"),
        Column("NAME", "str", "name that it was given"),
        Column("IMAGE_NAME", "str", "image it was made of"),
        Column("POD", "str", "pod: namespace/name where that is known, else its uid"),
        Column(
            "STATE", "str", "running: it has processes; else what the engine's files say, or `no processes`"
        ),
        Column("CREATED", "time", "when it was made, as the engine wrote it"),
        Column("STARTED", "time", "when it was started, as the engine wrote it"),
        Column("NPROCS", "int", "processes"),
        Column("PID", "int", "its process that shares the least with the host"),
        Column("HOST", "str", "host name that it was given"),
        Column("COMMAND", "str", "command line of that process; [name] where there is none"),
        Column("ROOT", "str", "its root file system: where changes go, and what lies below"),
        Column("MOUNTS", "str", "what is mounted in it: source:target"),
        Column("PORTS", "str", "published ports: address:port->port/protocol"),
        Column("MARK", "str", "what gives it power over the host"),
        Column("GROUP", "str", "its control group"),
        Column("FILE", "str", "the engine's file that describes it"),
    )
    tree_column = "COMMAND"
    moments = (
        Moment("CREATED", "created", "container made"),
        Moment("STARTED", "created", "container started"),
    )
    moment_text = ("ENGINE", "ID", "NAME", "IMAGE_NAME", "STATE")

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.container.search import Search

        search = Search(kernel)
        for container in search.containers():
            if options["engine"] not in (None, container.member.engine) or not _is(container, options["id"]):
                continue
            yield _head(kernel, container)
            for pid in container.pids if options["processes"] else ():
                yield _of_process(kernel, container, pid, len(self.columns))
        for pid, error in search.unread.items():
            cells: list[Cell] = [error] * len(self.columns)
            cells[9] = pid
            yield Row(tuple(cells))


def _is(container: Container, begin: str | None) -> bool:
    name = container.metadata.name if container.metadata else ""
    return begin is None or container.member.id.startswith(begin) or name.startswith(begin)


def _head(kernel: GuestKernel, container: Container) -> Row:
    from hybridbridge_vol.tools.container.metadata import MAX_ITEMS, Metadata
    from hybridbridge_vol.tools.container.search import host_mounts

    member, metadata, pid = container.member, container.metadata or Metadata("", ""), container.pid
    mounts = joined_mounts(metadata.mounts, host_mounts(container.mounts))
    marks = dict.fromkeys((*metadata.marks, *container.marks))
    cells: tuple[Cell, ...] = (
        member.engine,
        member.id or container.lack,
        *_named(container, metadata),
        len(container.pids),
        pid,
        metadata.hostname or None,
        (metadata.command or None) if pid is None else _command(kernel, pid),
        container.root or metadata.root or None,
        " ".join(mounts[:MAX_ITEMS]) or None,
        " ".join(metadata.ports) or None,
        ", ".join(marks) or None,
        member.group or None,
        metadata.path or None,
    )
    sources = () if pid is None else (Source(f"/proc/{pid}/cgroup"), Source(f"/proc/{pid}/mountinfo"))
    return Row(cells, sources=sources)


def joined_mounts(named: Iterable[str], mounted: Iterable[str]) -> list[str]:
    """Mounts (`SOURCE:TARGET`) as an engine's files name them, and those that the kernel has besides. The
    kernel names a source from the root of its file system: if the engine's source ends with it, the mount is
    the same."""
    found = list(dict.fromkeys(named))
    known = [mount.split(":")[:2] for mount in found if ":" in mount]
    for mount in dict.fromkeys(mounted):
        source, _colon, target = mount.rpartition(":")
        if not any(other[1] == target and other[0].endswith(source) for other in known):
            found.append(mount)
    return found


def _named(container: Container, metadata: Metadata) -> tuple[Cell, ...]:
    """NAME to STARTED."""
    lack = container.lack
    return (
        metadata.name or lack,
        metadata.image or lack,
        metadata.pod or container.member.pod or None,
        "running" if container.pids else metadata.state or ("no processes" if container.member.id else lack),
        _time(metadata.path, metadata.created) or lack,
        _time(metadata.path, metadata.started),
    )


def _time(path: str, text: str) -> Cell:
    """Seconds since the epoch of what an engine wrote (RFC 3339, to the nanosecond); None for a time that is
    not set (Go writes the year 1)."""
    if not text or text.startswith("0001-"):
        return None
    try:
        moment = datetime.datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", text))
    except ValueError:
        return Unavailable(f"{path}: not a time: {text[:40]}")
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _of_process(kernel: GuestKernel, container: Container, pid: int, width: int) -> Row:
    cells: list[Cell] = [None] * width
    cells[0], cells[1], cells[9] = container.member.engine, container.member.id, pid
    cells[11] = _command(kernel, pid)
    return Row(tuple(cells), 1, (Source(f"/proc/{pid}/cgroup"), Source(f"/proc/{pid}/cmdline")))


def _command(kernel: GuestKernel, pid: int) -> Cell:
    arguments = parsed(kernel.files, f"/proc/{pid}/cmdline", parse_cmdline)
    if isinstance(arguments, Unavailable):
        return arguments
    name = comm_of(kernel.files, f"/proc/{pid}")
    return " ".join(arguments) or (name if isinstance(name, Unavailable) else f"[{name}]")


TOOL = Containers()
