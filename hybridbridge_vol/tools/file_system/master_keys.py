"""Master keys of encrypted directories (fscrypt): those that a program has added to a file system.

The kernel gives them to nobody. They are read by the names of their fields: since Linux 6.1 each superblock
has a table of its own (`struct fscrypt_keyring`), before that they are keys of a type of their own in a
keyring, which /proc/keys lists (fs/crypto/keyring.c, fscrypt_private.h).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from hybridbridge_vol.bridge.objects.list_ends import Broken
from hybridbridge_vol.bridge.objects.typed_memory import TypedMemory
from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.toolkit.cells import Unavailable

MAX_KEYS = 1 << 16
"""Master keys of one file system."""
MAX_KEY_SIZE = 128
"""Bytes; FSCRYPT_MAX_KEY_SIZE is 64, a key that hardware has wrapped may have 128."""
_BY_DESCRIPTOR, _BY_IDENTIFIER = 1, 2
"""FSCRYPT_KEY_SPEC_TYPE_*, include/uapi/linux/fscrypt.h: of policies of version 1 and 2."""
_NAME_SIZES = {_BY_DESCRIPTOR: 8, _BY_IDENTIFIER: 16}
_FINDER = "fscrypt_find_master_key"
"""A function of kernels whose superblocks have such tables."""
_MASTER_KEY, _KEYRING = "fscrypt_master_key", "fscrypt_keyring"


class MasterKey(NamedTuple):
    """A master key. `name`: its descriptor (of policies of version 1) or identifier (version 2)."""

    file_system: str
    version: int
    name: bytes
    payload: bytes | Unavailable

    @property
    def description(self) -> str:
        """What it is, in words, without the key."""
        kind = "descriptor" if self.version == 1 else "identifier"
        return f"{self.file_system}, policies of version {self.version}, {kind} {self.name.hex()}"


class MasterKeys:
    """Those of one snapshot."""

    def __init__(self, kernel: GuestKernel) -> None:
        self._kernel = kernel

    @cached_property
    def _memory(self) -> TypedMemory:
        """Made once: all of the kernel's types are looked through for it."""
        return TypedMemory(self._kernel.bridge)

    def of_file_systems(self) -> Iterator[MasterKey | Unavailable]:
        """The master keys that superblocks hold, and why some may be missing. None on kernels before 6.1,
        whose keyrings hold them, and on those without fscrypt."""
        try:
            if _FINDER not in self._kernel.bridge.kernel.symbols or not self._memory.types.has(_KEYRING):
                return
            for block in self._memory.list(self._memory.ring("super_blocks"), "super_block", "s_list"):
                yield from _of_superblock(self._memory, block)
        except (*Broken, HybridBridgeError, LookupError) as error:
            yield Unavailable(f"master keys of fscrypt: {error}")

    def payload_of(self, serial: int) -> bytes | Unavailable:
        """What a master key in a keyring holds, by its serial number."""
        try:
            memory = self._memory
            for key in memory.tree(memory.symbol("key_serial_tree"), "key", "serial_node"):
                if memory.get(key, "key", "serial") == serial:
                    master = memory.word(memory.at(key, "key", "payload.data"))
                    return _payload(memory, master, memory.get(master, _MASTER_KEY, "mk_spec.type"))
        except (*Broken, HybridBridgeError, LookupError) as error:
            return Unavailable(f"key {serial:08x}: {error}")
        return Unavailable(f"key {serial:08x}: not in the tree of keys")


def _of_superblock(memory: TypedMemory, block: int) -> Iterator[MasterKey | Unavailable]:
    where = f"superblock at {block:#x}"
    try:
        table = memory.get(block, "super_block", "s_master_keys")
        if not table:
            return
        where = _file_system(memory, block)
        for number, key in enumerate(_in_table(memory, table)):
            if number == MAX_KEYS:
                yield Unavailable(f"{where}: given up after {MAX_KEYS:,} master keys")
                return
            yield _master_key(memory, where, key)
    except Broken as error:
        yield Unavailable(f"master keys of {where}: {error}")


def _in_table(memory: TypedMemory, table: int) -> Iterator[int]:
    heads = memory.at(table, _KEYRING, "key_hashtable")
    for number in range(memory.types.count(_KEYRING, "key_hashtable")):
        yield from memory.hlist(heads + 8 * number, _MASTER_KEY, "mk_node")


def _file_system(memory: TypedMemory, block: int) -> str:
    kind = memory.get(block, "super_block", "s_type")
    name = memory.text(memory.get(kind, "file_system_type", "name")) if kind else "?"
    return f"{name} on {memory.name(block, 'super_block', 's_id')}"


def _master_key(memory: TypedMemory, where: str, key: int) -> MasterKey | Unavailable:
    kind = memory.get(key, _MASTER_KEY, "mk_spec.type")
    size = _NAME_SIZES.get(kind)
    if size is None:
        return Unavailable(f"{where}: a master key at {key:#x} has a name of no known type ({kind})")
    name = memory.read(memory.at(key, _MASTER_KEY, "mk_spec.u"), size)
    return MasterKey(where, kind, name, _payload(memory, key, kind))


def _payload(memory: TypedMemory, key: int, kind: int) -> bytes | Unavailable:
    secret = "mk_secret"
    size = memory.get(key, _MASTER_KEY, f"{secret}.size")
    if not size:
        return Unavailable("the key was removed; files that were open then are still readable")
    if size > MAX_KEY_SIZE:
        return Unavailable(f"a key of {size} bytes: at most {MAX_KEY_SIZE} are lawful")
    field = "bytes" if memory.types.has(_MASTER_KEY, f"{secret}.bytes") else "raw"
    data = memory.read(memory.at(key, _MASTER_KEY, f"{secret}.{field}"), size)
    if not any(data) and kind == _BY_IDENTIFIER:
        return Unavailable("the kernel keeps what it derives from this key, and wiped the key itself")
    return data
