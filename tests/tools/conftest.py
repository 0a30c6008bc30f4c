"""The guests that several tools are held against."""

from __future__ import annotations

import pytest
from default_run import in_default_run
from generations import PEOPLE, Lab

from hybridbridge_vol.guest.session import Session
from samples.truth import Truth


@pytest.fixture(scope="session", params=in_default_run(PEOPLE, "6.1 people"))
def people(request: pytest.FixtureRequest) -> str:
    """The name of a guest with accounts, logins, containers, and all that starts by itself."""
    return str(request.param)


@pytest.fixture
def people_session(lab: Lab, people: str) -> Session:
    return lab.session(people)


@pytest.fixture
def people_truth(lab: Lab, people: str) -> Truth:
    return lab.sample(people).truth
