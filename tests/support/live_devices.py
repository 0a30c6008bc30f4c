"""Devices of the machine the tests run on."""

from __future__ import annotations


class LiveDevices:
    """No call that asks a device of this machine is rolled back."""

    def answer(self) -> bool:
        return False

    def refuse(self) -> None: ...
