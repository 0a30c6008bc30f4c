"""security: what the guest itself read of its security modules, mounted or not."""

from __future__ import annotations

from typing import Any

import pytest
from answers import ask
from default_run import in_default_run
from generations import Lab

from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.security import _of_audit
from samples.make import Sample, Spec, make_sample
from samples.pseudo_guest import MANY_RULES

KERNELS = {"5.10 nokaslr": "5.10-cloud", "6.1 two CPUs": "6.1-cloud", "6.12": "6.12-cloud", "7.x": "7-cloud"}
"""By the sample that shares its kernel, which is trusted already."""


@pytest.fixture(scope="module", params=in_default_run(KERNELS, "6.1 two CPUs"))
def sample(request: pytest.FixtureRequest, lab: Lab) -> Sample:
    lab.sample(request.param)
    return make_sample(Spec(KERNELS[request.param], light=True, pseudo=True))


@pytest.fixture(scope="module")
def session(sample: Sample, lab: Lab) -> Any:
    with open_session(sample.dump, lab.store.root) as session:
        yield session


def test_modules_and_their_states_are_what_the_guest_read(session: Session, sample: Sample) -> None:
    rows = [row for row in ask(session, "security") if row["KIND"] == "state"]
    same = 0
    for row in rows:
        reading = sample.truth.late.get(row["FILE"])
        if reading is not None and not reading.errno:
            assert row["VALUE"] == reading.data.decode().strip("\n"), row
            same += 1
    assert same >= 2
    values = {row["NAME"]: row["VALUE"] for row in rows}
    assert "capability" in values["lsm"].split(",")


def test_settings_are_those_of_the_guests_kernel(session: Session) -> None:
    rows = {row["NAME"]: row for row in ask(session, "security", kind="setting")}
    assert rows["kernel.randomize_va_space"]["VALUE"] == "2" and rows["kernel.tainted"]["VALUE"].isdigit()
    assert not any(isinstance(row["VALUE"], Unavailable) for row in rows.values())
    assert {row["KIND"] for row in rows.values()} == {"setting"}


def test_rules_of_audit_that_are_in_force_are_those_that_auditctl_lists(
    session: Session, sample: Sample
) -> None:
    rows = ask(session, "security", kind="audit")
    said = sample.truth.commands["auditctl -l"].replace("arch=b32 -S open", "arch=b32 -S 5")
    said = said.replace("msgtype=CWD", "msgtype=1307")
    shown = [row["VALUE"] for row in rows if row["NAME"] == "rule"]
    # auditctl loses some of many rules where the guest is slow: its socket is full for longer than the
    # kernel waits
    many = [f"-a never,exit -S all -F pid={number}" for number in range(10000, 10000 + MANY_RULES)]
    assert [line for line in shown if line in many] == many
    assert [line for line in shown if line not in many] == [
        line for line in said.splitlines() if line not in many
    ]
    state = dict(line.split(" ", 1) for line in sample.truth.commands["auditctl -s"].splitlines() if line)
    told = {row["NAME"]: row["VALUE"] for row in rows if row["NAME"] != "rule"}
    assert told and told.items() <= state.items()


def test_rules_of_audit_in_files_are_the_lines_of_files_without_comments(people_session: Session) -> None:
    found = ask(people_session, "security", kind="audit")
    assert not any(row["FILE"] or row["NAME"] == "rule" for row in found)  # that guest has none
    rows = list(_of_audit(people_session.files, "/etc/crontab"))  # a file of that form
    assert [row.cells[4] for row in rows] == [1, 3, 4, 5, 6]
    assert rows[0].cells == ("audit", None, "SHELL=/bin/sh", "/etc/crontab", 1)
    assert not list(_of_audit(people_session.files, "/etc/nothing"))
