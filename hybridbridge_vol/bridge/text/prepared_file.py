"""The file of what was prepared for a boot: a head of named values, and named columns of numbers.

The form is that of `trust.column_file`. Every section has one place, one name and one type of number; a file
with other sections, or of another version, is damaged. It is a cache: a damaged file is made again.
"""

from __future__ import annotations

from array import array
from typing import Any

from hybridbridge_vol.bridge.text.call_hashes import CallHashes
from hybridbridge_vol.bridge.text.cpu_features import FeatureBranches
from hybridbridge_vol.bridge.text.file_system_form import FileSystemForm
from hybridbridge_vol.bridge.text.first_field import LARGEST_OFFSET
from hybridbridge_vol.bridge.text.per_cpu_references import PerCpuText
from hybridbridge_vol.bridge.text.policy import ACTIONS, Trampoline
from hybridbridge_vol.bridge.text.prepared import RELOCATIONS, Prepared
from hybridbridge_vol.bridge.text.proxy_task import ProxyTask
from hybridbridge_vol.bridge.text.runtime_constants import RuntimeConstants
from hybridbridge_vol.bridge.text.slab_fields import SlabFields
from hybridbridge_vol.bridge.text.static_keys import JumpLabels
from hybridbridge_vol.bridge.text.twin_text import Sites, Words
from hybridbridge_vol.trust import column_file
from hybridbridge_vol.trust.files import Record

FORMAT = 15
"""Version of what `Prepared` holds and of this file."""

_MAGIC = b"hybridbridge prepared\n"

_SITES = "sites "
_SECTIONS = {
    **{_SITES + name: "I" for name in RELOCATIONS},
    "trampoline offsets": "I",
    "trampoline actions": "B",
    "trampoline values": "i",
    "trampoline sides": "B",
    "trampoline arguments": "B",
    "trampoline targets": "I",
    "fix-ups": "I",
    "warnings": "I",
    "label codes": "I",
    "label targets": "I",
    "label keys": "I",
    "label flags": "I",
    "feature sites": "I",
    "feature targets with": "I",
    "feature targets without": "I",
    "feature bytes": "I",
    "feature masks": "I",
    "per-CPU fields": "I",
    "per-CPU offset fields": "I",
    "hash distances": "I",
    "hashes": "I",
    "constant sites": "I",
    "constant sizes": "B",
    "constant variables": "I",
    "constant variable sizes": "B",
    "restored offsets": "I",
    "restored sizes": "B",
    "restored values": "Q",
    "slab caches": "Q",
}
"""The sections in the order of the file, and the type of their numbers (see `array`)."""

_Columns = dict[str, "array[int]"]


def dump(prepared: Prepared) -> bytes:
    """The file's bytes."""
    columns = _columns_of(prepared)
    head = {
        "format": FORMAT,
        "rodata_end": prepared.rodata_end,
        "unmatched": prepared.unmatched,
        "per_cpu": [prepared.per_cpu.start, prepared.per_cpu.end],
        "hash_seed": prepared.hashes.seed,
        "proxy_task": prepared.proxy_task._asdict(),
        "slab_fields": [*prepared.slab_fields] if prepared.slab_fields else [],
        "file_systems": [*prepared.file_systems],
        "sections": [[name, len(columns[name])] for name in _SECTIONS],
    }
    return column_file.pack(_MAGIC, head, (columns[name] for name in _SECTIONS))


def parse(data: bytes) -> Prepared:
    """Read what `dump` gave. ValueError says what is wrong with anything else."""
    head, numbers = column_file.unpack(_MAGIC, data)
    if head.get("format") != FORMAT:
        raise ValueError("of another version")
    return _prepared_from(head, _read_columns(head.get("sections"), column_file.ColumnReader(numbers)))


def _read_columns(sections: object, numbers: column_file.ColumnReader) -> _Columns:
    if not isinstance(sections, list) or len(sections) != len(_SECTIONS):
        raise ValueError("of other sections")
    columns = {}
    for section, (name, typecode) in zip(sections, _SECTIONS.items(), strict=True):
        if not isinstance(section, list) or len(section) != 2 or section[0] != name:
            raise ValueError(f"no section {name!r} where it should be")
        columns[name] = numbers.take(typecode, section[1])
    numbers.finish()
    return columns


def _columns_of(prepared: Prepared) -> _Columns:
    labels, features, per_cpu = prepared.labels, prepared.features, prepared.per_cpu
    trampolines = prepared.trampolines
    return {
        **{
            _SITES + name: array("I", sites.offsets)
            for name, sites in zip(RELOCATIONS, prepared.sites, strict=True)
        },
        "trampoline offsets": array("I", (item.offset for item in trampolines)),
        "trampoline actions": array("B", (ACTIONS.index(item.action) for item in trampolines)),
        "trampoline values": array("i", (item.value for item in trampolines)),
        "trampoline sides": array("B", (item.both_sides for item in trampolines)),
        "trampoline arguments": array("B", (item.trusted for item in trampolines)),
        "trampoline targets": array("I", (item.target for item in trampolines)),
        "fix-ups": prepared.fixups,
        "warnings": prepared.warnings,
        "label codes": labels.codes,
        "label targets": labels.targets,
        "label keys": labels.keys,
        "label flags": labels.flags,
        "feature sites": features.sites,
        "feature targets with": features.yes,
        "feature targets without": features.no,
        "feature bytes": features.places,
        "feature masks": features.masks,
        "per-CPU fields": per_cpu.fields,
        "per-CPU offset fields": per_cpu.offset_fields,
        "hash distances": prepared.hashes.distances,
        "hashes": prepared.hashes.places,
        "constant sites": prepared.constants.sites,
        "constant sizes": prepared.constants.sizes,
        "constant variables": prepared.constants.variables,
        "constant variable sizes": prepared.constants.variable_sizes,
        "restored offsets": prepared.restored.offsets,
        "restored sizes": prepared.restored.sizes,
        "restored values": prepared.restored.values,
        "slab caches": array("Q", prepared.caches),
    }


def _prepared_from(head: Record, columns: _Columns) -> Prepared:
    of = columns.__getitem__
    for group in ("trampoline ", "label ", "feature ", "constant ", "restored "):
        if len({len(column) for name, column in columns.items() if name.startswith(group)}) != 1:
            raise ValueError(f"sections {group}* of different lengths")
    start, end = _numbers(head.get("per_cpu"), 2)
    return Prepared(
        rodata_end=_numbers([head.get("rodata_end")], 1)[0],
        sites=tuple(Sites(of(_SITES + name), step, size) for name, (step, size) in RELOCATIONS.items()),
        trampolines=_trampolines(columns),
        unmatched=_texts(head.get("unmatched")),
        fixups=of("fix-ups"),
        warnings=of("warnings"),
        labels=JumpLabels(of("label codes"), of("label targets"), of("label keys"), of("label flags")),
        features=FeatureBranches(
            of("feature sites"),
            of("feature targets with"),
            of("feature targets without"),
            of("feature bytes"),
            of("feature masks"),
        ),
        per_cpu=PerCpuText(start, end, of("per-CPU fields"), of("per-CPU offset fields")),
        hashes=CallHashes(of("hash distances"), _numbers([head.get("hash_seed")], 1)[0], of("hashes")),
        constants=RuntimeConstants(
            of("constant sites"),
            of("constant sizes"),
            of("constant variables"),
            of("constant variable sizes"),
        ),
        restored=Words(of("restored offsets"), of("restored sizes"), of("restored values")),
        caches=list(of("slab caches")),
        slab_fields=_slab_fields(head.get("slab_fields")),
        file_systems=FileSystemForm(*_numbers(head.get("file_systems"), len(FileSystemForm._fields))),
        proxy_task=_proxy_task(head.get("proxy_task")),
    )


def _trampolines(columns: _Columns) -> list[Trampoline]:
    names = ("offsets", "actions", "values", "sides", "arguments", "targets")
    try:
        offsets, actions, values, sides, arguments, targets = (
            columns[f"trampoline {name}"] for name in names
        )
        named, both = map(ACTIONS.__getitem__, actions), map(bool, sides)
        return list(map(Trampoline._make, zip(offsets, named, values, both, arguments, targets, strict=True)))
    except IndexError:
        raise ValueError("a trampoline of an unknown action") from None


def _proxy_task(record: Any) -> ProxyTask:
    names = list(ProxyTask._fields)
    if not isinstance(record, dict) or list(record) != names:
        raise ValueError("no proxy task")
    return ProxyTask(*_numbers(list(record.values()), len(names)))


def _slab_fields(values: Any) -> SlabFields | None:
    if values == []:
        return None
    fields_of_cache = SlabFields(*_numbers(values, 2))
    if max(fields_of_cache.object_size, fields_of_cache.constructor) >= LARGEST_OFFSET:
        raise ValueError("no offsets of a slab cache")
    return fields_of_cache


def _numbers(values: Any, count: int) -> list[int]:
    """So many unsigned 64-bit numbers."""
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(type(value) is int and 0 <= value < 1 << 64 for value in values)
    ):
        raise ValueError("other values than numbers")
    return values


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("other values than texts")
    return values
