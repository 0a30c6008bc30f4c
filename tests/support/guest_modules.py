"""Modules of the shared guests: where they lie, and code written for tests."""

from __future__ import annotations

from hybridbridge_vol.bridge.modules.relocated_module import TrustedSegment
from hybridbridge_vol.guest.session import Session


def loaded(session: Session) -> list[tuple[str, int]]:
    """`(name, address)` of the guest's modules, as its kernel lists them."""
    lines = session.files.read("/proc/modules").decode().splitlines()
    return [(line.split()[0], int(line.split()[5], 16)) for line in lines]


def code_of(session: Session, name: str) -> TrustedSegment:
    """The trusted segment of code of a module of the guest."""
    trusted = session.bridge.space.modules.at(dict(loaded(session))[name])
    assert trusted is not None
    return trusted


def function(session: Session, module: str, name: str) -> int:
    """Where the snapshot has a function of a module."""
    found = code_of(session, module).module
    return next(found.sections[one.section] + one.value for one in found.file.symbols() if one.name == name)
