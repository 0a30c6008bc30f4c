"""The snapshot's eBPF programs, maps, links and types, by bpf(2) on the twin side (kernel/bpf/syscall.c).

Each object is opened by its id as a descriptor of the proxy task's, asked, and closed again. A reference is
taken on copy-on-write pages; no program is run, and no map is changed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterable, Iterator, Mapping

from hybridbridge_vol.bpf.info_arrays import KSYMS, MAP_IDS, XLATED, place_of
from hybridbridge_vol.bpf.objects import (
    BTF,
    INFO_SIZES,
    LINK,
    MAP,
    PROG,
    Map,
    parse_link,
    parse_map,
)
from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.all_files import GuestFiles
from hybridbridge_vol.guest.bpf_commands import (
    GET_INFO,
    LARGE_AT,
    LARGEST,
    LOOKUP,
    NEXT_ID,
    NEXT_KEY,
    PROG_QUERY,
    TASK_QUERY,
    BpfCommands,
)
from hybridbridge_vol.guest.proxy_calls import AT_FDCWD, BUFFER_AT, ProxyCalls
from hybridbridge_vol.guest.values import BpfEvent, BpfInfo
from hybridbridge_vol.machine.words import read_words
from hybridbridge_vol.units import U64

_INFO_AT, _KEY_AT, _NEXT_AT, _SEQ_AT = (BUFFER_AT + offset for offset in (512, 4096, 8192, 12288))
_MOST_OBJECTS = 1 << 16
"""Of a kind; real machines have some hundred."""
MOST_ELEMENTS = 1 << 20
"""Of a map that are read."""
_MOST_NAMES = 4096
_OLD_BTF_INFO = 16
"""Bytes of struct bpf_btf_info before 5.11, which has no name."""
_MOST_IDS = 1024
_FILE_SIZE, _INODE_SIZE = 256, 1024
"""Bytes of struct file and struct inode in which pointers are looked for."""
_FDINFO = {PROG: "bpf_prog_show_fdinfo", MAP: "bpf_map_show_fdinfo", LINK: "bpf_link_show_fdinfo"}
_FDINFO_SIZE = 4096


class SnapshotBpf:
    """Implements `guest.kernel_objects.BpfObjects`."""

    def __init__(self, proxy: ProxyCalls, files: GuestFiles) -> None:
        self._proxy = proxy
        self._files = files
        self._commands = BpfCommands(proxy)

    def ids(self, kind: str) -> list[int]:
        """See `guest.kernel_objects.BpfObjects`."""
        found: list[int] = []
        number = 0
        while len(found) < _MOST_OBJECTS:
            try:
                answer = self._commands.command(NEXT_ID[kind], struct.pack("<I", number))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    break
                raise
            (following,) = struct.unpack_from("<I", answer, 4)
            if following <= number:
                raise OSError(errno.EIO, "the ids do not rise", f"bpf {kind}")
            number = following
            found.append(number)
        return found

    def info(self, kind: str, number: int) -> BpfInfo:
        """See `guest.kernel_objects.BpfObjects`."""
        source = f"bpf {kind} {number}"
        with self._commands.opened(kind, number) as fd:
            first = self._info(source, fd, kind, bytes(INFO_SIZES[kind]))
            arrays: dict[str, bytes] = {}
            if kind == PROG:
                self._of_program(source, fd, first, arrays)
            elif kind == BTF:
                self._of_btf(source, fd, first, arrays)
            elif kind == LINK:
                self._of_link(source, fd, first, arrays)
            return BpfInfo(first, arrays, self._fdinfo(kind, fd))

    def elements(self, number: int) -> Iterator[tuple[bytes, bytes | OSError]]:
        """See `guest.kernel_objects.BpfObjects`."""
        source = f"bpf {MAP} {number}"
        found = self.map_info(number)
        size = self._value_size(found)
        if not found.key_size:
            raise OSError(errno.EOPNOTSUPP, "a map without keys is not listed by the kernel", source)
        key: bytes | None = None
        fd = self._commands.open(MAP, number)
        generation = self._proxy.caller.generation
        for _element in range(min(found.max_entries + 1, MOST_ELEMENTS)):
            if generation != self._proxy.caller.generation:
                fd, generation = self._commands.open(MAP, number), self._proxy.caller.generation
            key = self._next_key(fd, found.key_size, key)
            if key is None:
                break
            yield key, self._lookup(fd, key, size)
        else:
            raise OSError(errno.ELOOP, "it has more elements than it may have", source)
        with contextlib.suppress(CallRolledBack):
            self._proxy.raw("close", fd)

    def fdinfo(self, kind: str, number: int) -> bytes:
        """What /proc/PID/fdinfo says of an object, beyond what it says of any file. Empty if that cannot be
        had; OSError if there is no such object."""
        with self._commands.opened(kind, number) as fd:
            return self._fdinfo(kind, fd)

    def next_key(self, found: Map, key: bytes | None) -> bytes | None:
        """The key of a map's that follows `key`, or its first; None after the last. OSError."""
        with self._commands.opened(MAP, found.id) as fd:
            return self._next_key(fd, found.key_size, key)

    def lookup(self, found: Map, key: bytes) -> bytes:
        """The value of a key in a map, for each processor where the map has one each. OSError."""
        with self._commands.opened(MAP, found.id) as fd:
            value = self._lookup(fd, key, self._value_size(found))
        if isinstance(value, OSError):
            raise value
        return value

    def map_info(self, number: int) -> Map:
        """A map's form. OSError, also if it does not fit the buffer."""
        source = f"bpf {MAP} {number}"
        with self._commands.opened(MAP, number) as fd:
            found = parse_map(self._info(source, fd, MAP, bytes(INFO_SIZES[MAP])))
        if max(found.key_size, self._value_size(found)) > LARGEST or found.key_size > _NEXT_AT - _KEY_AT:
            raise OSError(errno.EFBIG, "its elements are larger than the buffer", source)
        return found

    def event(self, pid: int, fd: int) -> BpfEvent:
        """See `guest.kernel_objects.BpfObjects`."""
        name = self._proxy.caller.put(bytes(_MOST_NAMES), LARGE_AT)
        request = struct.pack("<IIIIQ", pid, fd, 0, _MOST_NAMES, name)
        answer = self._commands.command(TASK_QUERY, request)
        program, kind, offset, address = struct.unpack_from("<IIQQ", answer, 24)
        text = self._proxy.caller.get(LARGE_AT, _MOST_NAMES).split(b"\0")[0]
        return BpfEvent(program, kind, text, offset, address)

    def of_cgroup(self, path: str, attach_types: Iterable[int]) -> list[tuple[int, int]]:
        """See `guest.kernel_objects.BpfObjects`."""
        found: list[tuple[int, int]] = []
        fd = self._proxy.checked(
            path, "openat", AT_FDCWD, self._proxy.put_path(path), os.O_RDONLY | os.O_DIRECTORY, 0
        )
        try:
            ids = self._proxy.caller.put(bytes(4 * _MOST_IDS), LARGE_AT)
            for attach_type in attach_types:
                request = struct.pack("<IIIIQI", fd, attach_type, 0, 0, ids, _MOST_IDS)
                try:
                    answer = self._commands.command(PROG_QUERY, request, path)
                except OSError as error:
                    if error.errno == errno.EINVAL:
                        continue
                    raise
                count = min(struct.unpack_from("<I", answer, 24)[0], _MOST_IDS)
                programs = struct.unpack(f"<{count}I", self._proxy.caller.get(LARGE_AT, 4 * count))
                found += ((attach_type, program) for program in programs)
            return found
        finally:
            with contextlib.suppress(CallRolledBack):
                self._proxy.raw("close", fd)

    def pins(self, paths: Iterable[str], objects: Iterable[tuple[str, int]]) -> dict[str, tuple[str, int]]:
        """See `guest.kernel_objects.BpfObjects`. The inode of such a file points to the object
        (kernel/bpf/inode.c, `bpf_mkobj_ops`): the field is the first that does."""
        known = self._vaddrs(objects)
        if not known:
            return {}
        inode_at = self._files.of_the_kernel.inode_offset()
        found = {path: self._places(path, inode_at, known) for path in paths}
        field = min((offset for places in found.values() for offset in places), default=None)
        return {path: places[field] for path, places in found.items() if field in places}

    def _places(
        self, path: str, inode_at: int, known: Mapping[int, tuple[str, int]]
    ) -> dict[int, tuple[str, int]]:
        """Where the inode of a file points to known objects: by the offset in it."""
        try:
            with self._files.open_path(path) as file:
                inode = self._words(file.number)[inode_at // 8]
        except (OSError, CallRolledBack, IndexError):
            return {}
        if not self._is_object(inode):
            return {}
        content = self._proxy.bridge.virtual_memory.read_padded(inode, _INODE_SIZE)
        words = struct.unpack(f"<{_INODE_SIZE // 8}Q", content)
        return {8 * index: known[word] for index, word in enumerate(words) if word in known}

    def _vaddrs(self, objects: Iterable[tuple[str, int]]) -> dict[int, tuple[str, int]]:
        """The kernel's objects by their virtual addresses. The file of a descriptor points to its object: the
        first field that leads to another object of the snapshot's for each of them."""
        found: dict[tuple[str, int], list[int]] = {}
        for kind, number in (*objects, *((BTF, each) for each in self.ids(BTF)[:1])):
            with contextlib.suppress(OSError, CallRolledBack), self._commands.opened(kind, number) as fd:
                found[kind, number] = self._words(fd)
        for words in zip(*found.values(), strict=False):
            if len(set(words)) == len(words) and all(map(self._is_object, words)):
                return dict(zip(words, found, strict=True))
        return {}

    def _is_object(self, word: int) -> bool:
        """Whether a word may be a pointer to an object of the snapshot's."""
        bridge = self._proxy.bridge
        return bridge.may_be_snapshot(word) and not bridge.in_twin(word)

    def _words(self, fd: int) -> list[int]:
        """The beginning of the struct file of a descriptor of the proxy task's."""
        bridge = self._proxy.bridge
        file = self._proxy.caller.call(bridge.home("fget_raw"), fd, label="fget_raw") & U64
        return read_words(bridge.machine, file, _FILE_SIZE)

    # --- parts of an answer -------------------------------------------------------------------------------

    def _of_program(self, source: str, fd: int, first: bytes, arrays: dict[str, bytes]) -> None:
        """Ids of its maps, its code, the addresses of its functions."""
        wanted = {"maps": MAP_IDS, "code": XLATED, "functions": KSYMS}
        request = bytearray(len(first))
        places = {}
        at = LARGE_AT
        for name, array in wanted.items():
            count = min(struct.unpack_from("<I", first, array.count_at)[0], (LARGEST >> 2) // array.size)
            size = count * array.size
            places[name] = (at, size)
            struct.pack_into("<I", request, array.count_at, count)
            struct.pack_into("<Q", request, array.pointer_at, self._proxy.caller.put(bytes(size), at))
            at += size + 15 & ~15
        self._info(source, fd, PROG, bytes(request))
        arrays |= {name: self._proxy.caller.get(start, size) for name, (start, size) in places.items()}

    def _of_btf(self, source: str, fd: int, first: bytes, arrays: dict[str, bytes]) -> None:
        """Its name and its data; those of the kernel's own may be larger than the buffer."""
        (size,) = struct.unpack_from("<I", first, 8)
        size = size if size <= LARGEST - _MOST_NAMES else 0
        data_at = LARGE_AT + _MOST_NAMES
        name = self._proxy.caller.put(bytes(_MOST_NAMES), LARGE_AT)
        data = self._proxy.caller.put(bytes(size), data_at) if size else 0
        request = struct.pack("<QIIQII", data, size, 0, name, _MOST_NAMES, 0)
        try:
            self._info(source, fd, BTF, request)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            self._info(source, fd, BTF, request[:_OLD_BTF_INFO])
        arrays["name"] = self._proxy.caller.get(LARGE_AT, _MOST_NAMES).split(b"\0")[0]
        arrays["data"] = self._proxy.caller.get(data_at, size)

    def _of_link(self, source: str, fd: int, first: bytes, arrays: dict[str, bytes]) -> None:
        """The name or the addresses that it is attached to."""
        where = place_of(parse_link(first))
        if where is None:
            return
        size = where.size
        count = min(struct.unpack_from("<I", first, where.count_at)[0], LARGEST // size)
        room = count * size if size > 1 else _MOST_NAMES
        request = bytearray(len(first))
        struct.pack_into("<Q", request, where.pointer_at, self._proxy.caller.put(bytes(room), LARGE_AT))
        struct.pack_into("<I", request, where.count_at, room // size)
        with contextlib.suppress(OSError):
            self._info(source, fd, LINK, bytes(request))
            answer = self._proxy.caller.get(LARGE_AT, room)
            arrays["where"] = answer if size > 1 else answer.split(b"\0")[0]

    def _fdinfo(self, kind: str, fd: int) -> bytes:
        """What the file of /proc/PID/fdinfo of a process that held it would say, made by the function that
        makes it there, into a seq_file of ours; empty if that cannot be had."""
        name, bridge = _FDINFO.get(kind), self._proxy.bridge
        if name is None:
            return b""
        with contextlib.suppress(KeyError, CallRolledBack):
            buffer = self._proxy.caller.put(bytes(_FDINFO_SIZE), _SEQ_AT)
            file = self._proxy.caller.call(bridge.home("fget"), fd, label="fget") & U64
            sequence = self._proxy.caller.put_words(buffer, _FDINFO_SIZE, *(0,) * 20)
            self._proxy.function(name, sequence, file)
            (count,) = struct.unpack("<Q", bridge.machine.read(sequence + 24, 8))
            return self._proxy.caller.get(_SEQ_AT, min(count, _FDINFO_SIZE))
        return b""

    def _value_size(self, found: Map) -> int:
        """Bytes of a value as bpf(2) gives it: of a map for each processor, all of them, each rounded up."""
        if found.type in _PER_CPU:
            return (found.value_size + 7 & ~7) * self._possible_cpus
        return found.value_size

    @property
    def _possible_cpus(self) -> int:
        bridge = self._proxy.bridge
        return int.from_bytes(bridge.virtual_memory.read_padded(bridge.snapshot("nr_cpu_ids"), 4), "little")

    def _next_key(self, fd: int, size: int, key: bytes | None) -> bytes | None:
        before = 0 if key is None else self._proxy.caller.put(key, _KEY_AT)
        following = self._proxy.caller.put(bytes(size), _NEXT_AT)
        try:
            self._commands.command(NEXT_KEY, struct.pack("<IIQQ", fd, 0, before, following))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return self._proxy.caller.get(_NEXT_AT, size)

    def _lookup(self, fd: int, key: bytes, size: int) -> bytes | OSError:
        key_vaddr = self._proxy.caller.put(key, _KEY_AT)
        value = self._proxy.caller.put(bytes(size), LARGE_AT)
        try:
            self._commands.command(LOOKUP, struct.pack("<IIQQ", fd, 0, key_vaddr, value))
        except OSError as error:
            return error
        return self._proxy.caller.get(LARGE_AT, size)

    def _info(self, source: str, fd: int, kind: str, request: bytes) -> bytes:
        """struct bpf_*_info after it was filled in; its labels are kept under `source`."""
        vaddr = self._proxy.caller.put(request, _INFO_AT)
        self._commands.command(GET_INFO, struct.pack("<IIQ", fd, len(request), vaddr), source)
        self._proxy.labels.forget(source)
        self._proxy.labels.keep(source, _INFO_AT, len(request), False)
        return self._proxy.caller.get(_INFO_AT, len(request))


_PER_CPU = (5, 6, 10, 21)
"""Maps that have a value for each processor: percpu_hash, percpu_array, lru_percpu_hash,
percpu_cgroup_storage."""
