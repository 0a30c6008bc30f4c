"""The registers of the CPUs in QEMU's saved states (savevm, migration to a file).

At the end of the stream stand the devices, one section each: a byte 4, its id, name, instance and version,
the device's fields, a byte 0x7e and the id again; then a byte 0, and a byte 6 with the length of a
description in JSON: the devices in the same order, with names and sizes of their fields (QEMU:
migration/savevm.c, `qemu_savevm_state_complete_precopy_non_iterable`; migration/vmstate.c). The field
`env.cr[3]` of a device "cpu" is its CR3 (target/i386/machine.c, `vmstate_x86_cpu`). Numbers are big endian.

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
_CPU, _CR3 = "cpu", "env.cr[3]"


class _Device(NamedTuple):
    name: bytes
    instance: int
    size: int
    cr3_at: int | None


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
        if device.cr3_at is not None:
            at = start + _SECTION.size + len(device.name) + _SECTION_END.size + device.cr3_at
            found.append(CpuRegisters(int.from_bytes(source.read_at(at, 8), "big")))
        end = start
    return found[::-1]


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
        size, cr3_at = _fields(device, left)
        is_cpu = device.get("vmsd_name") == _CPU
        yield _Device(name.encode("utf-8", "replace"), instance, size, cr3_at if is_cpu else None)


def _fields(state: Mapping[str, Any], left: list[int]) -> tuple[int, int | None]:
    """How many bytes a state's fields and parts take, and where CR3 is among them. _Strange."""
    size, cr3_at = 0, None
    for entry in _sequence(state.get("fields")):
        field = _mapping(entry)
        left[0] -= 1
        if left[0] < 0:
            raise _Strange
        one, count = field.get("size"), field.get("array_len", 1)
        if not isinstance(one, int) or not isinstance(count, int) or one < 0 or count < 0:
            raise _Strange
        if field.get("name") == _CR3 and one == 8:
            cr3_at = size
        size += one * count
    for entry in _sequence(state.get("subsections", [])):
        part = _mapping(entry)
        name = part.get("vmsd_name")
        if not isinstance(name, str):
            raise _Strange
        size += 1 + 1 + len(name.encode("utf-8", "replace")) + 4 + _fields(part, left)[0]
    return size, cr3_at


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
