"""Modules that are part of the kernel itself, by the names of its initcalls."""

from __future__ import annotations

import pytest

from hybridbridge_vol.kernel_file.built_in import is_built_in
from hybridbridge_vol.kernel_file.symbols import Symbols


@pytest.mark.parametrize(
    "symbol",
    ["__initcall__kmod_unix_diag__572_324_unix_diag_init6", "__initcall_unix_diag_init6"],
    ids=["since 5.11", "before"],
)
def test_an_initcall_says_that_a_module_is_built_in(symbol: str) -> None:
    assert is_built_in(Symbols.build([(0x1000, "d", symbol)]), "unix_diag")


@pytest.mark.parametrize(
    "symbol",
    [
        "__initcall__kmod_unix_diag_more__1_2_unix_diag_more_init6",
        "__initcall_unix_diag_init_late6",
        "unix_diag_init",
        "__initcall__kmod_unix__9_3_af_unix_init5",
    ],
)
def test_what_only_looks_like_it_does_not(symbol: str) -> None:
    assert not is_built_in(Symbols.build([(0x1000, "d", symbol)]), "unix_diag")
