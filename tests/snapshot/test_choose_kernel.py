"""The choice among kernels that were weighed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.errors import AttachError
from hybridbridge_vol.snapshot.choose_kernel import MOST_NAMED, NoSoundKernel, Weighed, the_one_that_ran
from hybridbridge_vol.snapshot.evidence import Evidence
from hybridbridge_vol.snapshot.find_kernel import Found
from hybridbridge_vol.snapshot.machine_state import NORMAL, MachineState

SOUND = Evidence((), NORMAL, None, 5)
LEFT = MachineState("restarting", left_by_kexec=True)
CRASHED = MachineState("running", 0, 0)


def kernels(*evidence: Evidence) -> list[Weighed]:
    return [
        Weighed(0, "6.1.0", Found(number << 21, 0, 1.0), one) for number, one in enumerate(evidence, start=1)
    ]


def ran(*evidence: Evidence) -> int:
    """The number of the one that is chosen, from 0 on."""
    weighed = kernels(*evidence)
    return weighed.index(the_one_that_ran(weighed).chosen)


def test_a_lone_kernel_needs_no_note() -> None:
    assert the_one_that_ran(kernels(SOUND)).notes == ()
    assert not the_one_that_ran(kernels(SOUND)).another_ran


def test_registers_count_before_state_state_before_tasks_and_tasks_before_the_clock() -> None:
    later = SOUND._replace(time=9)
    assert ran(SOUND, later) == 1
    assert ran(later._replace(state=LEFT), SOUND) == 1
    assert ran(later._replace(state=CRASHED), SOUND) == 1
    assert ran(SOUND._replace(has_tasks=True), later) == 0
    assert ran(later._replace(has_tasks=True, state=CRASHED), SOUND) == 1
    assert ran(SOUND._replace(on_cpus=0), SOUND._replace(on_cpus=2, state=LEFT)) == 1
    assert ran(later._replace(flaws=("it is a copy",)), SOUND) == 1


def test_what_cannot_be_told_apart_is_not_chosen() -> None:
    with pytest.raises(AttachError, match=r"0x200000 .* 0x400000 .*--kernel-at"):
        the_one_that_ran(kernels(SOUND, SOUND))
    with pytest.raises(NoSoundKernel, match="it is a copy"):
        the_one_that_ran(kernels(SOUND._replace(flaws=("it is a copy",))))


def test_another_kernel_ran_if_this_one_was_replaced_or_no_cpu_runs_it() -> None:
    with pytest.raises(NoSoundKernel, match="ended by kexec"):
        the_one_that_ran(kernels(SOUND._replace(state=LEFT)))
    assert the_one_that_ran(kernels(SOUND._replace(on_cpus=0))).another_ran
    assert not the_one_that_ran(kernels(SOUND._replace(state=CRASHED))).another_ran


def test_a_note_names_few_of_many_copies() -> None:
    copies = [SOUND._replace(flaws=("it is a copy",))] * 100
    (note,) = the_one_that_ran(kernels(SOUND, *copies)).notes
    assert note.count("it is a copy") == MOST_NAMED and "92 more" in note and "101 kernels" in note


evidence = st.builds(
    Evidence,
    st.sampled_from([(), ("it is a copy",)]),
    st.sampled_from([NORMAL, LEFT, CRASHED]),
    st.one_of(st.none(), st.integers(0, 4)),
    st.one_of(st.none(), st.integers(0, 9)),
    st.booleans(),
)


@given(st.lists(evidence, min_size=1))
def test_only_a_sound_kernel_is_chosen_and_order_does_not_matter(found: list[Evidence]) -> None:
    try:
        chosen = found[ran(*found)]
    except AttachError:
        return
    assert chosen.is_sound
    assert list(reversed(found))[ran(*reversed(found))] == chosen
