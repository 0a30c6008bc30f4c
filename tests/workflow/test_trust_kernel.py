"""Trusting a kernel, with and without training."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest
from generations import Lab

from hybridbridge_vol.check.modules.module_store import ARCHIVE
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.trust import modules
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.link_modules import link_beside
from hybridbridge_vol.workflow.memos import summarise
from hybridbridge_vol.workflow.trust_kernel import enroll

NAME = "6.12"


@pytest.mark.slow
def test_training_proves_code_before_the_first_image(lab: Lab, tmp_path: Path) -> None:
    sample, store = lab.sample(NAME), Store(tmp_path)
    enroll(store, sample.kernel_package)
    assert [entry.code_bytes for entry in summarise(store, None)] == [0]
    store.remove(store.kernels()[0].name)
    enroll(store, sample.kernel_package, training=True)
    assert summarise(store, None)[0].code_bytes > 20_000
    with open_session(sample.dump, store.root) as session:
        assert session.files.read("/proc/1/status")
        assert session.statistics.total.traps == 0


def test_a_trusted_kernels_modules_are_linked_before_its_first_check(lab: Lab) -> None:
    folder = lab.kernel(NAME).folder
    with ZipFile(folder / ARCHIVE) as linked:
        kept = {entry.rpartition(".")[0] for entry in linked.namelist()}
    assert kept == set(modules.names(folder))


def test_linking_ends_when_adding_the_kernel_is_cancelled(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / modules.ARCHIVE).symlink_to(lab.kernel(NAME).folder / modules.ARCHIVE)
    link_beside(tmp_path, lambda: True)
    assert not (tmp_path / ARCHIVE).exists()
    link_beside(tmp_path, lambda: False)
    assert (tmp_path / ARCHIVE).exists()
