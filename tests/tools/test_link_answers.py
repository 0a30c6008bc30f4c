"""Interfaces of which the driver would ask its device for the counters: the answer about all of them is
rolled back, and each is asked for alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from answers import ask
from generations import Lab
from live_devices import LiveDevices

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.session import Session
from hybridbridge_vol.netlink.requests import NetlinkRequest
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.tools.network.link_answers import interface_names, link_answers, names_by_index
from hybridbridge_vol.tools.network.links import Found, all_links

IMAGE = "6.12 network"


class _Routes:
    """As if a driver stood in the way of the answer about all interfaces."""

    def dump(self, kind: int, body: bytes) -> bytes:
        raise CallRolledBack(f"sendto rtnetlink {kind}", "a register of a device")


class _Netlink:
    """The guest's, but for one interface."""

    def __init__(self, kernel: GuestKernel, without: str) -> None:
        self._kernel, self._without = kernel, without

    def dump(self, request: NetlinkRequest, net_of: int | None = None) -> bytes:
        if request.source.endswith(f" {self._without}"):
            raise CallRolledBack(request.source, "a register of a device")
        return self._kernel.netlink.dump(request, net_of)


def _with_a_driver_in_the_way(kernel: GuestKernel, without: str) -> GuestKernel:
    parts: Any = SimpleNamespace(
        files=kernel.files, routes=_Routes(), netlink=_Netlink(kernel, without), devices=LiveDevices()
    )
    return cast(GuestKernel, parts)


def _still(found: Found) -> object:
    """But for the counters: an interface that watches netlink counts these questions."""
    return found.link if isinstance(found.link, Unavailable) else found.link._replace(counters=None)


@pytest.fixture
def kernel(lab: Lab) -> GuestKernel:
    return lab.session(IMAGE)


def test_each_interface_alone_says_what_the_answer_about_all_says(kernel: GuestKernel) -> None:
    whole = all_links(kernel)
    assert len(whole) > 5
    alone = all_links(_with_a_driver_in_the_way(kernel, "none of them"))
    assert [_still(found) for found in alone] == [_still(found) for found in whole]


def test_only_the_interface_of_such_a_driver_is_missing(kernel: GuestKernel) -> None:
    whole = all_links(kernel)
    name = next(found.link.name for found in whole if not isinstance(found.link, Unavailable))
    hindered = _with_a_driver_in_the_way(kernel, name)
    assert list(link_answers(hindered).missing) == [name]
    for found, expected in zip(all_links(hindered), whole, strict=True):
        assert not isinstance(found.link, Unavailable)
        assert not isinstance(expected.link, Unavailable)
        if found.link.name == name:
            assert found.gap is not None
            assert "a register of a device" in found.gap.reason
            assert (found.link.address, found.link.mtu) == (expected.link.address, expected.link.mtu)
        else:
            assert found.gap is None
            assert _still(found) == _still(expected)


class _Devices:
    """Registers that are zeros once they are wanted, beside a driver that needs them for one interface."""

    def __init__(self) -> None:
        self.answered = False

    def answer(self) -> bool:
        self.answered = True
        return True

    def refuse(self) -> None:
        self.answered = False


def test_only_the_counters_of_an_interface_whose_driver_asks_its_device_are_missing(
    kernel: GuestKernel,
) -> None:
    whole = all_links(kernel)
    name = next(found.link.name for found in whole if not isinstance(found.link, Unavailable))
    hindered = cast(Any, _with_a_driver_in_the_way(kernel, name))
    hindered.devices = devices = _Devices()
    plain = hindered.netlink

    def dump(request: NetlinkRequest) -> bytes:
        return (kernel.netlink if devices.answered else plain).dump(request)  # type: ignore[no-any-return]

    hindered.netlink = SimpleNamespace(dump=dump)
    answers = link_answers(hindered)
    assert (answers.missing, answers.uncounted, devices.answered) == ({}, {name}, False)
    for found, expected in zip(all_links(hindered), whole, strict=True):
        assert not isinstance(found.link, Unavailable)
        assert _still(found) == _still(expected)
        assert (found.link.counters is None) == (found.link.name == name)


def test_the_file_of_bonding_beside_the_interfaces_is_none(kernel: GuestKernel) -> None:
    """The guest has a bond."""
    assert "bonding_masters" in kernel.files.listdir("/sys/class/net")
    names = {found.link.name for found in all_links(kernel) if not isinstance(found.link, Unavailable)}
    assert set(interface_names(kernel)) == names == set(names_by_index(kernel).values())
    assert {row["IFACE"] for row in ask(cast(Session, kernel), "wireguard")} <= names
