"""The guests that several tools are held against."""

from __future__ import annotations

import pytest
from generations import PEOPLE, Lab

from hybridbridge_vol.guest.session import Session
from samples.truth import Truth


@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=() if name.startswith("6.1 ") else pytest.mark.slow) for name in PEOPLE],
)
def people(request: pytest.FixtureRequest) -> str:
    """The name of a guest with accounts, logins, containers, and all that starts by itself."""
    return str(request.param)


@pytest.fixture
def people_session(lab: Lab, people: str) -> Session:
    return lab.session(people)


@pytest.fixture
def people_truth(lab: Lab, people: str) -> Truth:
    return lab.sample(people).truth
