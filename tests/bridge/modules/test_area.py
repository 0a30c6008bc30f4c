"""A running kernel whose modules begin 512 MiB further down, as without CONFIG_RANDOMIZE_BASE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import moved_area
import pytest
from fidelity import assert_faithful
from generations import trust
from guest_modules import loaded

from benchmarks.fidelity import compare
from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.netlink import sock_diag
from hybridbridge_vol.trust.store import Store
from samples.make import Sample, Spec, make_sample

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def sample(store: Store) -> Iterator[Sample]:
    found = make_sample(Spec(str(moved_area.package()), seed=27, light=True, kaslr=False))
    trust(store, found)
    yield found


def test_the_guest_has_its_modules_there_and_they_answer(sample: Sample, store: Store) -> None:
    with open_session(Path(sample.raw), store.root) as session:
        assert session.bridge.layout.modules.start == moved_area.START
        listed = loaded(session)
        assert listed and all(
            moved_area.START <= vaddr < moved_area.START + (64 << 20) for _, vaddr in listed
        )
        for name, vaddr in listed:
            found = session.bridge.space.modules.at(vaddr)
            assert found is not None and found.module.name == name
        assert_faithful(compare(sample.truth, session))


def test_the_slow_path_takes_their_data_for_the_snapshots(sample: Sample, store: Store) -> None:
    paths = ("/proc/modules", "/proc/net/dev")
    with open_session(Path(sample.raw), store.root) as session:
        expected = [session.files.read(path) for path in paths]
    with open_session(Path(sample.raw), store.root, mode=Mode.SLOW) as slow:
        assert [slow.files.read(path) for path in paths] == expected
        assert slow.statistics.unattributed == {}


@pytest.mark.parametrize("name", ["check", "hidden"])
def test_nothing_about_them_is_unusual(sample: Sample, store: Store, name: str) -> None:
    tool = tools.load(name)
    with open_session(Path(sample.raw), store.root) as session:
        assert list(tool.rows(session, tool.defaults())) == []


def test_a_module_is_added_there(sample: Sample, store: Store) -> None:
    with open_session(Path(sample.raw), store.root) as session:
        assert session.sockets.dump(sock_diag.UNIX)
        added = [one for one in session.bridge.space.modules.segments if one.module.name == "unix_diag"]
        assert added and all(one.vaddrs.start in session.bridge.layout.modules for one in added)
