"""The rows of programs, maps, links and types."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from errno import EINVAL
from functools import partial
from typing import TypeVar

from hybridbridge_vol.bpf import objects as bpf
from hybridbridge_vol.bpf.disassembly import called
from hybridbridge_vol.bpf.names import LINK_TYPES, MAP_TYPES, PROGRAM_TYPES, name_of
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import BpfInfo
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, why
from hybridbridge_vol.toolkit.tool import Row
from hybridbridge_vol.tools.ebpf.attached import Attachments, Place
from hybridbridge_vol.tools.ebpf.helpers import Helpers
from hybridbridge_vol.tools.ebpf.marks import marks
from hybridbridge_vol.tools.ebpf.owners import Owners, pins

T = TypeVar("T")
_NANO = 1_000_000_000


def infos(kernel: GuestKernel, kind: str) -> Iterator[tuple[int, BpfInfo | Unavailable]]:
    """All objects of a kind; one row of id 0 that says why, if they cannot be listed."""
    try:
        numbers = kernel.bpf.ids(kind)
    except OSError as error:
        if kind != bpf.LINK or error.errno != EINVAL:  # before 5.8 there are no ids of links
            yield 0, why(f"bpf {kind}", error)
        return
    except UNREADABLE as error:
        yield 0, why(f"bpf {kind}", error)
        return
    for number in numbers:
        yield number, attempt(f"bpf {kind} {number}", partial(kernel.bpf.info, kind, number))


def source_of(kind: str, number: int) -> Source:
    """Where the kernel's structure about an object stands."""
    return Source(f"bpf {kind} {number}")


def _u32s(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4]))


def of_fdinfo(info: BpfInfo, key: str) -> int | None:
    """A number of /proc/PID/fdinfo."""
    found = re.search(rb"^" + key.encode() + rb":\s*(\d{1,20})$", info.fdinfo, re.MULTILINE)
    return int(found[1]) if found else None


def _unreadable(number: int, reason: Unavailable, count: int) -> Row:
    return Row((number or reason, *[reason] * (count - 1)))


def _all(
    kernel: GuestKernel, kind: str, parse: Callable[[bytes], T], count: int
) -> Iterator[tuple[T, BpfInfo] | Row]:
    for number, info in infos(kernel, kind):
        if isinstance(info, Unavailable):
            yield _unreadable(number, info, count)
            continue
        yield parse(info.data), info


def programs(kernel: GuestKernel, count: int) -> Iterator[Row]:
    """One row for each program."""
    owners = Owners(kernel)
    attachments = Attachments(kernel, owners)
    helpers = Helpers(kernel, attachments.symbol)
    boot = attempt("clock_gettime", lambda: kernel.clocks.realtime() - kernel.clocks.boottime())
    found = list(_all(kernel, bpf.PROG, bpf.parse_program, count))
    files = pins(kernel, _things(found, bpf.PROG))
    in_maps = _programs_in_maps(kernel)
    places_of = _places(attachments, found)
    for each in found:
        if isinstance(each, Row):
            yield each
            continue
        program, info = each
        places = places_of.get(program.id, [])
        calls = [helpers.symbol(value) for value in called(info.arrays["code"])]
        owner, pin = owners.text((bpf.PROG, program.id)), files.get((bpf.PROG, program.id))
        kept = bool(owner or pin or places or program.id in in_maps or owners.gap)
        remarkable = "; ".join(marks(calls, places, kept)) or None
        loaded = boot if isinstance(boot, Unavailable) else boot + program.load_ns / _NANO
        where = "; ".join(map(str, places)) or None
        cells = (*_program_cells(program, info, where, remarkable, loaded), owner, pin)
        yield Row(cells, sources=(source_of(bpf.PROG, program.id),))
    yield from _gaps([*attachments.gaps, owners.gap], count)


def _places(
    attachments: Attachments, found: list[tuple[bpf.Program, BpfInfo] | Row]
) -> dict[int, list[Place]]:
    """Where these programs are attached, by their ids. One that cannot be read may be of any type."""
    known = [each[0] for each in found if not isinstance(each, Row)]
    if not known:
        return {}
    all_known = len(known) == len(found)
    return attachments.of_programs({it.type for it in known} if all_known else range(len(PROGRAM_TYPES)))


def _program_cells(
    program: bpf.Program, info: BpfInfo, where: Cell, remarkable: Cell, loaded: Cell
) -> tuple[Cell, ...]:
    functions = info.arrays["functions"]
    address = struct.unpack_from("<Q", functions)[0] if len(functions) >= 8 else None
    return (
        program.id, name_of(program.type, PROGRAM_TYPES), program.name, program.tag, where, remarkable,
        loaded,
        program.uid, "yes" if program.gpl else None, " ".join(map(str, _u32s(info.arrays["maps"]))) or None,
        program.btf_id or None, program.xlated_size, program.jited_size, of_fdinfo(info, "memlock"), address,
        program.run_count or None,
    )  # fmt: skip


def _gaps(reasons: list[Unavailable | None], count: int) -> Iterator[Row]:
    for reason in dict.fromkeys(reasons):
        if reason is not None:
            yield Row((reason,) * count)


def _things(found: list[tuple[T, BpfInfo] | Row], kind: str) -> list[tuple[str, int]]:
    return [(kind, each[0].id) for each in found if not isinstance(each, Row)]  # type: ignore[attr-defined]


_PROG_ARRAY = 3


def _programs_in_maps(kernel: GuestKernel) -> set[int]:
    """Programs that a prog_array keeps: as values that read as their ids (kernel/bpf/arraymap.c)."""
    found: set[int] = set()
    for number, info in infos(kernel, bpf.MAP):
        if isinstance(info, Unavailable) or bpf.parse_map(info.data).type != _PROG_ARRAY:
            continue
        elements = attempt(f"bpf map {number}", partial(_elements, kernel, number))
        if not isinstance(elements, Unavailable):
            found |= {int.from_bytes(value, "little") for _key, value in elements if isinstance(value, bytes)}
    return found


def _elements(kernel: GuestKernel, number: int) -> list[tuple[bytes, bytes | OSError]]:
    return list(kernel.bpf.elements(number))


def _program(kernel: GuestKernel, number: int) -> bpf.Program:
    return bpf.parse_program(kernel.bpf.info(bpf.PROG, number).data)


def maps(kernel: GuestKernel, count: int) -> Iterator[Row]:
    """One row for each map."""
    owners = Owners(kernel)
    users: dict[int, list[int]] = {}
    for number, info in infos(kernel, bpf.PROG):
        for used in () if isinstance(info, Unavailable) else _u32s(info.arrays["maps"]):
            users.setdefault(used, []).append(number)
    found = list(_all(kernel, bpf.MAP, bpf.parse_map, count))
    files = pins(kernel, _things(found, bpf.MAP))
    for each in found:
        if isinstance(each, Row):
            yield each
            continue
        one, info = each
        thing = bpf.MAP, one.id
        frozen = of_fdinfo(info, "frozen")
        cells: tuple[Cell, ...] = (
            one.id, name_of(one.type, MAP_TYPES), one.name, one.key_size, one.value_size, one.max_entries,
            one.flags,
            of_fdinfo(info, "memlock"), None if frozen is None else ("yes" if frozen else None),
            one.btf_id or None,
            " ".join(map(str, users.get(one.id, ()))) or None, owners.text(thing), files.get(thing),
        )  # fmt: skip
        yield Row(cells, sources=(source_of(*thing),))
    yield from _gaps([owners.gap], count)


def links(kernel: GuestKernel, count: int) -> Iterator[Row]:
    """One row for each link."""
    owners = Owners(kernel)
    attachments = Attachments(kernel, owners)
    found = list(_all(kernel, bpf.LINK, bpf.parse_link, count))
    files = pins(kernel, _things(found, bpf.LINK))
    for each in found:
        if isinstance(each, Row):
            yield each
            continue
        link, info = each
        thing = bpf.LINK, link.id
        how, where = attachments.link(link, info.arrays.get("where"))
        program = attempt(f"bpf prog {link.program}", partial(_program, kernel, link.program))
        yield Row(
            (
                link.id, name_of(link.type, LINK_TYPES), link.program,
                program if isinstance(program, Unavailable) else program.name, how or None, where or None,
                owners.text(thing), files.get(thing),
            ),
            sources=(source_of(*thing),),
        )  # fmt: skip
    yield from _gaps([*attachments.gaps, owners.gap], count)


def types(kernel: GuestKernel, count: int) -> Iterator[Row]:
    """One row for each BTF object."""
    owners = Owners(kernel)
    users: dict[int, tuple[list[int], list[int]]] = {}
    for number, info in infos(kernel, bpf.PROG):
        if not isinstance(info, Unavailable) and (used := bpf.parse_program(info.data).btf_id):
            users.setdefault(used, ([], []))[0].append(number)
    for number, info in infos(kernel, bpf.MAP):
        if not isinstance(info, Unavailable) and (used := bpf.parse_map(info.data).btf_id):
            users.setdefault(used, ([], []))[1].append(number)
    for each in _all(kernel, bpf.BTF, bpf.parse_btf_info, count):
        if isinstance(each, Row):
            yield each
            continue
        one, info = each
        programs_, maps_ = users.get(one.id, ([], []))
        yield Row(
            (
                one.id, text(info.arrays["name"]) or None, one.size, "yes" if one.is_kernel else None,
                " ".join(map(str, programs_)) or None, " ".join(map(str, maps_)) or None,
                owners.text((bpf.BTF, one.id)),
            ),
            sources=(source_of(bpf.BTF, one.id),),
        )  # fmt: skip
    yield from _gaps([owners.gap], count)
