"""The kernel's structure behind a descriptor that is a socket."""

from __future__ import annotations

from hybridbridge_vol.bridge.run.caller import Caller
from hybridbridge_vol.units import U64


def struct_socket(caller: Caller, fd: int) -> int:
    """The virtual address of the `struct socket` of one of the proxy task's descriptors (net/socket.c,
    `sockfd_lookup`); a reference is kept, as the call ends with the session. CallRolledBack."""
    lookup = caller.bridge.home("sockfd_lookup")
    return caller.call(lookup, fd, caller.put(bytes(8)), label="sockfd_lookup") & U64
