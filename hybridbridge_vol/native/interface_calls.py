"""ioctls of network interfaces (netdevice(7)): those that ask, answered by the image's kernel."""

from __future__ import annotations

import errno
import struct

from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.notifications import Answer, Call
from hybridbridge_vol.native.sockets import ProgramSocket

_SOCKET_IOCTLS = range(0x8900, 0x8A00)
_IFREQ_IOCTLS = frozenset((
    0x8910, 0x8913, 0x8915, 0x8917, 0x8919, 0x891B, 0x891D, 0x891F, 0x8921, 0x8927, 0x8929, 0x8933, 0x8935,
    0x8938, 0x8940, 0x8942, 0x8970,
))  # fmt: skip
"""SIOCGIF*, include/uapi/linux/sockios.h: those that ask, with a `struct ifreq` of 40 bytes."""
_IFCONF, _ETHTOOL, _GARP = 0x8912, 0x8946, 0x8954
_IFREQ_SIZE, _ARPREQ_SIZE = 40, 68
_IFREQ_DATA = struct.Struct("<16sQ")
"""The name of the interface, and where SIOCETHTOOL's own request is."""
_ETHTOOL_SIZES = {0x03: 196}
"""ETHTOOL_GDRVINFO, what `ethtool -i` shows: bytes of struct ethtool_drvinfo (include/uapi/linux/ethtool.h).
All else that asks has a request of generic netlink."""


def ask(answers: Answers, call: Call, found: ProgramSocket | None) -> Answer:
    """The answer to an ioctl on a descriptor, and the socket that it is `found` to be. OSError."""
    command, argument = call.arguments[1] & 0xFFFF_FFFF, call.arguments[2]
    if found is None or command not in _SOCKET_IOCTLS:
        raise failed(errno.ENOTTY)
    if command == _IFCONF:
        return _ifconf(call, found, argument)
    if command == _ETHTOOL:
        return _ethtool(answers, call, found, argument)
    size = _ARPREQ_SIZE if command == _GARP else _IFREQ_SIZE
    if command not in _IFREQ_IOCTLS and command != _GARP:
        raise failed(errno.EOPNOTSUPP)
    given = call.memory.read_exactly(argument, size)
    call.memory.write(argument, answers.with_devices(lambda: found.ioctl(command, given)))
    return 0


def _ifconf(call: Call, found: ProgramSocket, argument: int) -> Answer:
    room, buffer = struct.unpack("<i4xQ", call.memory.read_exactly(argument, 16))
    data = found.interfaces(max(room, 0) if buffer else None)
    if buffer:
        call.memory.write(buffer, data)
    call.memory.write(argument, struct.pack("<i", len(data)))
    return 0


def _ethtool(answers: Answers, call: Call, found: ProgramSocket, argument: int) -> Answer:
    name, vaddr = _IFREQ_DATA.unpack(call.memory.read_exactly(argument, _IFREQ_DATA.size))
    (asked,) = struct.unpack("<I", call.memory.read_exactly(vaddr, 4))
    size = _ETHTOOL_SIZES.get(asked)
    if size is None:
        raise failed(errno.EOPNOTSUPP)
    request = call.memory.read_exactly(vaddr, size)
    call.memory.write(vaddr, answers.with_devices(lambda: found.ethtool(_ETHTOOL, name, request)))
    return 0
