"""Registers of each CPU in saved states of QEMU and VMware, and what is not taken for them."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources import source
from vmware_writer import block, control_registers, regions, state, tag

from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.memory_image.physical import CpuRegisters
from hybridbridge_vol.memory_image.savevm_cpus import savevm_cpus
from hybridbridge_vol.memory_image.vmware_state import MAX_CPUS, parse_vmware_state

MIB = 1 << 20
ROOTS = st.lists(st.integers(0, (1 << 64) - 1), max_size=8)

# --- QEMU: migration/savevm.c, migration/vmstate.c ---

Field = dict[str, Any]
_PART = b"cpu/async_pf_msr"
IDT, LSTAR, DEBUG = 0xFFFFFE0000000000, 0xFFFFFFFF81000080, (1, 2, 3, 4, 0, 0, 0xFFFF0FF0, 0x400)


def cpu(number: int, cr3: int) -> tuple[Field, bytes]:
    """A device "cpu" as the description has it, with an array, a structure and a part, and its bytes."""
    fields = [
        {"name": "env.regs", "array_len": 16, "type": "uint64", "size": 8},
        {"name": "env.segs", "array_len": 6, "type": "struct", "struct": {"fields": []}, "size": 20},
        {"name": "env.idt", "type": "struct", "struct": {"fields": []}, "size": 20},
        {"name": "env.cr[3]", "type": "uint64", "size": 8},
        {"name": "env.cr[4]", "type": "uint64", "size": 8},
        {"name": "env.dr", "array_len": 8, "type": "uint64", "size": 8},
        {"name": "env.lstar", "type": "uint64", "size": 8},
        {"name": "env.cstar", "type": "uint32", "size": 4},
    ]
    part = {"vmsd_name": _PART.decode(), "version": 1, "fields": [{"name": "env.async_pf", "size": 8}]}
    device = {
        "name": "cpu", "instance_id": number, "vmsd_name": "cpu", "version": 12, "fields": fields,
        "subsections": [part],
    }  # fmt: skip
    head = bytes([5, len(_PART)]) + _PART + struct.pack(">I", 1)
    idt, debug = struct.pack(">IQII", 0, IDT, 0xFFF, 0), struct.pack(">8Q", *DEBUG)
    words = struct.pack(">QQ", cr3, 0x6F0), debug, struct.pack(">QI", LSTAR, 1)
    return device, bytes(8 * 16 + 20 * 6) + idt + b"".join(words) + head + bytes(8)


def buffer(content: bytes) -> tuple[Field, bytes]:
    """A device with a buffer that a guest fills."""
    field = {"name": "data", "size": len(content), "type": "buffer"}
    return {"name": "serial", "instance_id": 0, "vmsd_name": "serial", "fields": [field]}, content


def section(number: int, device: Field, data: bytes) -> bytes:
    """A device in the stream."""
    name = str(device["name"]).encode()
    head = struct.pack(">BIB", 4, number, len(name)) + name
    head += struct.pack(">II", int(device["instance_id"]), 12)
    return head + data + struct.pack(">BI", 0x7E, number)


def stream(devices: Sequence[tuple[Field, bytes]], described: Any = None) -> bytes:
    """A state without memory, with these devices at its end."""
    text = {"page_size": 4096, "devices": [device for device, _data in devices]}
    description = json.dumps(text if described is None else described).encode()
    sections = b"".join(section(number, *one) for number, one in enumerate(devices, 7))
    head = b"QEVM\0\0\0\3" + bytes(100)
    return head + sections + b"\0\6" + struct.pack(">I", len(description)) + description


def cr3s(data: bytes) -> list[int]:
    return [found.cr3 for found in savevm_cpus(source(data))]


@given(ROOTS)
def test_the_root_of_each_cpus_page_tables_is_in_a_state_of_qemus(roots: list[int]) -> None:
    devices = [cpu(number, root) for number, root in enumerate(roots)]
    assert cr3s(stream([*devices, buffer(b"text")])) == roots


def test_other_registers_are_read_where_the_description_has_them() -> None:
    """A field of another size is none of them."""
    (found,) = savevm_cpus(source(stream([cpu(0, 0x1000)])))
    assert found == CpuRegisters(0x1000, cr4=0x6F0, idt_vaddr=IDT, lstar=LSTAR, debug=DEBUG)


def test_a_device_that_a_guest_wrote_into_a_buffer_is_none() -> None:
    forged = section(7, *cpu(0, 0xBAD000))
    real = cpu(0, 0x1000)
    assert cr3s(stream([real, buffer(forged)])) == [0x1000]
    assert cr3s(stream([buffer(forged), real])) == [0x1000]
    assert cr3s(stream([buffer(forged)])) == []


def test_a_state_is_followed_as_far_as_its_description_fits() -> None:
    """Devices that stand elsewhere in the stream end the way back."""
    first, second = cpu(0, 0x1000), cpu(1, 0x2000)
    elsewhere: Field = {"name": "early", "instance_id": 0, "fields": [{"name": "x", "size": 4}]}
    described = {"devices": [first[0], elsewhere, second[0]]}
    assert cr3s(stream([first, second], described)) == [0x2000]
    assert cr3s(stream([first, second])[:-1]) == []
    assert cr3s(stream([first, second]) + b"more") == []


@pytest.mark.parametrize(
    "described",
    [
        [], {}, {"devices": {}}, {"devices": [1]}, {"devices": [{"name": 1, "instance_id": 0, "fields": []}]},
        {"devices": [{"name": "cpu", "instance_id": 0, "vmsd_name": "cpu"}]},
        {"devices": [{"name": "cpu", "instance_id": 0, "fields": [{"size": -1}]}]},
        {"devices": [{"name": "cpu", "instance_id": 0, "fields": [{"size": 1 << 80, "array_len": 1 << 80}]}]},
        {"devices": [{"name": "cpu", "instance_id": 0, "fields": [{"size": "8"}]}]},
        {"devices": [{"name": "cpu", "instance_id": 0, "fields": [], "subsections": [{}]}]},
    ],
)  # fmt: skip
def test_a_strange_description_gives_no_registers(described: Any) -> None:
    assert cr3s(stream([cpu(0, 0x1000)], described)) == []


def test_a_deep_description_ends() -> None:
    text = b"[" * MIB
    assert cr3s(b"QEVM" + bytes(100) + b"\0\6" + struct.pack(">I", len(text)) + text) == []


@given(st.binary(max_size=300), st.integers(0, 3000))
def test_damaged_states_of_qemus_do_no_harm(junk: bytes, at: int) -> None:
    data = bytearray(stream([cpu(0, 0x1000), cpu(1, 0x2000), buffer(b"text")]))
    data[-at : len(data) - at + len(junk)] = junk
    assert len(cr3s(bytes(data))) <= 2
    assert cr3s(bytes(data[: len(data) - at])) == [] or at == 0


# --- VMware ---


@given(ROOTS, st.booleans())
def test_the_root_of_each_cpus_page_tables_is_in_a_state_of_vmwares(roots: list[int], as_block: bool) -> None:
    data = state(regions([]), cpus=control_registers(roots, as_block))
    assert [found.cr3 for found in parse_vmware_state(source(data)).cpus] == roots


def test_registers_stand_beside_the_memory_whichever_file_is_given(tmp_path: Path) -> None:
    (tmp_path / "vm.vmem").write_bytes(bytes(4 * MIB))
    (tmp_path / "vm.vmss").write_bytes(state(regions([]), cpus=control_registers([0x1000, 0x2000])))
    for name in ("vm.vmem", "vm.vmss"):
        with open_image(tmp_path / name) as image:
            assert [found.cr3 for found in image.cpus] == [0x1000, 0x2000]


@pytest.mark.parametrize(
    "tags",
    [
        tag(b"CR64", (0, 2), 5, 8),
        tag(b"CR64", (), 5, 8),
        tag(b"CR", (0, 3), 5, 4),
        block(b"CR64", (0,), b"short"),
        block(b"CR64", (0,), bytes(40), size=62),
        block(b"CR64", (), bytes(40)),
    ],
)
def test_what_is_no_cr3_is_none(tags: bytes) -> None:
    assert parse_vmware_state(source(state(regions([]), cpus=tags))).cpus == ()


def test_a_register_that_is_there_twice_counts_once_and_their_number_is_bounded() -> None:
    twice = control_registers([0x1000]) + tag(b"CR64", (0, 3), 0x2000, 8)
    (only,) = parse_vmware_state(source(state(regions([]), cpus=twice))).cpus
    assert only.cr3 == 0x1000
    many = b"".join(tag(b"CR64", (number, 3), number, 8) for number in range(MAX_CPUS + 10))
    assert len(parse_vmware_state(source(state(regions([]), cpus=many))).cpus) == MAX_CPUS
