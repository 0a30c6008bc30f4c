"""Where eBPF programs are attached: by links, perf events, control groups, interfaces and filters of
traffic."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from errno import EINVAL, ENOENT, EOPNOTSUPP
from functools import cached_property, partial
from stat import S_ISDIR
from typing import NamedTuple

from hybridbridge_vol.bpf import objects as bpf
from hybridbridge_vol.bpf.link_text import Attached, Names, link_attached
from hybridbridge_vol.bpf.names import ATTACH_TYPES, EVENT_KINDS, cgroup_ways, name_of
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.traffic import bpf_filters, xdp_programs
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, why
from hybridbridge_vol.tools.ebpf.owners import Owners
from hybridbridge_vol.tools.ebpf.type_names import TypeNames
from hybridbridge_vol.tools.network.link_answers import link_answers, names_by_index
from hybridbridge_vol.tools.network.traffic import filters_of_all

_CGROUPS = "/sys/fs/cgroup"
_EVENT = "event"
"""How a link attaches a program of the type perf_event."""
MOST_CGROUPS = 1 << 14
"""Control groups that are asked for their programs."""
_INTERFACE_FILES = (
    "cgroup.", "cpu.", "cpuset.", "memory.", "io.", "pids.", "hugetlb.", "rdma.", "misc.", "irq.",
    "perf_event.",
    "dmem.",
)  # fmt: skip
"""How the names of a control group's files begin, which are no groups."""


class Place(NamedTuple):
    """Where a program is attached."""

    program: int
    how: str
    where: str

    def __str__(self) -> str:
        return f"{self.how} {self.where}".strip()


def unexplained(events: list[Unavailable], links: Iterable[Place]) -> list[Unavailable]:
    """Of perf events whose program the kernel does not say those that no link accounts for: an event runs one
    program, and a link has one event."""
    return events[sum(place.how == _EVENT for place in links) :]


class Attachments:
    """All attachments, each kind asked for once. `gaps` are why some may be missing."""

    def __init__(self, kernel: GuestKernel, owners: Owners) -> None:
        self._kernel = kernel
        self._owners = owners
        self.gaps: list[Unavailable] = []

    def of_programs(self, types: Collection[int]) -> dict[int, list[Place]]:
        """The places of each program, by its id. Programs of other types than these are not looked for in
        control groups, of which a machine has hundreds."""
        found: dict[int, list[Place]] = {}
        of_cgroups = self._of_cgroups(cgroup_ways(types))
        for place in (*self._of_interfaces(), *self._events(), *of_cgroups, *self.of_links):
            known = found.setdefault(place.program, [])
            if not any(place.how == each.how and each.where.startswith(place.where) for each in known):
                known.append(place)
        return found

    @cached_property
    def of_links(self) -> list[Place]:
        found = []
        for number in self._ids(bpf.LINK):
            info = attempt(f"bpf link {number}", partial(self._kernel.bpf.info, bpf.LINK, number))
            if isinstance(info, Unavailable):
                self.gaps.append(info)
                continue
            link = bpf.parse_link(info.data)
            how, where = self.link(link, info.arrays.get("where"))
            found.append(Place(link.program, how, where))
        return found

    def link(self, link: bpf.Link, where: bytes | None) -> Attached:
        """Where a link attaches its program."""
        return link_attached(link, where, self.names)

    def _ids(self, kind: str) -> list[int]:
        try:
            return self._kernel.bpf.ids(kind)
        except OSError as error:
            if error.errno != EINVAL:  # before 5.8 there are no ids of links
                self.gaps.append(why(f"bpf {kind}", error))
        except UNREADABLE as error:
            self.gaps.append(why(f"bpf {kind}", error))
        return []

    @cached_property
    def names(self) -> Names:
        """What links name by number."""
        interfaces = names_by_index(self._kernel)
        return Names(
            lambda ifindex: interfaces.get(ifindex, f"if{ifindex}"),
            lambda number: self._cgroup_paths.get(number, f"cgroup {number}"),
            self.function,
            self.symbol,
        )

    def symbol(self, vaddr: int) -> str:
        """The name of what is at an address, without its size; the number if nothing is."""
        found = attempt("sprint_symbol", lambda: self._kernel.addresses.symbol(vaddr))
        if isinstance(found, Unavailable):
            return f"{vaddr:#x}"
        return found.split("+0x0/")[0] if "+0x0/" in found else found

    def function(self, obj: int, number: int) -> str:
        """The name of a type of BTF: the function that is traced. `obj` is the id of a BTF object, or of the
        kernel's own."""
        if not number:
            return ""
        return self._functions.name(obj, number) or f"btf {obj} type {number}"

    @cached_property
    def _functions(self) -> TypeNames:
        return TypeNames(self._kernel)

    # --- what has no link ---------------------------------------------------------------------------------

    def _events(self) -> Iterator[Place]:
        """What perf events run. Of a program of their own type the kernel does not say which it is
        (EOPNOTSUPP of bpf_get_perf_event_info, kernel/trace/bpf_trace.c): its link does, if it has one."""
        unnamed = []
        for holder in self._owners.events:
            try:
                event = self._kernel.bpf.event(holder.pid, holder.fd)
            except OSError as error:
                if error.errno == EOPNOTSUPP:
                    unnamed.append(why(f"/proc/{holder.pid}/fd/{holder.fd}", error))
                elif error.errno not in (ENOENT, EINVAL):  # it runs no program
                    self.gaps.append(why(f"/proc/{holder.pid}/fd/{holder.fd}", error))
                continue
            except UNREADABLE as error:
                self.gaps.append(why(f"/proc/{holder.pid}/fd/{holder.fd}", error))
                continue
            name = text(event.name) or f"{event.vaddr:#x}"
            yield Place(
                event.program,
                name_of(event.kind, EVENT_KINDS),
                name + (f"+{event.offset:#x}" if event.offset else ""),
            )
        self.gaps += unexplained(unnamed, self.of_links) if unnamed else []

    @cached_property
    def _cgroup_paths(self) -> dict[int, str]:
        """The control groups by their ids, which are the numbers of their inodes."""
        found: dict[int, str] = {}
        waiting = [""]
        while waiting and len(found) < MOST_CGROUPS:
            path = waiting.pop()
            folder = f"{_CGROUPS}{path}"
            try:
                names = self._kernel.files.of_the_kernel.listdir(folder)
                found[self._kernel.files.of_the_kernel.stat(folder).ino] = path or "/"
            except UNREADABLE as error:
                self.gaps.append(why(folder, error))
                continue
            for name in names:
                if name.startswith(_INTERFACE_FILES):
                    continue
                try:
                    if S_ISDIR(self._kernel.files.of_the_kernel.stat(f"{folder}/{name}").mode):
                        waiting.append(f"{path}/{name}")
                except UNREADABLE as error:
                    self.gaps.append(why(f"{folder}/{name}", error))
        return found

    def _of_cgroups(self, ways: Sequence[int]) -> Iterator[Place]:
        for path in list(self._cgroup_paths.values()) if ways else ():
            try:
                programs = self._kernel.bpf.of_cgroup(f"{_CGROUPS}{path}".rstrip("/"), ways)
            except UNREADABLE as error:
                self.gaps.append(why(f"bpf programs of {path}", error))
                continue
            yield from (Place(program, ATTACH_TYPES[way], path) for way, program in programs)

    def _of_interfaces(self) -> Iterator[Place]:
        answers = attempt("rtnetlink", lambda: link_answers(self._kernel))
        if isinstance(answers, Unavailable):
            self.gaps.append(answers)
            return
        self.gaps += answers.missing.values()
        for interface, mode, program in xdp_programs(answers.data):
            yield Place(program, "xdp", interface + mode)
        filters, gaps = filters_of_all(self._kernel)
        self.gaps += gaps
        for interface, where, program in bpf_filters(filters, self.names.interface):
            yield Place(program, where, interface)
