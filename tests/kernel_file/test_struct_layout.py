"""Fields of structures by BTF: the same as by decoding all of it, on real kernels."""

from __future__ import annotations

import struct

import pytest
from generations import Lab
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.btf import Kind, parse_btf
from hybridbridge_vol.kernel_file.struct_layout import StructLayouts
from hybridbridge_vol.trust.linked_kernel import linked_kernel

SAMPLE = "6.1 two CPUs"


@pytest.fixture(scope="module")
def section(lab: Lab) -> bytes:
    kernel = lab.kernel(SAMPLE)
    text = kernel.text_link_vaddr
    start, stop = (kernel.symbols.address(name) - text for name in ("__start_BTF", "__stop_BTF"))
    return bytes(linked_kernel(kernel).flat[start:stop])


@pytest.fixture(scope="module")
def layouts(section: bytes) -> StructLayouts:
    return StructLayouts(section, "vmlinuz")


def test_all_fields_lie_where_the_whole_type_information_says(section: bytes, layouts: StructLayouts) -> None:
    types = parse_btf(section, "vmlinuz")
    checked: set[str] = set()
    for one in types.types:
        if one.kind is not Kind.STRUCT or not one.name or one.name in checked or len(checked) > 3000:
            continue
        checked.add(one.name)
        assert layouts.size(one.name) == one.size
        for member in one.members:
            if member.name:
                field = layouts.field(one.name, member.name)
                assert (8 * field.offset + field.bit, field.bits) == (member.bit_offset, member.bits)
    assert {"task_struct", "cred", "module", "file_operations"} & checked


def test_paths_lead_into_structures_and_through_those_without_a_name(layouts: StructLayouts) -> None:
    inner = layouts.offset("sock", "__sk_common.skc_prot")
    assert inner == layouts.offset("sock", "__sk_common") + layouts.offset("sock_common", "skc_prot")
    assert layouts.has("proc_dir_entry", "seq_ops")  # in a union without a name
    assert layouts.count("task_struct", "comm") == 16
    assert layouts.struct_of(layouts.field("task_struct", "cred").type) == "cred"
    assert "iterate_shared" in layouts.functions("file_operations")
    assert "owner" not in layouts.functions("file_operations")


def test_what_is_not_there_is_a_lookup_error(layouts: StructLayouts) -> None:
    assert not layouts.has("no_such_struct")
    for struct_name, path in (("task_struct", "nothing"), ("nothing", "x"), ("cred", "uid.val.x")):
        assert not layouts.has(struct_name, path)
        with pytest.raises(LookupError, match="this kernel has no"):
            layouts.offset(struct_name, path)
    with pytest.raises(LookupError, match="not an array"):
        layouts.count("task_struct", "cred")


def test_a_number_is_read_from_its_bytes_or_from_its_bits(layouts: StructLayouts) -> None:
    pid = layouts.number("task_struct", "pid")
    assert (pid.offset, pid.size, pid.bit, pid.mask) == (
        layouts.offset("task_struct", "pid"),
        4,
        0,
        0xFFFFFFFF,
    )
    bit = layouts.field("task_struct", "in_execve")  # unsigned in_execve:1
    number = layouts.number("task_struct", "in_execve")
    assert bit.bits == 1
    assert (number.offset, number.bit, number.mask) == (bit.offset, bit.bit, 1)
    with pytest.raises(LookupError, match="this kernel has no"):
        layouts.number("task_struct", "nothing")


@pytest.mark.parametrize("size", [0, 10, 24, 1000, -1, -4])
def test_a_part_of_it_is_damaged(section: bytes, size: int) -> None:
    with pytest.raises(KernelFileError, match="vmlinuz: its type information"):
        StructLayouts(section[:size], "vmlinuz")


@given(st.lists(st.integers(0, 0xFFFFFFFF), max_size=40))
def test_any_words_are_read_or_refused(words: list[int]) -> None:
    types = struct.pack(f"<{len(words)}I", *words)
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), 2)
    try:
        found = StructLayouts(head + types + b"\0a", "vmlinuz")
    except KernelFileError:
        return
    assert not found.has("b")
    if found.has("a"):
        assert found.size("a") >= 0
        assert isinstance(found.members("a"), tuple)
