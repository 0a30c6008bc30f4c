"""What the kernel answers about its interfaces, also where a driver would have to ask its device.

Drivers of many network cards read the counters of an interface from the card (`ndo_get_stats64` of e1000e is
one that does), which no image has. The answer about all interfaces is then rolled back as a whole; each is
asked for alone. Those of such drivers are asked for with zeros in the card's registers: all but what is
counted there is then as the kernel has it in memory.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.netlink.requests import NETLINK_ROUTE, NetlinkRequest
from hybridbridge_vol.netlink.rtnetlink import RTM_GETLINK, request_body
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, why

CLASS_NET = "/sys/class/net"
_NO_INTERFACES = frozenset(("bonding_masters",))
"""Files beside the interfaces' folders: drivers/net/bonding/bond_sysfs.c."""
MAX_FAILURES = 64
"""Interfaces without an answer, after which no more are asked for."""


class LinkAnswers(NamedTuple):
    """The kernel's messages (RTM_NEWLINK), one after the other; `missing`: the interfaces without one;
    `uncounted`: those whose counters rest on registers that no image has."""

    data: bytes
    missing: dict[str, Unavailable]
    uncounted: frozenset[str] = frozenset()


def link_answers(kernel: GuestKernel) -> LinkAnswers:
    """About all interfaces. What `kernel.routes.dump` raises, if /sys does not name the interfaces."""
    try:
        return LinkAnswers(kernel.routes.dump(RTM_GETLINK, request_body(RTM_GETLINK)), {})
    except CallRolledBack:
        names = names_by_index(kernel)
        if not names:
            raise
    data = b""
    missing: dict[str, Unavailable] = {}
    uncounted: set[str] = set()
    for ifindex, name in sorted(names.items()):
        if len(missing) == MAX_FAILURES:
            missing[name] = Unavailable(f"not asked for, after {MAX_FAILURES} interfaces without an answer")
            break
        body = struct.pack("<4xi8x", ifindex)
        request = NetlinkRequest(f"rtnetlink of {name}", NETLINK_ROUTE, RTM_GETLINK, body, is_list=False)
        try:
            data += kernel.netlink.dump(request)
        except UNREADABLE as error:
            answer = _without_device(kernel, request)
            if answer is None:
                missing[name] = why(f"rtnetlink of {name}", error)
            else:
                data += answer
                uncounted.add(name)
    return LinkAnswers(data, missing, frozenset(uncounted))


def _without_device(kernel: GuestKernel, request: NetlinkRequest) -> bytes | None:
    """An answer for which a driver asks its device, with zeros in the device's registers; None if it lacks
    something else."""
    if not kernel.devices.answer():
        return None
    try:
        return kernel.netlink.dump(request)
    except UNREADABLE:
        return None
    finally:
        kernel.devices.refuse()


def interface_names(kernel: GuestKernel) -> list[str]:
    """The interfaces, as /sys/class/net lists them. OSError, CallRolledBack."""
    return [name for name in kernel.files.listdir(CLASS_NET) if name not in _NO_INTERFACES]


def names_by_index(kernel: GuestKernel) -> dict[int, str]:
    """The names of the interfaces, from /sys/class/net, which needs no driver's code; of those that can be
    read."""
    names = {}
    listed = attempt(CLASS_NET, lambda: interface_names(kernel))
    for name in () if isinstance(listed, Unavailable) else listed:
        ifindex = sysfs_number(kernel, name, "ifindex")
        if isinstance(ifindex, int):
            names[ifindex] = name
    return names


def sysfs_number(kernel: GuestKernel, interface: str, file: str) -> int | Unavailable:
    """A number of /sys/class/net, decimal or hexadecimal with 0x."""
    path = f"{CLASS_NET}/{interface}/{file}"
    try:
        return int(kernel.files.read(path), 0)
    except ValueError:
        return Unavailable(f"{path}: not a number")
    except UNREADABLE as error:
        return why(path, error)
