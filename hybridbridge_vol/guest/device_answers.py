"""Answers that need a register of a device: without it, or with zeros in its place."""

from __future__ import annotations

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.errors import CallRolledBack, ParseError
from hybridbridge_vol.guest.kernel import KernelFiles
from hybridbridge_vol.procfs.iomem import memory_of, parse_iomem

_IOMEM = "/proc/iomem"


class SnapshotDevices:
    """Implements `guest.kernel.Devices`."""

    def __init__(self, caller: Caller, files: KernelFiles) -> None:
        self._caller = caller
        self._files = files

    def answer(self) -> bool:
        """See `guest.kernel.Devices`."""
        devices = self._caller.bridge.space.devices
        if devices.is_answered or devices.refused is None:
            return False
        try:
            memory = memory_of(parse_iomem(self._files.read(_IOMEM)))
        except (ParseError, OSError, CallRolledBack):
            return False
        devices.answer([range(part.start_paddr, part.last_paddr + 1) for part in memory])
        return True

    def refuse(self) -> None:
        """See `guest.kernel.Devices`."""
        if self._caller.bridge.space.devices.is_answered:
            self._caller.refuse_devices()
