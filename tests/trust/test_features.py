"""Which optional parts of Linux a stored kernel has, and what will therefore not work."""

from __future__ import annotations

from typing import Any

from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.trust import modules
from hybridbridge_vol.trust.features import ABSENT, BUILT_IN, FEATURES, MODULE, limits, place_of, present

NFTABLES = next(feature for feature in FEATURES if feature.name == "nftables")


def symbols(*names: str) -> Symbols:
    return Symbols.build((0xFFFF_FFFF_8100_0000 + 16 * at, "T", name) for at, name in enumerate(names))


def test_each_of_debian_s_kernels_has_every_feature(lab: Any, generation: str) -> None:
    kernel = lab.kernel(generation)
    files = modules.names(kernel.folder)
    assert list(limits(kernel.symbols, files)) == []
    assert len(list(present(kernel.symbols, files))) == len(FEATURES)


def test_a_feature_is_built_in_by_a_function_or_by_an_initcall() -> None:
    assert place_of(NFTABLES, symbols("nft_register_chain_type"), []) == BUILT_IN
    assert place_of(NFTABLES, symbols("__initcall__kmod_nf_tables__310_9999_init6"), []) == BUILT_IN


def test_a_feature_of_a_module_needs_its_file() -> None:
    assert place_of(NFTABLES, symbols("printk"), ["nf_tables"]) == MODULE
    assert place_of(NFTABLES, symbols("printk"), ["ext4"]) == ABSENT
    assert "nftables (module)" in list(present(symbols("printk"), ["nf_tables"]))


def test_what_is_absent_is_named_with_its_option_and_what_will_be_missed() -> None:
    told = list(limits(symbols("printk"), []))
    assert len(told) == len(FEATURES)
    assert "nftables (CONFIG_NF_TABLES): nft: there can be no rules" in told


def test_a_kernel_with_modules_whose_files_were_not_given_says_so() -> None:
    assert any("hb trust add PACKAGE" in line for line in limits(symbols("modules"), []))
    assert not any("hb trust add PACKAGE" in line for line in limits(symbols("modules"), ["ext4"]))
