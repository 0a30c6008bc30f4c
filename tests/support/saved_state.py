"""The state of a guest as QEMU saves it, as for a migration to a file."""

from __future__ import annotations

import time

from samples import qemu

_POLL_SECONDS = 0.2


def save_state(guest: qemu.Guest, name: str) -> None:
    """Write the file of that name in the guest's folder."""
    guest.command("migrate", {"uri": f"exec:cat > {name}"})
    while guest.command("query-migrate")["status"] != "completed":
        time.sleep(_POLL_SECONDS)
