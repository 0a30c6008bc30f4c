"""What lies at addresses of the guest: asked together as asked singly, and by the tables as by each page."""

from __future__ import annotations

import pytest
from generations import Lab

from hybridbridge_vol.bridge.objects.module_structs import module_structs
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.machine.paging import LARGE_SHIFT
from hybridbridge_vol.units import PAGE_SIZE

NAMES = ["5.10 nokaslr", "6.12"]
MANY = 1100
"""Pages that are asked of: more than one program's worth."""
REGIONS = 16
"""Of 2 MiB, from the beginning of the area for modules."""


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_expected_are_those_that_are_asked_for_singly(lab: Lab, name: str) -> None:
    with open_session(lab.sample(name).dump, lab.store.root) as session:
        addresses, text = session.addresses, session.bridge.layout.text_vaddr
        pages = list(addresses.module_pages())
        vaddrs = [*pages, *range(text, text + (MANY - len(pages)) * PAGE_SIZE, PAGE_SIZE), 0]
        # first, so that all code is proven: a program that meets other code is rolled back
        said = [addresses.symbol(vaddr) for vaddr in vaddrs]
        addresses.expect(vaddrs)
        calls = session.calls
        assert [addresses.symbol(vaddr) for vaddr in vaddrs] == said
        assert session.calls == calls, "what was expected is asked again"


@pytest.mark.parametrize("name", NAMES)
def test_the_pages_of_the_area_for_modules_are_those_that_are_translated(lab: Lab, name: str) -> None:
    bridge = lab.session(name).bridge
    start = bridge.layout.modules.start
    end = start + (REGIONS << LARGE_SHIFT)
    translated = [
        page
        for page in range(start, end, PAGE_SIZE)
        if bridge.layout.translate(bridge.image, page) is not None
    ]
    assert [page for page in lab.session(name).addresses.module_pages() if page < end] == translated
    mapped = bridge.layout.mapped(bridge.image, bridge.layout.text_vaddr)
    assert all(is_mapped for _page, is_mapped in mapped), "the kernel image is mapped by large pages"


@pytest.mark.parametrize("name", NAMES)
def test_each_listed_module_is_found_by_its_own_address(lab: Lab, name: str) -> None:
    session = lab.session(name)
    memory = TypedMemory(session.bridge)
    found = module_structs(memory, session.addresses.module_pages())
    listed = {one: vaddr for one, (vaddr, _pages) in session.bridge.space.modules.listed.structs.items()}
    assert listed
    assert {one: found[one] for one in listed} == listed
