"""Machines that did not run as usual when their memory was taken: after a panic, and during boot."""

from __future__ import annotations

from pathlib import Path

import pytest
from ending_guest import Ending, image_of
from generations import GENERATIONS, Lab

from hybridbridge_vol.errors import HybridBridgeWarning
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.guest.values import Running
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.describe_image import describe

PANIC = Ending("6.1-cloud", "panic", marker="---[ end Kernel panic", cpus=2)
BOOT = Ending("6.1-cloud", "ready", marker="smp: Bringing up secondary CPUs")


@pytest.fixture(scope="module")
def store(lab: Lab) -> Store:
    """A store that trusts the guests' kernel."""
    lab.sample("6.1 two CPUs")
    return lab.store


def opened(path: Path, store: Store, words: str) -> Session:
    with pytest.warns(HybridBridgeWarning, match=words):
        return open_session(path, store.root)


@pytest.mark.parametrize("name", sorted(GENERATIONS))
def test_a_machine_that_runs_needs_no_note(lab: Lab, name: str) -> None:
    session = lab.session(name)
    assert str(session.bridge.state) == "running"
    assert session.notes == ()
    assert session.bridge.layout.stopped_cpus == ()
    assert len(session.bridge.layout.cpu_numbers) == GENERATIONS[name].cpus


@pytest.mark.slow
def test_cpus_that_a_panic_stopped_are_not_forgotten(store: Store) -> None:
    path = image_of(PANIC) / "dump.raw"
    facts = describe(path, store.root)
    assert facts.state is not None and facts.state.startswith("panicked on CPU ")
    panicked = int(facts.state.split()[-1])
    assert (facts.cpus, facts.stopped_cpus) == (2, (1 - panicked,))
    with opened(path, store, "panicked") as session:
        running = session.cpus.running()
        assert [one.cpu for one in running if isinstance(one, Running)] == [0, 1]
        names = {
            one.cpu: session.files.read(f"/proc/{one.tgid}/task/{one.tid}/comm")
            for one in running
            if isinstance(one, Running) and one.tid
        }
        assert names[panicked] == b"init\n"
        assert names[1 - panicked] == b"spinner\n"


@pytest.mark.slow
def test_what_a_booting_machine_did_not_have_yet_is_said(store: Store) -> None:
    path = image_of(BOOT) / "dump.raw"
    facts = describe(path, store.root)
    assert facts.state is not None and facts.state.startswith("booting")
    with opened(path, store, "booting") as session:
        assert session.files.read("/proc/1/comm") == b"swapper/0\n"
        with pytest.raises(FileNotFoundError, match="the machine was still booting"):
            session.files.read("/proc/iomem")
