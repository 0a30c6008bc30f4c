"""The device mapper's tables, by the ioctls of its control device (include/uapi/linux/dm-ioctl.h,
drivers/md/dm-ioctl.c). The table of dm-crypt has the master key in it (drivers/md/dm-crypt.c,
`crypt_status`)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from hybridbridge_vol.guest.all_files import GuestFiles
from hybridbridge_vol.guest.proxy_calls import BUFFER_AT, ProxyCalls
from hybridbridge_vol.guest.values import Target

CONTROL = "/dev/mapper/control"
_HEAD = struct.Struct("<6Ii3IQ128s129s7x")
_SIZE = 64 << 10
_LIST_DEVICES, _TABLE_STATUS = 0xC138FD02, 0xC138FD0C
_STATUS_TABLE = 1 << 4
MAX_DEVICES, MAX_TARGETS = 4096, 256


class SnapshotDeviceMapper:
    """Implements `guest.kernel_objects.DeviceMapper`."""

    def __init__(self, proxy: ProxyCalls, files: GuestFiles) -> None:
        self._proxy = proxy
        self._files = files

    def targets(self) -> Iterator[Target]:
        """Those of all devices. OSError (ENOENT: the guest has no device mapper), CallRolledBack."""
        for name in self._names():
            answer, start, count = self._ask(_TABLE_STATUS, name, _STATUS_TABLE)
            at = start
            for _ in range(min(count, MAX_TARGETS)):
                if at + 40 > len(answer):
                    break
                _begin, _length, _status, following, kind = struct.unpack_from("<QQiI16s", answer, at)
                words = answer[at + 40 :].split(b"\0", 1)[0]
                yield Target(os.fsdecode(name), os.fsdecode(kind.split(b"\0")[0]), os.fsdecode(words))
                if start + following <= at:
                    break
                at = start + following

    def _names(self) -> list[bytes]:
        answer, at, _count = self._ask(_LIST_DEVICES, b"", 0)
        names: list[bytes] = []
        while at + 12 < len(answer) and len(names) < MAX_DEVICES:
            device, following = struct.unpack_from("<QI", answer, at)
            if not device:
                break
            names.append(answer[at + 12 :].split(b"\0", 1)[0])
            if not following:
                break
            at += following
        return names

    def _ask(self, request: int, name: bytes, flags: int) -> tuple[bytes, int, int]:
        """An answer, where its data begins, and how many targets it has."""
        head = _HEAD.pack(4, 0, 0, _SIZE, _HEAD.size, 0, 0, flags, 0, 0, 0, name, b"")
        with self._files.open_device(CONTROL) as file:
            buffer = self._proxy.buffer(head + bytes(_SIZE - len(head)))
            self._proxy.checked(CONTROL, "ioctl", file.number, request, buffer)
        answer = self._proxy.caller.get(BUFFER_AT, _SIZE)
        _v1, _v2, _v3, _size, start, count, *_rest = _HEAD.unpack_from(answer)
        return answer, start, count
