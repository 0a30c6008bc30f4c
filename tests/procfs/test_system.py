"""The formats of /proc/uptime, loadavg and modules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.procfs.system import parse_loadavg, parse_module, parse_uptime


def test_uptime_and_loadavg() -> None:
    assert parse_uptime(b"350735.47 234388.90\n") == (350735.47, 234388.90)
    assert parse_loadavg(b"0.20 0.18 0.12 1/80 11206\n") == (0.20, 0.18, 0.12, 1, 80, 11206)


def test_a_module_in_use() -> None:
    module = parse_module(b"nf_nat 57344 2 nft_chain_nat,xt_nat, Live 0xffffffffc0a31000 (OE)")
    assert (module.name, module.size, module.references) == ("nf_nat", 57344, 2)
    assert module.users == ("nft_chain_nat", "xt_nat")
    assert (module.state, module.address_vaddr, module.taints) == ("Live", 0xFFFFFFFFC0A31000, "OE")
    assert not module.permanent


def test_an_unused_module_and_one_that_cannot_be_unloaded() -> None:
    assert parse_module(b"loop 40960 0 - Live 0x0000000000000000").users == ()
    permanent = parse_module(b"ipv6 651264 30 [permanent], Live 0xffffffffc0500000")
    assert permanent.permanent
    assert permanent.users == ()
    assert parse_module(b"x 4096 - - Live 0x0").references is None


@pytest.mark.parametrize("name", ["", "two words", " 1 0 - Live 0x0 "])
def test_a_name_that_a_rootkit_has_changed_in_memory(name: str) -> None:
    module = parse_module(f"{name} 53248 0 [permanent], Live 0xffffffffc0271000 (OE)".encode())
    assert (module.name, module.size, module.address_vaddr) == (name, 53248, 0xFFFFFFFFC0271000)


@given(st.binary())
def test_any_bytes_give_an_answer_or_a_parse_error(data: bytes) -> None:
    for parse in (parse_uptime, parse_loadavg, parse_module):
        try:
            parse(data)
        except ParseError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("line", [b"", b"name", b"name x 0 - Live 0x0", b"name 1 0 - Live zz"])
def test_a_damaged_line_of_modules_is_named_in_the_error(line: bytes) -> None:
    with pytest.raises(ParseError, match="/proc/modules"):
        parse_module(line)
