"""--kernel-at: what is asked for at an address, be it stored or not, in every command."""

from __future__ import annotations

from pathlib import Path

import pytest
from generations import Lab
from several_kernels import PLANTED_AT, after_kexec, choice_and_kernel, choice_of, hb

from hybridbridge_vol.errors import KernelNotStored
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.lab.batch.identify import identify
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.trust_get import trust_kernel_of


@pytest.fixture(scope="module")
def store(lab: Lab) -> Store:
    """A store that trusts the guests' kernel."""
    lab.sample("6.1 two CPUs")
    return lab.store


def test_a_kernel_at_the_address_that_is_not_stored_is_named_and_can_be_fetched(
    store: Store, tmp_path: Path
) -> None:
    path = after_kexec(store) / "dump.raw"
    choice, kernel = choice_and_kernel(path, store)
    for found in choice.kernels:
        place = found.found.text_paddr
        with pytest.raises(KernelNotStored, match=f"hb trust get .* --kernel-at {place:#x}") as missing:
            open_session(path, tmp_path / "empty", kernel_at=place)
        assert missing.value.banner == kernel.banner.strip()
        named = identify(str(path), str(tmp_path / "empty"), place)
        assert (named.kernel, named.banner, named.is_image) == (None, kernel.banner.strip(), True)
        assert trust_kernel_of(store, path, kernel_at=place).name == kernel.name
        assert identify(str(path), str(store.root), place).kernel == kernel.name
    elsewhere = identify(str(path), str(store.root), PLANTED_AT)
    assert elsewhere.kernel is None and elsewhere.is_image
    assert elsewhere.error is not None and "no kernel at physical address" in elsewhere.error
    (tmp_path / "noise").write_bytes(b"\0\1" * (4 << 20))
    assert not identify(str(tmp_path / "noise"), str(store.root), PLANTED_AT).is_image


def test_recorded_answers_are_of_the_kernel_that_is_asked_for(store: Store, tmp_path: Path) -> None:
    path = after_kexec(store) / "dump.raw"
    choice = choice_of(path, store)
    (left,) = (kernel for kernel in choice.kernels if kernel is not choice.chosen)
    (tmp_path / "cases.toml").write_text(
        f'[[case]]\nname = "two"\nimage = "{path}"\n'
        f'run = ["hostname", "hostname --kernel-at {left.found.text_paddr:#x}"]\n'
    )
    words = ("regress", "record", tmp_path / "cases.toml", "--store", store.root)
    assert hb(*words)[0] == 0
    texts = [file.read_text() for file in sorted((tmp_path / "golden" / "two").iterdir())]
    assert ["second" in text for text in texts] == [True, False]
    # for runs without an address of their own the command line has one
    changed = hb("regress", "verify", *words[2:], "--kernel-at", f"{left.found.text_paddr:#x}")
    assert changed[0] == 1 and "hostname: different" in changed[1]
