"""`hb.check` of modules: silent where many are loaded, and whatever is planted among them is found."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from default_run import in_default_run
from generations import ALL_MODULES, SERVERS, Lab
from guest_modules import loaded
from store_copies import link
from victims import ELSEWHERE, NAME, Victim, check

from hybridbridge_vol.check.modules.all_modules import AllModules
from hybridbridge_vol.check.modules.linked_module import DATA, RODATA
from hybridbridge_vol.check.modules.placed_module import PlacedModule
from hybridbridge_vol.check.symbol_names import listed_modules
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.trust.modules import ARCHIVE

GUESTS = in_default_run([*SERVERS, *ALL_MODULES], "7.x server")


def test_hooks_in_a_module_are_found_with_its_name(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]], generation: str
) -> None:
    image = victim(generation)
    module, function, hook, pointer = next(tables_of_modules(image))
    image.jump(hook, ELSEWHERE)
    image.set_word(pointer, ELSEWHERE)
    rows = checked(image)
    assert {row["WHAT"] for row in rows} == {"module"}
    in_code, in_table = rows
    assert (in_code["ADDRESS"], in_code["SYMBOL"]) == (hook, f"{module}:{function}")
    assert in_code["FOUND"].startswith(f"jmp {ELSEWHERE:#x}")
    assert (in_table["ADDRESS"], in_table["FOUND"]) == (pointer, f"{ELSEWHERE:#x}")
    assert in_table["SYMBOL"].startswith(f"{module}:.rodata+")


def tables_of_modules(image: Victim) -> Iterator[tuple[str, str, int, int]]:
    """`(module, function, its address, address of a constant that points to it)`."""
    for name, address in loaded(image.session):
        part = image.bridge.space.modules.at(address)
        if part is None or part.module.rodata is None:
            continue
        layout = part.module.file.text_layout()[0]
        code = {
            part.module.sections[symbol.section] + symbol.value: symbol.name
            for symbol in part.module.file.symbols()
            if symbol.section in layout and symbol.size
        }
        table = part.module.rodata
        for vaddr in range(table.vaddr, table.vaddr + len(table.content), 8):
            hook = image.word(vaddr)
            if hook in code:
                yield name, code[hook], hook, vaddr


def test_a_module_without_a_trusted_file_is_told_by_name(lab: Lab, tmp_path: Path) -> None:
    store, kernel = tmp_path / "store", lab.session(NAME).bridge.kernel
    link(kernel, store, ARCHIVE)
    with open_session(lab.sample(NAME).dump, store) as session:
        rows = check(session)
        names = [line.split()[0] for line in session.files.read("/proc/modules").decode().splitlines()]
    assert [row["SYMBOL"] for row in rows] == names
    assert all("no trusted file" in row["FOUND"].reason for row in rows)


@pytest.mark.parametrize("name", GUESTS)
def test_a_clean_guest_with_many_modules_gives_no_row(lab: Lab, name: str) -> None:
    sample = lab.sample(name)
    count = len(sample.truth.file("/proc/modules").splitlines())
    assert count > (500 if name in ALL_MODULES else 50)
    assert len(loaded(lab.session(name))) == count
    assert check(lab.session(name)) == []


class Plants:
    """Places in the modules of a guest to plant hooks in."""

    def __init__(self, image: Victim) -> None:
        self.image = image
        self.modules = AllModules(image.bridge, listed_modules(image.session))
        self._random = random.Random(image.path.name)
        self._shuffled = sorted(self.modules.by_name.values(), key=lambda placed: placed.name)
        self._random.shuffle(self._shuffled)

    def pointer(self, segment: int) -> tuple[PlacedModule, int, int]:
        """A module, where it has a pointer to a function of its own, and another function."""
        for placed in self._shuffled:
            vaddrs, values = placed.pointers(segment)
            own = {
                int(at): int(value)
                for at, value in zip(vaddrs, values, strict=True)
                if placed.holds(int(value))
            }
            tables = {at: value for at, value in own.items() if self._is_of_table(placed, at)}
            for at, value in tables.items():
                for other in own.values():
                    if other != value:
                        return placed, at, other
        raise AssertionError("no module has one")

    def _is_of_table(self, placed: PlacedModule, vaddr: int) -> bool:
        name = self.modules.names(placed.name).variable(vaddr)
        return "ops" in name and not name.startswith("__SCK__")

    def static_calls(self) -> tuple[PlacedModule, int, list[int], int]:
        """A module, the key of a static call of its own, the places in the code of all modules where it is
        called (those of its own first), and another function that is called in the same way."""
        sites: dict[int, list[int]] = {}
        for placed in self._shuffled:
            rows = placed.linked.sites.static_calls.reshape(-1, 3).tolist()
            for (code, _tail, place), offset in zip(rows, placed.linked.sites.keys.tolist(), strict=True):
                key = self.modules.key_of(placed)(place, offset)
                if key is not None:
                    is_own = self.modules.with_data(key) is placed
                    sites.setdefault(key, []).insert(0 if is_own else 1 << 30, placed.text_vaddr + code)
        for placed in self._shuffled:
            own = [key for key in sites if self.modules.with_data(key) is placed and self.image.word(key)]
            if len(own) > 1:
                return placed, own[0], sites[own[0]], self.image.word(own[1])
        raise AssertionError("no module has one")


@pytest.fixture(params=GUESTS)
def plants(request: pytest.FixtureRequest, victim: Callable[..., Victim]) -> Plants:
    """A guest of many modules to plant hooks in."""
    return Plants(victim(request.param))


def test_each_hook_among_many_modules_is_found(
    plants: Plants, checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    image = plants.image
    owner, table, wrong = plants.pointer(DATA)
    image.set_word(table, wrong)
    caller, _key, sites, function = plants.static_calls()
    redirect(image, sites[0], function)
    victim = next(placed for placed in plants.modules.by_name.values() if placed not in (owner, caller))
    patched = victim.text_vaddr + 0x40
    image.write(patched, bytes(byte ^ 0x5A for byte in image.read(patched, 2)))
    hook = image.vaddr("__x64_sys_getdents64")
    image.jump(hook, victim.text_vaddr)
    rows = checked(image)
    found = {row["ADDRESS"]: row for row in rows}
    assert {table, sites[0], hook} <= found.keys()
    assert [row for row in rows if row["SYMBOL"].startswith(f"{victim.name}:")]
    assert len(rows) == 4
    assert found[hook]["LEADS"].startswith(f"module {victim.name}")
    assert found[table]["SYMBOL"].startswith(f"{owner.name}:")
    assert found[sites[0]]["SYMBOL"].startswith(f"{caller.name}:")


def test_a_static_call_whose_key_is_redirected_too_is_found_by_its_key(
    plants: Plants, checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    image = plants.image
    placed, key, sites, function = plants.static_calls()
    before = image.word(key)
    image.set_word(key, function)
    for site in sites:
        redirect(image, site, function)
    (row,) = checked(image)
    assert (row["ADDRESS"], row["FOUND"]) == (key, f"{function:#x}")
    assert row["SYMBOL"].startswith(f"{placed.name}:__SCK__")
    usual = plants.modules.names(placed.name).describe(before - placed.text_vaddr)
    assert row["EXPECTED"] in (usual, "0x0"), "some are linked empty"


def test_a_constant_table_that_leads_to_another_function_of_its_module_is_found(
    plants: Plants, checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    image = plants.image
    _placed, table, wrong = plants.pointer(RODATA)
    image.set_word(table, wrong)
    (row,) = checked(image)
    assert (row["ADDRESS"], row["FOUND"]) == (table, f"{wrong:#x}")


def redirect(image: Victim, site: int, to_vaddr: int) -> None:
    """Let the call or jump at a site lead elsewhere."""
    opcode = image.read(site, 1)
    assert opcode in (b"\xe8", b"\xe9")
    image.write(site + 1, (to_vaddr - site - 5 & 0xFFFFFFFF).to_bytes(4, "little"))
