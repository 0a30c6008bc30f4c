"""The registers of the CPUs in QEMU's saved states (savevm, migration to a file).

At the end of the stream stand the devices, one section each: a byte 4, its id, name, instance and version,
the device's fields, a byte 0x7e and the id again; then a byte 0, and a byte 6 with the length of a
description in JSON: the devices in the same order, with names and sizes of their fields (QEMU:
migration/savevm.c, `qemu_savevm_state_complete_precopy_non_iterable`; migration/vmstate.c). The field
`env.cr[3]` of a device "cpu" is its CR3, and so on (target/i386/machine.c, `vmstate_x86_cpu`; a segment
register is selector, base, limit and flags). Numbers are big endian.

The devices are followed from the last one backwards, each where its size puts it, and as far as their headers
and ends are there: what a guest has put into a device's buffers is never taken for a device.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hybridbridge_vol.memory_image.image_file import Source
from hybridbridge_vol.memory_image.physical import CpuRegisters

MAX_DESCRIPTION = 8 << 20
"""Bytes. That of a plain machine with two CPUs has 0.1 MiB."""
MAX_DEVICES = 1 << 16
"""Some for each of 8,192 CPUs."""
MAX_FIELDS = 1 << 20
"""Fields of all devices together, nested ones included."""
_END_OF_SECTIONS, _FULL_SECTION, _DESCRIPTION, _FOOTER = 0, 4, 6, 0x7E
_LENGTH = struct.Struct(">BI")
_SECTION = struct.Struct(">BIB")
_SECTION_END = struct.Struct(">II")
_CANDIDATES = 8
"""Bytes 6 that are tried from the end: JSON has none, the length before it has at most four."""
_CPU = "cpu"
_WORD = 8
_FIELDS = {
    "env.cr[3]": ("cr3", 8, 1, 0), "env.cr[0]": ("cr0", 8, 1, 0), "env.cr[4]": ("cr4", 8, 1, 0),
    "env.idt": ("idt_vaddr", 20, 1, 4), "env.lstar": ("lstar", 8, 1, 0), "env.cstar": ("cstar", 8, 1, 0),
    "env.sysenter_eip": ("sysenter_eip", 8, 1, 0), "env.dr": ("debug", 8, 8, 0),
}  # fmt: skip
"""Fields of a CPU by their names: the register, the field's size in bytes, how many there are, and where in
the first one the register stands."""


class _Device(NamedTuple):
    """`places`: registers of a CPU, by name, and where they are among its fields."""

    name: bytes
    instance: int
    size: int
    places: dict[str, int]


class _Strange(Exception):
    """A description that no QEMU writes."""


def savevm_cpus(source: Source) -> list[CpuRegisters]:
    """One for each CPU whose section is found; none if the state has no description, or it does not fit."""
    size = min(source.size, MAX_DESCRIPTION)
    tail = source.read_at(source.size - size, size)
    try:
        at, description = _description(tail)
        devices = list(_devices(description))
    except (_Strange, ValueError, RecursionError):
        return []
    end = source.size - size + at - 1
    if not at or tail[at - 1] != _END_OF_SECTIONS:
        return []
    found = []
    for device in reversed(devices):
        start = _start(source, device, end)
        if start is None:
            break
        if "cr3" in device.places:
            fields = start + _SECTION.size + len(device.name) + _SECTION_END.size
            found.append(_registers(source, fields, device.places))
        end = start
    return found[::-1]


def _registers(source: Source, fields: int, places: Mapping[str, int]) -> CpuRegisters:
    """The registers of a CPU whose fields begin at a file offset."""

    def words(register: str, count: int) -> tuple[int, ...]:
        data = source.read_at(fields + places[register], count * _WORD)
        return struct.unpack(f">{len(data) // _WORD}Q", data[: len(data) & -_WORD])

    values = {name: words(name, 1)[0] for name in places if name != "debug"}
    return CpuRegisters(**values, debug=words("debug", 8) if "debug" in places else ())


def _description(tail: bytes) -> tuple[int, Any]:
    """Where in the end of a file the description begins, and what it says. _Strange, ValueError."""
    at = len(tail)
    for _ in range(_CANDIDATES):
        at = tail.rfind(_DESCRIPTION, 0, at)
        if at < 0 or at + _LENGTH.size > len(tail):
            break
        if _LENGTH.unpack_from(tail, at)[1] == len(tail) - at - _LENGTH.size:
            return at, json.loads(tail[at + _LENGTH.size :])
    raise _Strange


def _devices(description: Any) -> Iterator[_Device]:
    """In the order of the description. _Strange."""
    left = [MAX_FIELDS]
    for count, entry in enumerate(_sequence(_mapping(description).get("devices"))):
        if count == MAX_DEVICES:
            raise _Strange
        device = _mapping(entry)
        name, instance = device.get("name"), device.get("instance_id")
        if not isinstance(name, str) or not isinstance(instance, int):
            raise _Strange
        size, places = _fields(device, left)
        is_cpu = device.get("vmsd_name") == _CPU
        yield _Device(name.encode("utf-8", "replace"), instance, size, places if is_cpu else {})


def _fields(state: Mapping[str, Any], left: list[int]) -> tuple[int, dict[str, int]]:
    """How many bytes a state's fields and parts take, and where registers are among them. _Strange."""
    size = 0
    places: dict[str, int] = {}
    for entry in _sequence(state.get("fields")):
        field = _mapping(entry)
        left[0] -= 1
        if left[0] < 0:
            raise _Strange
        one, count = field.get("size"), field.get("array_len", 1)
        if not isinstance(one, int) or not isinstance(count, int) or one < 0 or count < 0:
            raise _Strange
        register, *shape, at = _FIELDS.get(str(field.get("name")), ("", 0, 0, 0))
        if shape == [one, count] and register:
            places[register] = size + at
        size += one * count
    for entry in _sequence(state.get("subsections", [])):
        part = _mapping(entry)
        name = part.get("vmsd_name")
        if not isinstance(name, str):
            raise _Strange
        size += 1 + 1 + len(name.encode("utf-8", "replace")) + 4 + _fields(part, left)[0]
    return size, places


def _start(source: Source, device: _Device, end: int) -> int | None:
    """Where the section of a device begins that ends at the file offset `end`; None if it is not there."""
    head_size = _SECTION.size + len(device.name) + _SECTION_END.size
    start = end - _LENGTH.size - device.size - head_size
    if start < 0:
        return None
    head, foot = source.read_at(start, head_size), source.read_at(end - _LENGTH.size, _LENGTH.size)
    if len(head) < head_size or len(foot) < _LENGTH.size:
        return None
    kind, number, name_size = _SECTION.unpack_from(head)
    instance, _version = _SECTION_END.unpack_from(head, _SECTION.size + len(device.name))
    fits = (kind, name_size, instance) == (_FULL_SECTION, len(device.name), device.instance)
    named = head[_SECTION.size :].startswith(device.name)
    return start if fits and named and _LENGTH.unpack(foot) == (_FOOTER, number) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Strange
    return value


def _sequence(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise _Strange
    return value
