"""Guests with the modules of a server: where each lies, and what no code of its own refers to."""

from __future__ import annotations

import pytest
from default_run import in_default_run
from generations import SERVERS, Lab

from hybridbridge_vol.bridge.modules.locate import STRUCT_SECTION, Location
from hybridbridge_vol.guest.session import Session


def locations(session: Session) -> dict[str, Location]:
    """Of the listed modules that are found."""
    modules = session.bridge.space.modules
    found = {}
    for name in modules.listed.structs:
        location = modules.locate(name)
        if location is not None:
            found[name] = location
    return found


@pytest.mark.parametrize("name", in_default_run(SERVERS, "7.x server"))
def test_every_section_of_data_is_placed_and_agrees_with_the_kernels_own_address(lab: Lab, name: str) -> None:
    session = lab.session(name)
    structs = session.bridge.space.modules.listed.structs
    found = locations(session)
    assert len(found) > 0.95 * len(structs) > 50
    own = {module: location.file.section(STRUCT_SECTION) for module, location in found.items()}
    placed = {
        module: found[module].sections[section.number]
        for module, section in own.items()
        if section is not None and section.number in found[module].sections
    }
    assert placed == {module: structs[module][0] for module in placed}
    later = [
        (module, section in location.sections)
        for module, location in found.items()
        for section in location.file.later_layout()[0]
    ]
    assert len(later) > 10
    assert sum(is_placed for _module, is_placed in later) >= 0.9 * len(later)  # where KASLR lets them be told
