"""File handles of control groups (open_by_handle_at(2)), by which `ss -e` finds the name of a group's id."""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Callable

from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.native.abi import failed
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.notifications import Answer, Call, NewDescriptor
from hybridbridge_vol.native.places import Places, Where

_ROOT = "/sys/fs/cgroup"
_FILEID_KERNFS = 0xFE  # include/linux/exportfs.h
_HEAD, _ID = struct.Struct("<Ii"), struct.Struct("<Q")
"""struct file_handle (include/linux/fs.h) before its bytes; those of kernfs are the inode's number."""
MAX_GROUPS = 1 << 14
"""Control groups that are searched for an id."""


class HandleCalls:
    """`handlers`: by the name of the system call."""

    def __init__(self, answers: Answers, places: Places) -> None:
        self._answers = answers
        self._places = places
        self.handlers: dict[str, Callable[[Call], Answer]] = {
            "name_to_handle_at": self._name_to_handle,
            "open_by_handle_at": self._open_by_handle,
        }

    def _name_to_handle(self, call: Call) -> Answer:
        folder, path_at, handle, mount = call.arguments[:4]
        place = self._places.of(call, signed32(folder), call.memory.read_path(path_at))
        if place.where is not Where.IMAGE or not f"{place.path}/".startswith(f"{_ROOT}/"):
            raise failed(errno.EOPNOTSUPP)
        room, _kind = _HEAD.unpack(call.memory.read_exactly(handle, _HEAD.size))
        if room < _ID.size:
            call.memory.write(handle, _HEAD.pack(_ID.size, _FILEID_KERNFS))
            raise failed(errno.EOVERFLOW)
        number = self._answers.attributes(place.path).ino
        call.memory.write(handle, _HEAD.pack(_ID.size, _FILEID_KERNFS) + _ID.pack(number))
        call.memory.write(mount, struct.pack("<i", 0))
        return 0

    def _open_by_handle(self, call: Call) -> Answer:
        data = call.memory.read_exactly(call.arguments[1], _HEAD.size + _ID.size)
        size, _kind = _HEAD.unpack_from(data)
        wanted = _ID.unpack_from(data, _HEAD.size)[0]
        path = self._answers.once(("control groups",), self._groups).get(wanted)
        if size != _ID.size or path is None:
            raise failed(errno.ESTALE)
        return NewDescriptor(self._answers.name(path, True).opened(), False)

    def _groups(self) -> dict[int, str]:
        """The paths of all control groups by their ids."""
        found: dict[int, str] = {}
        waiting = [_ROOT]
        while waiting and len(found) < MAX_GROUPS:
            path = waiting.pop()
            found[self._answers.attributes(path).ino] = path
            names = self._answers.session.files.listdir(path)
            below = (f"{path}/{name}" for name in names)
            waiting += [child for child in below if stat.S_ISDIR(self._answers.mode(child, False))]
        return found
