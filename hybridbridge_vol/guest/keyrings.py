"""The keys that the snapshot's kernel keeps (Documentation/security/keys/core.rst): what keyctl(2) says, and
payloads that it gives to nobody but the kernel.

/proc/keys and keyctl(2) show a user only what its own permissions allow, root included. The proxy task asks
as each of them: setfsuid(2) changes what the permissions are held against (security/keys/permission.c,
`key_task_permission`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator

from hybridbridge_vol.errors import kernel_error, pointer_error
from hybridbridge_vol.guest.proxy_calls import BUFFER_AT, ProxyCalls
from hybridbridge_vol.units import U64

_DESCRIBE, _READ = 6, 11
"""KEYCTL_*, include/uapi/linux/keyctl.h."""
MAX_PAYLOAD = 64 << 10
"""Bytes: a big_key may be larger than any other (security/keys/keyctl.c, 1 MiB - 1)."""
_READERS = {
    "user": "user_read", "logon": "user_read", "dns_resolver": "dns_resolver_read", "big_key": "big_key_read",
    "encrypted": "encrypted_read", "id_resolver": "user_read", "cifs.spnego": "user_read",
    "ceph": "ceph_key_read",
}  # fmt: skip
"""The `read` functions of types. A type without one has none that reads; logon keys have the payload of user
keys (security/keys/user_defined.c)."""


class SnapshotKeyrings:
    """Implements `guest.kernel_objects.Keyrings`."""

    def __init__(self, proxy: ProxyCalls) -> None:
        self._proxy = proxy

    @contextlib.contextmanager
    def as_user(self, uid: int) -> Iterator[None]:
        """What is asked inside of the block is asked with a user's rights. Afterwards all is as before: the
        credentials that setfsuid(2) makes lack what the snapshot's security modules would look for, and no
        file is to be opened with them."""
        self._proxy.raw("setfsuid", uid)
        try:
            yield
        finally:
            self._proxy.caller.roll_back()

    def describe(self, serial: int) -> tuple[str, str]:
        """The type and the description of a key, uncut. OSError, CallRolledBack."""
        words = self._ask(_DESCRIBE, serial).rstrip(b"\0").split(b";", 4)
        if len(words) < 5:
            raise OSError(errno.EIO, "a description of another form", f"key {serial:08x}")
        return os.fsdecode(words[0]), os.fsdecode(words[4])

    def members(self, serial: int) -> list[int]:
        """The serial numbers of the keys in a keyring. OSError, CallRolledBack."""
        data = self._ask(_READ, serial)
        return list(struct.unpack(f"<{len(data) // 4}I", data[: len(data) & -4]))

    def payload(self, serial: int, kind: str) -> bytes:
        """What a key of a type holds, whoever may read it. OSError, CallRolledBack."""
        source = f"key {serial:08x}"
        reader = _READERS.get(kind)
        if reader is None:
            raise OSError(errno.EOPNOTSUPP, "a type whose payload has no form to be shown in", source)
        try:
            key = self._proxy.function("key_lookup", serial) & U64
            if (wrong := pointer_error(key, source)) is not None:
                raise wrong
            count = self._proxy.function(reader, key, self._proxy.buffer(), MAX_PAYLOAD)
        except KeyError as error:
            raise OSError(errno.EOPNOTSUPP, f"this kernel has no symbol {error}", source) from None
        if count < 0:
            raise kernel_error(count, source)
        return self._proxy.caller.get(BUFFER_AT, min(count, MAX_PAYLOAD))

    def _ask(self, operation: int, serial: int) -> bytes:
        buffer = self._proxy.buffer()
        source = f"key {serial:08x}"
        count = self._proxy.checked(source, "keyctl", operation, serial, buffer, MAX_PAYLOAD, side="twin")
        return self._proxy.caller.get(BUFFER_AT, min(count, MAX_PAYLOAD))
