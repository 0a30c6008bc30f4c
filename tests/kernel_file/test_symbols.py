"""The packed symbol table: the same answers as plain dictionaries, opened at no cost."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.kernel_file.symbols import Symbols, plain_name, renamed_whole

TEXT = 0xFFFFFFFF81000000
TABLE = [
    (0, "D", "__per_cpu_start"),
    (0x1FB80, "D", "current_task"),
    (TEXT, "T", "_text"),
    (TEXT, "T", "startup_64"),
    (TEXT + 0x40, "t", "show"),
    (TEXT + 0x100, "T", "schedule"),
    (TEXT + 0x180, "t", "show"),
    (TEXT + 0x200, "B", "_end"),
]
RENAMED_BY_COMPILERS = (
    "show", "show.part.0", "show.isra.1", "show.constprop.3", "show.cold", "show.llvm.7012345678901234567",
    "show.isra.0.cold", "show.constprop.0.isra.0", "show.part.0.constprop.12", "show.llvm.12.cold",
)  # fmt: skip
symbol_tables = st.lists(
    st.tuples(
        st.integers(0, 0x30000) | st.integers(TEXT, TEXT + 500) | st.integers(0, 2**64 - 1),
        st.sampled_from("tTdDbBrRwW"),
        st.text("abc_.", min_size=1, max_size=4)
        | st.text(st.characters(max_codepoint=255, exclude_characters="\0?"), min_size=1),
    ),
    max_size=60,
)


@pytest.fixture(params=["built", "unpacked", "mapped"])
def symbols(request: pytest.FixtureRequest, tmp_path: Path) -> Symbols:
    built = Symbols.build(TABLE[4:] + TABLE[:4])
    if request.param == "built":
        return built
    if request.param == "unpacked":
        return Symbols.unpack(built.pack())
    path = tmp_path / "symbols"
    path.write_bytes(built.pack())
    with open(path, "rb") as stream:
        return Symbols.unpack(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def test_names_lead_to_addresses(symbols: Symbols) -> None:
    assert symbols.address("schedule") == TEXT + 0x100
    assert symbols.get("schedule") == TEXT + 0x100
    assert symbols.get("schedule_not") is None
    assert symbols.get("schedule_not", 7) == 7
    assert "_end" in symbols
    assert "_en" not in symbols
    assert "_ende" not in symbols
    assert "\u2603" not in symbols
    with pytest.raises(KeyError):
        symbols.address("")


def test_a_per_cpu_symbol_is_its_offset_even_if_that_is_zero(symbols: Symbols) -> None:
    assert symbols.address("__per_cpu_start") == 0
    assert symbols.get("__per_cpu_start", 7) == 0
    assert symbols.address("current_task") == 0x1FB80


def test_a_name_may_have_several_addresses(symbols: Symbols) -> None:
    assert symbols.addresses("show") == [TEXT + 0x40, TEXT + 0x180]
    assert symbols.address("show") == TEXT + 0x40
    assert symbols.addresses("none") == []


def test_an_address_leads_to_the_symbol_before_it_and_of_aliases_to_the_first(symbols: Symbols) -> None:
    assert symbols.lookup(TEXT) == ("_text", 0)
    assert symbols.lookup(TEXT + 0x3F) == ("_text", 0x3F)
    assert symbols.lookup(TEXT + 0x17F) == ("schedule", 0x7F)
    assert symbols.lookup(0x10) == ("__per_cpu_start", 0x10)


@pytest.mark.parametrize("vaddr", [TEXT + 0x201, 0xFFFF888000000000, 0x1FB81, TEXT - 1, 2**64 - 1])
def test_an_address_outside_of_the_kernel_has_no_symbol(symbols: Symbols, vaddr: int) -> None:
    assert symbols.lookup(vaddr) is None


def test_sizes_reach_to_the_next_higher_symbol(symbols: Symbols) -> None:
    assert symbols.size("_text") == 0x40
    assert symbols.size("schedule") == 0x80
    assert symbols.size("_end") == 0
    assert symbols.next_address(TEXT) == TEXT + 0x40
    assert symbols.next_address(TEXT + 0x200) is None


def test_iteration_and_matching_go_by_address(symbols: Symbols) -> None:
    assert [address for address, _, _ in symbols] == sorted(address for address, _, _ in TABLE)
    assert set(symbols) == set(TABLE)
    assert [name for _, _, name in symbols.matching("s(how|chedule)")] == ["show", "schedule", "show"]
    assert len(symbols) == len(TABLE)


@pytest.mark.parametrize("symbol", RENAMED_BY_COMPILERS)
def test_what_compilers_add_to_a_name_is_known(symbol: str) -> None:
    assert plain_name(symbol) == "show"


@pytest.mark.parametrize("symbol", [".text", "x86_64.c", "counter.12", "a.partial", "f.llvm", "__func__.3"])
def test_other_dots_belong_to_the_name(symbol: str) -> None:
    assert plain_name(symbol) == symbol


def test_a_clone_or_a_part_of_a_function_is_not_the_function() -> None:
    symbols = Symbols.build([(TEXT, "t", "show.isra.0"), (TEXT + 16, "t", "show.cold")])
    assert "show" not in symbols
    assert renamed_whole("show.isra.0") is renamed_whole("show.llvm.x") is None


def test_a_static_object_that_was_renamed_as_a_whole_is_found_by_its_own_name() -> None:
    number = "5811092534873127534"
    table = [
        (TEXT, "d", f"tk_core.llvm.{number}"),
        (TEXT + 8, "t", f"show.llvm.{number}"),
        (TEXT + 16, "t", "show"),
        (TEXT + 24, "t", f"show.llvm.{number}.cold"),
        (TEXT + 32, "T", "show_all"),
        (TEXT + 40, "d", "tk_core.llvm.x"),
    ]
    for symbols in (Symbols.build(table), Symbols.unpack(Symbols.build(table).pack())):
        assert symbols.address("tk_core") == symbols.get("tk_core") == TEXT
        assert "tk_core" in symbols
        assert symbols.size("tk_core") == 8
        assert symbols.addresses("show") == [TEXT + 8, TEXT + 16]
        assert [symbols.kind("show", at) for at in symbols.addresses("show")] == ["t", "t"]
        assert symbols.kind("tk_core", TEXT) == "d"
        assert symbols.address("show") == TEXT + 16
        assert symbols.find(["tk_core", "show", "none"]) == {
            "tk_core": [TEXT], "show": [TEXT + 8, TEXT + 16]
        }  # fmt: skip
    assert renamed_whole(f"tk_core.llvm.{number}") == "tk_core"


@given(symbol_tables)
def test_packing_changes_no_answer(table: list[tuple[int, str, str]]) -> None:
    built = Symbols.build(table)
    unpacked = Symbols.unpack(built.pack())
    assert list(unpacked) == list(built) == sorted(table, key=lambda symbol: symbol[0])
    for name in {name for _, _, name in table} | {"", "a", "zzz"}:
        expected = sorted(address for address, _, other in table if other == name)
        assert unpacked.addresses(name) == built.addresses(name) == expected
        assert (name in unpacked) == bool(expected)
    for address, _, name in table:
        first = next(other for place, _, other in built if place == address)
        assert unpacked.lookup(address) == built.lookup(address) == (first, 0)
        assert unpacked.size(name) == built.size(name) >= 0


@given(st.binary(max_size=64))
def test_data_that_is_not_a_packed_table_is_refused(junk: bytes) -> None:
    for data in (junk, Symbols.build(TABLE).pack() + b"\0" + junk, (b"HBsyms1\0" + junk)[:40]):
        with pytest.raises(ValueError, match="not a packed symbol table"):
            Symbols.unpack(data)


def test_a_pattern_matches_the_whole_name() -> None:
    assert not list(Symbols.build(TABLE).matching(re.escape("schedul")))


@given(symbol_tables, st.lists(st.text("abc_.", min_size=1, max_size=4), max_size=9))
def test_many_names_are_found_at_once_as_one_by_one(
    table: list[tuple[int, str, str]], others: list[str]
) -> None:
    symbols = Symbols.build(table)
    names = {name for _address, _kind, name in table} | set(others)
    found = symbols.find(names)
    assert all(found.get(name, []) == symbols.addresses(name) for name in names)
