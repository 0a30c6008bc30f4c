"""The snapshot's clocks. Time stands still: they show the last tick before the image was captured."""

from __future__ import annotations

import struct

from hybridbridge_vol.guest.abi import seconds_of
from hybridbridge_vol.guest.proxy_calls import ProxyCalls

_TIMESPEC = struct.Struct("<qq")
_CLOCK_REALTIME, _CLOCK_MONOTONIC, _CLOCK_BOOTTIME = 0, 1, 7  # include/uapi/linux/time.h


class SnapshotClocks:
    """Implements `guest.kernel.Clocks`."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy

    def realtime(self) -> float:
        """Seconds since the epoch, by the snapshot's own clock."""
        return self._read(_CLOCK_REALTIME)

    def monotonic(self) -> float:
        """Seconds since boot, without time asleep."""
        return self._read(_CLOCK_MONOTONIC)

    def boottime(self) -> float:
        """Seconds since boot."""
        return self._read(_CLOCK_BOOTTIME)

    def _read(self, clock: int) -> float:
        call = "clock_gettime"
        self._proxy.checked(call, call, clock, self._proxy.buffer(), side="twin")
        seconds, nanoseconds = _TIMESPEC.unpack(self._proxy.answer(call, _TIMESPEC.size))
        return seconds_of(seconds, nanoseconds)
