"""The maps of user and group numbers of the first user namespace (`init_user_ns`, kernel/user.c).

Every call goes through them, from the mounting of /proc on. They map each number to itself in every kernel,
and nothing ever changes them (map_write() in kernel/user_namespace.c refuses a map that was set): where the
image's are others they are damaged or forged, and are replaced by the trusted kernel's.
"""

from __future__ import annotations

from hybridbridge_vol.bridge.sides import Sides
from hybridbridge_vol.bridge.snapshot_space import SnapshotSpace
from hybridbridge_vol.machine.machine import Machine, UnmappedVirtual

_AT_MOST = 512
"""Bytes of a struct user_namespace in which its three maps lie, at its beginning."""
_ALL = b"\xff\xff\xff\xff"
"""How many numbers each maps: a map has this word once."""
_MAPS = 3
NOTE = (
    "the maps of user and group numbers of the first user namespace are damaged in the image: "
    "numbers are shown unmapped, as every kernel has them there"
)


def restore_identity_maps(machine: Machine, sides: Sides, space: SnapshotSpace) -> str:
    """Let the snapshot's maps be the trusted kernel's. What is to be said of it: `NOTE`, or nothing if they
    were the same, or if the image or the kernel has none."""
    try:
        maps = _maps(machine.read(sides.home("init_user_ns"), _AT_MOST))
        theirs = sides.snapshot("init_user_ns")
        with space.all_lent():  # whatever else is on their page: nothing of it is followed here
            if machine.read(theirs, len(maps)) == maps:
                return ""
            machine.write(theirs, maps)
    except (KeyError, UnmappedVirtual):
        return ""
    return NOTE


def _maps(namespace: bytes) -> bytes:
    """The three maps, each as long as one follows the other; none if they are not where they should be."""
    places = [at for at in range(0, len(namespace) - 3, 4) if namespace[at : at + 4] == _ALL][:_MAPS]
    if len(places) < _MAPS or places[1] - places[0] != places[2] - places[1]:
        return b""
    return namespace[: _MAPS * (places[1] - places[0])]
