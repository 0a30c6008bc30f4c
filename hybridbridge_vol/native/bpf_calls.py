"""bpf(2): the commands that ask for the guest's programs, maps, links and types, as bpftool makes them."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable
from functools import partial

from hybridbridge_vol.bpf.info_arrays import QUERY_ARRAYS, TASK_ARRAYS, Array, arrays_of
from hybridbridge_vol.bpf.objects import BTF, INFO_SIZES, LINK, MAP, PROG, Map, parse_link
from hybridbridge_vol.guest.abi import signed32
from hybridbridge_vol.guest.bpf_commands import (
    ATTR_SIZE,
    BY_ID,
    GET_INFO,
    LARGE_AT,
    LARGEST,
    LOOKUP,
    NEXT_ID,
    NEXT_KEY,
    OBJ_GET,
    PROG_QUERY,
    TASK_QUERY,
    BpfCommands,
)
from hybridbridge_vol.guest.proxy_calls import BUFFER_AT
from hybridbridge_vol.native.abi import AT_FDCWD, failed
from hybridbridge_vol.native.answers import Answers
from hybridbridge_vol.native.nodes import Kind, Node
from hybridbridge_vol.native.notifications import Answer, Call, NewDescriptor
from hybridbridge_vol.native.places import Places, Where

_LINKS = {PROG: "bpf-prog", MAP: "bpf-map", LINK: "bpf-link", BTF: "btf"}
"""What /proc/self/fd says behind "anon_inode:": kernel/bpf/syscall.c, btf.c."""
_INFO_AT, _MAX_INFO = BUFFER_AT + 512, 2048
_OF_DEVICES = (46, 47, 54, 55)
"""BPF_TCX_INGRESS, TCX_EGRESS, NETKIT_PRIMARY, NETKIT_PEER: they are asked for by a device's index."""
_MAX_ATTR = 4096
_ENOTSUPP = 524  # include/linux/errno.h
Attributes = bytes


class BpfCalls:
    """`handlers`: by the name of the system call. A descriptor of an object is a node that stands for it:
    commands on it open the object by its id, in the proxy task."""

    def __init__(self, answers: Answers, places: Places) -> None:
        self._answers = answers
        self._places = places
        self._bpf = answers.session.bpf
        self._caller = answers.session.proxy.caller
        self._commands = BpfCommands(answers.session.proxy)
        self.handlers: dict[str, Callable[[Call], Answer]] = {"bpf": self._command}
        self._asking: dict[int, Callable[[Call, Attributes], Answer]] = {
            LOOKUP: self._lookup,
            NEXT_KEY: self._next_key,
            OBJ_GET: self._pinned,
            GET_INFO: self._info,
            PROG_QUERY: self._query,
            TASK_QUERY: self._task,
            **{number: partial(self._next_id, number) for number in NEXT_ID.values()},
            **{number: partial(self._by_id, kind) for kind, number in BY_ID.items()},
        }

    def _command(self, call: Call) -> Answer:
        command, vaddr, size = call.arguments[0] & 0xFFFF_FFFF, call.arguments[1], call.arguments[2]
        ask = self._asking.get(command)
        if ask is None:  # it would make, attach or change something
            raise failed(errno.EPERM)
        size &= 0xFFFF_FFFF
        if size > _MAX_ATTR:
            raise failed(errno.E2BIG)
        given = call.memory.read_exactly(vaddr, size)
        if any(given[ATTR_SIZE:]):
            raise failed(errno.E2BIG)
        return ask(call, given[:ATTR_SIZE].ljust(ATTR_SIZE, b"\0"))

    def _put(self, call: Call, offset: int, data: bytes) -> None:
        """Write to the attributes, as far as the program has given them."""
        room = (call.arguments[2] & 0xFFFF_FFFF) - offset
        call.memory.write(call.arguments[1] + offset, data[: max(room, 0)])

    # --- descriptors --------------------------------------------------------------------------------------

    def _next_id(self, command: int, call: Call, attributes: Attributes) -> Answer:
        asked = attributes[:12]
        answer = self._answers.once(("bpf", command, asked), lambda: self._commands.command(command, asked))
        self._put(call, 4, answer[4:8])
        return 0

    def _by_id(self, kind: str, _call: Call, attributes: Attributes) -> Answer:
        return self._descriptor(kind, struct.unpack_from("<I", attributes)[0])

    def _descriptor(self, kind: str, number: int) -> Answer:
        node = self._answers.node_once(("bpf", kind, number), lambda: self._new_node(kind, number))
        return NewDescriptor(node.opened(), True)

    def _new_node(self, kind: str, number: int) -> Node:
        fdinfo = self._bpf.fdinfo(kind, number)
        node = self._answers.nodes.make(f"anon_inode:{_LINKS[kind]}", Kind.OTHER)
        node.bpf, node.fdinfo = (kind, number), fdinfo
        return node

    def _pinned(self, call: Call, attributes: Attributes) -> Answer:
        path = call.memory.read_path(struct.unpack_from("<Q", attributes)[0])
        place = self._places.of(call, AT_FDCWD, path)
        if place.where is not Where.IMAGE:
            raise failed(errno.EACCES)
        self._answers.mode(place.path)  # whether there is such a file
        objects = self._answers.once(("bpf objects",), self._objects)
        found = self._answers.once(
            ("bpf pin", place.path), lambda: self._bpf.pins([place.path], objects).get(place.path)
        )
        if found is None:
            raise failed(errno.EACCES)
        return self._descriptor(*found)

    def _objects(self) -> list[tuple[str, int]]:
        return [(kind, number) for kind in (PROG, MAP, LINK) for number in self._bpf.ids(kind)]

    def _object(self, call: Call, descriptor: int) -> tuple[str, int]:
        node = self._answers.nodes.behind(call.tid, signed32(descriptor))
        if node is None or node.bpf is None:
            raise failed(errno.EINVAL)
        return node.bpf

    # --- what there is in an object -----------------------------------------------------------------------

    def _info(self, call: Call, attributes: Attributes) -> Answer:
        descriptor, size, vaddr = struct.unpack_from("<IIQ", attributes)
        kind, number = self._object(call, descriptor)
        if size > _MAX_INFO:
            raise failed(errno.E2BIG)
        request = call.memory.read_exactly(vaddr, size)
        with self._commands.opened(kind, number) as fd:
            link = 0
            if kind == LINK:
                first = self._ask_info(fd, bytes(INFO_SIZES[LINK]))[1]
                link = parse_link(first.ljust(INFO_SIZES[LINK], b"\0")).type
            given = 0

            def ask(structure: bytes) -> bytes:
                nonlocal given
                given, answer = self._ask_info(fd, structure)
                return answer

            answer = self._filled(call, request, arrays_of(kind, link), ask)
        call.memory.write(vaddr, answer)
        self._put(call, 4, struct.pack("<I", given))
        return 0

    def _ask_info(self, fd: int, structure: bytes) -> tuple[int, bytes]:
        """How many bytes of it the kernel knows, and a struct bpf_*_info that it has filled in."""
        vaddr = self._caller.put(structure, _INFO_AT)
        answer = self._commands.command(GET_INFO, struct.pack("<IIQ", fd, len(structure), vaddr))
        known = min(struct.unpack_from("<I", answer, 4)[0], len(structure))
        return known, self._caller.get(_INFO_AT, len(structure))

    def _lookup(self, call: Call, attributes: Attributes) -> Answer:
        descriptor, key_at, value_at = struct.unpack_from("<I4xQQ", attributes)
        found = self._map(call, descriptor)
        key = call.memory.read_exactly(key_at, found.key_size)
        value = self._answers.once(("bpf value", found.id, key), lambda: self._bpf.lookup(found, key))
        call.memory.write(value_at, value)
        return 0

    def _next_key(self, call: Call, attributes: Attributes) -> Answer:
        descriptor, key_at, next_at = struct.unpack_from("<I4xQQ", attributes)
        found = self._map(call, descriptor)
        key = call.memory.read_exactly(key_at, found.key_size) if key_at else None
        following = self._answers.once(("bpf key", found.id, key), lambda: self._bpf.next_key(found, key))
        if following is None:
            raise failed(errno.ENOENT)
        call.memory.write(next_at, following)
        return 0

    def _map(self, call: Call, descriptor: int) -> Map:
        kind, number = self._object(call, descriptor)
        if kind != MAP:
            raise failed(errno.EINVAL)
        return self._answers.once(("bpf map", number), lambda: self._bpf.map_info(number))

    # --- what is attached where ---------------------------------------------------------------------------

    def _query(self, call: Call, attributes: Attributes) -> Answer:
        target, kind = struct.unpack_from("<II", attributes)
        if kind in _OF_DEVICES:
            return self._query_target(call, attributes, target)
        node = self._answers.nodes.behind(call.tid, signed32(target))
        if node is None or node.bpf is not None or node.is_host:
            raise failed(errno.EBADF)
        with self._answers.session.files.open(node.path) as file:
            return self._query_target(call, attributes, file.number)

    def _query_target(self, call: Call, attributes: Attributes, target: int) -> Answer:
        def ask(structure: bytes) -> bytes:
            answer = self._commands.command(PROG_QUERY, struct.pack("<I", target) + structure[4:])
            return structure[:4] + answer[4:]

        self._put(call, 0, self._filled(call, attributes, QUERY_ARRAYS, ask))
        return 0

    def _task(self, call: Call, attributes: Attributes) -> Answer:
        if self._places.is_itself(call, str(struct.unpack_from("<I", attributes)[0])):
            raise OSError(_ENOTSUPP, "no descriptor of the program's own has such a program")
        ask = partial(self._commands.command, TASK_QUERY)
        self._put(call, 0, self._filled(call, attributes, TASK_ARRAYS, ask))
        return 0

    def _filled(
        self, call: Call, structure: bytes, arrays: Iterable[Array], ask: Callable[[bytes], bytes]
    ) -> bytes:
        """A structure as the kernel has filled it in, its arrays, too, which are in the program's memory."""
        request = bytearray(structure)
        at = LARGE_AT
        asked: list[tuple[int, int, int, int]] = []
        for array in arrays:
            pointer, size = array.read(structure)
            if not pointer or not size:
                continue
            if at + size > LARGE_AT + LARGEST:
                raise failed(errno.E2BIG)
            vaddr = self._caller.put(call.memory.read_exactly(pointer, size), at)
            struct.pack_into("<Q", request, array.pointer_at, vaddr)
            asked.append((array.pointer_at, pointer, at, size))
            at += size + 15 & ~15
        answer = bytearray(ask(bytes(request)))
        for pointer_at, pointer, place, size in asked:
            call.memory.write(pointer, self._caller.get(place, size))
            struct.pack_into("<Q", answer, pointer_at, pointer)
        return bytes(answer)
