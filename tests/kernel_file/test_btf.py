"""BTF, and Volatility's symbol table made of it: on small sections written here, and on the kernels
themselves."""

from __future__ import annotations

import base64
import json
import lzma
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from generations import Lab
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import KernelFileError
from hybridbridge_vol.kernel_file.btf import Kind, parse_btf
from hybridbridge_vol.kernel_file.isf.table import isf_of
from hybridbridge_vol.kernel_file.isf.types import IsfTypes
from hybridbridge_vol.kernel_file.kernel import KernelImage


class Writer:
    """A BTF section under construction; each method gives the number of the type it adds."""

    def __init__(self) -> None:
        self._types, self._text, self._count = b"", b"\0", 0

    def text(self, name: str) -> int:
        if not name:
            return 0
        self._text += name.encode() + b"\0"
        return len(self._text) - len(name) - 1

    def add(
        self,
        kind: Kind,
        name: str = "",
        size_or_type: int = 0,
        rows: bytes = b"",
        members: int = 0,
        flag: int = 0,
    ) -> int:
        self._types += (
            struct.pack("<III", self.text(name), flag << 31 | kind << 24 | members, size_or_type) + rows
        )
        self._count += 1
        return self._count

    def integer(self, name: str, size: int, encoding: int = 0) -> int:
        return self.add(Kind.INT, name, size, struct.pack("<I", encoding << 24 | size * 8))

    def struct(
        self, name: str, size: int, *members: tuple[str, int, int, int], kind: Kind = Kind.STRUCT
    ) -> int:
        """Members: name, type, bit offset, bits."""
        rows = b"".join(
            struct.pack("<III", self.text(n), t, bits << 24 | offset) for n, t, offset, bits in members
        )
        return self.add(kind, name, size, rows, len(members), 1)

    def section(self) -> bytes:
        head = struct.pack(
            "<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self._types), len(self._types), len(self._text)
        )
        return head + self._types + self._text


@pytest.fixture
def types() -> IsfTypes:
    """A struct with a field of every sort."""
    w = Writer()
    integer, char = w.integer("int", 4, 1), w.integer("unsigned char", 1)
    alias = w.add(Kind.TYPEDEF, "myint", w.add(Kind.CONST, "", integer))
    inner = w.struct("", 8, ("left", integer, 0, 0), ("right", integer, 32, 0))
    array = w.add(Kind.ARRAY, "", 0, struct.pack("<III", char, integer, 16))
    function = w.add(Kind.PTR, "", w.add(Kind.FUNC_PROTO, "", integer))
    colour = w.add(Kind.ENUM, "colour", 4, struct.pack("<IiIi", w.text("RED"), -1, w.text("BLUE"), 2), 2, 1)
    wide = w.add(Kind.ENUM64, "wide", 8, struct.pack("<III", w.text("TOP"), 5, 1 << 31), 1)
    later = w.add(Kind.FWD, "later")
    me = 13
    members = [
        ("number", alias, 0, 0), ("", inner, 32, 0), ("text", array, 96, 0), ("call", function, 256, 0),
        ("shade", colour, 320, 0), ("low", integer, 352, 3), ("high", integer, 355, 29),
        ("next", w._count + 1, 384, 0),
    ]  # fmt: skip
    pointer = w.add(Kind.PTR, "", me)
    assert w.struct("thing", 64, *members) == me
    assert pointer == me - 1
    w.struct("thing", 4, ("other", integer, 0, 0))
    w.struct("later", 8, ("pointer", w.add(Kind.PTR, "", later), 0, 0))
    assert wide
    return IsfTypes(parse_btf(w.section(), "kernel"))


def test_fields_of_every_kind(types: IsfTypes) -> None:
    fields = types.user_types["thing"]["fields"]
    assert fields["number"] == {"type": {"kind": "base", "name": "int"}, "offset": 0}
    assert fields["unnamed_field_1"]["anonymous"] is True
    assert types.user_types[fields["unnamed_field_1"]["type"]["name"]]["fields"]["right"]["offset"] == 4
    assert fields["text"]["type"] == {
        "kind": "array",
        "count": 16,
        "subtype": {"kind": "base", "name": "unsigned char"},
    }
    assert fields["call"]["type"] == {"kind": "pointer", "subtype": {"kind": "function"}}
    assert fields["shade"]["type"] == {"kind": "enum", "name": "colour"}
    assert fields["next"]["type"] == {"kind": "pointer", "subtype": {"kind": "struct", "name": "thing"}}


def test_bit_fields_lie_in_their_storage_unit(types: IsfTypes) -> None:
    fields = types.user_types["thing"]["fields"]
    assert fields["low"]["offset"] == fields["high"]["offset"] == 44
    assert [fields["high"]["type"][key] for key in ("bit_position", "bit_length")] == [3, 29]


def test_enums_keep_their_signs(types: IsfTypes) -> None:
    assert types.enums["colour"] == {"size": 4, "base": "int", "constants": {"RED": -1, "BLUE": 2}}
    assert types.enums["wide"]["constants"] == {"TOP": 1 << 63 | 5}
    assert types.enums["wide"]["base"] == "long unsigned int"


def test_two_structs_of_one_name_get_two_names(types: IsfTypes) -> None:
    assert types.user_types["thing___2"]["fields"].keys() == {"other"}


def test_a_declared_struct_is_the_one_that_is_defined_later(types: IsfTypes) -> None:
    assert types.user_types["later"]["size"] == 8
    assert types.user_types["later"]["fields"]["pointer"]["type"]["subtype"]["name"] == "later"


def test_a_type_without_a_name_has_that_of_its_typedef() -> None:
    w = Writer()
    integer = w.integer("int", 4, 1)
    w.add(Kind.TYPEDEF, "kernel_cap_t", w.struct("", 4, ("val", integer, 0, 0)))
    w.add(Kind.TYPEDEF, "taken", w.struct("", 8, ("other", integer, 0, 0)))
    w.struct("taken", 4, ("own", integer, 0, 0))
    found = IsfTypes(parse_btf(w.section(), "kernel"))
    assert found.user_types["kernel_cap_t"]["fields"].keys() == {"val"}
    assert found.user_types["taken"]["fields"].keys() == {"own"}
    assert found.describe(3) == {"kind": "struct", "name": "kernel_cap_t"}


def test_cyclic_types_are_void() -> None:
    w = Writer()
    w.add(Kind.TYPEDEF, "a", 2)
    w.add(Kind.TYPEDEF, "b", 1)
    w.add(Kind.PTR, "", 3)
    found = IsfTypes(parse_btf(w.section(), "kernel"))
    assert found.describe(1) == {"kind": "base", "name": "void"}
    assert json.dumps(found.describe(3)).count("pointer") < 40


@given(st.binary(max_size=60), st.integers(0, 300))
def test_damaged_btf_is_an_error_in_one_line_or_some_table(junk: bytes, at: int) -> None:
    w = Writer()
    integer = w.integer("int", 4, 1)
    w.struct("thing", 8, ("a", integer, 0, 0), ("b", w.add(Kind.PTR, "", integer), 64, 0))
    w.add(Kind.ENUM, "e", 4, struct.pack("<Ii", w.text("X"), 1), 1)
    data = bytearray(w.section())
    data[at : at + len(junk)] = junk
    try:
        table = IsfTypes(parse_btf(bytes(data), "kernel"))
    except KernelFileError as error:
        assert str(error).startswith("kernel: ")
        assert "\n" not in str(error)
    else:
        json.dumps([table.user_types, table.enums, table.base_types])


@pytest.fixture(scope="module")
def table(lab: Lab) -> dict[str, Any]:
    """The table of the 6.1 kernel."""
    return isf_of(KernelImage.from_file(lab.sample("6.1 two CPUs").kernel_package))


def named(descriptor: Any) -> list[tuple[str, str]]:
    """Every `(kind, name)` that a descriptor refers to."""
    found = [(descriptor["kind"], descriptor["name"])] if "name" in descriptor else []
    return found + [
        each for key in ("subtype", "type") if key in descriptor for each in named(descriptor[key])
    ]


def test_every_reference_in_a_kernels_table_is_defined(table: dict[str, Any]) -> None:
    sections = {"base": "base_types", "enum": "enums", "struct": "user_types", "union": "user_types"}
    descriptors = [
        field["type"] for struct in table["user_types"].values() for field in struct["fields"].values()
    ]
    descriptors += [symbol["type"] for symbol in table["symbols"].values()]
    references = {each for descriptor in descriptors for each in named(descriptor)}
    assert len(references) > 5000
    assert {name for kind, name in references if name not in table[sections[kind]]} == set()
    assert {enum["base"] for enum in table["enums"].values()} <= table["base_types"].keys()


def test_the_banner_is_in_the_table_as_it_is_in_memory(lab: Lab, table: dict[str, Any]) -> None:
    banner = base64.b64decode(table["symbols"]["linux_banner"]["constant_data"])
    assert banner.rstrip(b"\0") in lab.sample("6.1 two CPUs").raw.read_bytes()
    assert table["symbols"]["init_task"]["type"] == {"kind": "struct", "name": "task_struct"}


def test_volatilitys_schema_accepts_the_table(table: dict[str, Any]) -> None:
    """A part of it: the whole takes minutes."""
    jsonschema = pytest.importorskip("jsonschema")
    from volatility3 import schemas

    schema = json.loads((Path(schemas.__file__).parent / "schema-6.2.0.json").read_text())
    validator = jsonschema.Draft7Validator(schema)

    chosen = ("task_struct", "list_head", "mm_struct", "page", "tcp_sock", "sk_buff")
    part = table | {
        "user_types": {name: table["user_types"][name] for name in chosen},
        "enums": dict(list(table["enums"].items())[:20]),
        "symbols": {
            name: table["symbols"][name]
            for name in ("init_task", "linux_banner", "modules", "_text", "idt_table")
        },
    }
    assert list(validator.iter_errors(part)) == []
    part["symbols"] = {"init_task": {"address": 0, "type": {}}}
    assert not validator.is_valid(part)


VOL = """
import sys
sys.argv[0] = "vol"
sys.modules["jsonschema"] = None  # checking a whole table takes minutes; another test checks a part
from volatility3.cli import main
main()
"""


def pslist(lab: Lab, name: str, folder: Path) -> None:
    sample = lab.sample(name)
    (folder / "cache").mkdir()
    target = folder / "symbols" / "kernel.json.xz"
    target.parent.mkdir()
    isf = [sys.executable, "-m", "hybridbridge_vol", "isf", str(sample.kernel_package), "--out", str(target)]
    subprocess.run(isf, check=True, timeout=120)
    with lzma.open(target) as stream:
        assert stream.read(1) == b"{"
    places = ["--cache-path", folder / "cache", "-s", target.parent, "-f", sample.raw]
    vol = ["-q", "--offline", *map(str, places), "-r", "json"]
    done = subprocess.run(
        [sys.executable, "-c", VOL, *vol, "linux.pslist"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "XDG_CACHE_HOME": str(folder)},
    )
    rows = json.loads(done.stdout)
    pids = {row["PID"] for row in rows}
    processes = set(sample.truth.processes)
    assert pids <= processes
    for pid in processes - pids:  # linux.pslist leaves some of the dead out
        assert b"\nState:\tZ" in sample.truth.file(f"/proc/{pid}/status")
    assert {row["PID"]: row["PPID"] for row in rows}[1] == 0


def test_volatilitys_own_pslist_works_with_the_table(lab: Lab, tmp_path: Path) -> None:
    pslist(lab, "6.1 two CPUs", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["5.10 nokaslr", "6.12"])
def test_volatilitys_own_pslist_works_with_other_generations(lab: Lab, tmp_path: Path, name: str) -> None:
    pslist(lab, name, tmp_path)
