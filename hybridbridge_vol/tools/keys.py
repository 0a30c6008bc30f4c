"""keys: what the kernel keeps in keyrings, and the keys of encrypted disks, directories and kernel TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from errno import ENODEV, ENOENT, ENXIO
from typing import TYPE_CHECKING, NamedTuple

from hybridbridge_vol.guest.kernel import GuestKernel
from hybridbridge_vol.guest.values import Target
from hybridbridge_vol.procfs.keys import Key, key_owners, parse_key
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.toolkit.cells import Cell, Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, attempt, read_lines, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.file_system.accounts import USER, Accounts

if TYPE_CHECKING:
    from hybridbridge_vol.tools.file_system.master_keys import MasterKey, MasterKeys
    from hybridbridge_vol.tools.network.tls_keys import TlsKey

_KEYS, _OWNERS = "/proc/keys", "/proc/key-users"
MAX_USERS = 4096
"""Users whose keys are asked for."""
_WITHOUT_PAYLOAD = frozenset("RDNUi")
"""Flags of keys that hold nothing, or nothing yet."""
_KINDS_WITHOUT_PAYLOAD = ("keyring", "asymmetric", ".fscrypt")
"""The last says who has added a master key of fscrypt (fs/crypto/keyring.c)."""
_MASTER_KEY = "._fscrypt"
"""Master keys of fscrypt, where they are keys in a keyring (before Linux 6.1)."""
_HIDDEN = "-"
"""How dm-crypt names a key that it does not show (drivers/md/dm-crypt.c)."""


class _Found(NamedTuple):
    key: Key
    source: Source
    kind: str
    description: str
    members: list[int]
    """Serial numbers of the keys in a keyring."""


class Keys(Tool):
    name = "keys"
    help = "Keys in keyrings, of encrypted disks, directories and TLS; with --secrets what they hold"
    notes = (
        "Lists /proc/keys as each user sees it that has keys: root's view lacks what others may see only. "
        "With --secrets also what keys hold, logon keys too, which the kernel gives to no program; and the "
        "master keys of dm-crypt, by the device mapper's own table (`dmsetup table --showkeys`), type "
        "dm-crypt; those of encrypted directories (fscrypt), type fscrypt, or ._fscrypt in a keyring before "
        "Linux 6.1 (of policies of version 2, which are usual, the kernel wipes the key itself); and what "
        "encrypts the connections that the kernel itself encrypts (kernel TLS), for each "
        "direction of each socket that a process holds, by getsockopt(2), type kTLS: the key, the salt, the "
        "initialization vector, and the number of the next record. A key that is revoked or expired may hold "
        "nothing any more. Certificates are listed "
        "without their content."
    )
    example = "--secrets"
    options = (Option("secrets", bool, "also show what the keys hold"),)
    columns = (
        Column("SERIAL", "str", "serial number, as keyctl shows it in hexadecimal"),
        Column("TYPE", "str", "type of key: keyring, user, logon, asymmetric ...; dm-crypt, fscrypt, kTLS"),
        Column(
            "DESCRIPTION", "str",
            "its name; of dm-crypt the device, of fscrypt the file system, of kTLS the socket and who has it",
        ),
        Column("UID", "int", "owner"),
        USER,
        Column(
            "FLAGS", "str",
            "I instantiated, R revoked, D dead, Q quota, U under construction, N negative, i invalidated",
        ),
        Column("EXPIRES", "str", "time that is left: perm for ever, expd none"),
        Column("PERM", "hex", "permissions of possessor, user, group, others: a byte each"),
        Column("USES", "int", "references to it"),
        Column("KEYRINGS", "str", "the keyrings that it is in"),
    )  # fmt: skip

    def columns_for(self, options: Options) -> tuple[Column, ...]:
        if not options["secrets"]:
            return self.columns
        return (*self.columns, Column("PAYLOAD", "str", "what it holds: text, or hexadecimal"))

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        # Volatility imports every tool to list its options
        from hybridbridge_vol.tools.file_system.master_keys import MasterKeys
        from hybridbridge_vol.tools.network.tls_keys import tls_keys

        masters = MasterKeys(kernel)
        accounts = Accounts(kernel.files)
        found, errors = _listed(kernel)
        rings: dict[int, list[str]] = {}
        for item in found.values():
            for serial in item.members:
                rings.setdefault(serial, []).append(f"{item.description} ({item.key.serial:08x})")
        for item in found.values():
            key = item.key
            cells: tuple[Cell, ...] = (
                f"{key.serial:08x}", item.kind, item.description, key.uid, accounts.user_cell(key.uid),
                key.flags, key.expires, key.permissions, key.usage,
                ", ".join(rings.get(key.serial, [])) or None,
            )  # fmt: skip
            if options["secrets"]:
                cells = (*cells, _payload(kernel, item, masters))
            yield Row(cells, sources=(item.source,))
        width = len(self.columns_for(options))
        yield from (Row((error,) * width) for error in errors)
        yield from _disks(kernel, options["secrets"], width)
        for master in masters.of_file_systems():
            if isinstance(master, Unavailable):
                yield Row((master,) * width)
            else:
                yield _directory(master, options["secrets"])
        for held in tls_keys(kernel):
            yield Row((held,) * width) if isinstance(held, Unavailable) else _socket(held, options["secrets"])


def _listed(kernel: GuestKernel) -> tuple[dict[int, _Found], list[Unavailable]]:
    """The keys by serial number, as root and then as every other user with keys sees them."""
    found: dict[int, _Found] = {}
    errors: list[Unavailable] = []
    data, gap = read_lines(kernel.files, _OWNERS)
    owners = attempt(_OWNERS, lambda: key_owners(data))
    errors += [gap] if gap else []
    if isinstance(owners, Unavailable):
        errors.append(owners)
        owners = []
    for uid in [0, *(uid for uid in owners[:MAX_USERS] if uid)]:
        try:
            with kernel.keyrings.as_user(uid) if uid else nullcontext():
                data, gap = read_lines(kernel.files, _KEYS)
                errors += [Unavailable(f"{gap.reason}, as user {uid}")] if gap else []
                for line, source in lines(_KEYS, data):
                    key = parse_key(line)
                    if key.serial not in found:
                        found[key.serial] = _found(kernel, key, source)
        except UNREADABLE as error:
            errors.append(why(f"{_KEYS} as user {uid}", error))
    return found, errors


def _found(kernel: GuestKernel, key: Key, source: Source) -> _Found:
    try:
        kind, description = kernel.keyrings.describe(key.serial)
    except UNREADABLE:
        kind, description = key.type, key.description.rpartition(": ")[0] or key.description
    members: list[int] = []
    if kind == "keyring":
        with suppress(*UNREADABLE):
            members = kernel.keyrings.members(key.serial)
    return _Found(key, source, kind, description, members)


def _payload(kernel: GuestKernel, item: _Found, masters: MasterKeys) -> Cell:
    if item.kind in _KINDS_WITHOUT_PAYLOAD or _WITHOUT_PAYLOAD.intersection(item.key.flags):
        return None
    if item.kind == _MASTER_KEY:
        held = masters.payload_of(item.key.serial)
        return held if isinstance(held, Unavailable) else held.hex()
    data = attempt(f"key {item.key.serial:08x}", lambda: kernel.keyrings.payload(item.key.serial, item.kind))
    return data if isinstance(data, Unavailable) else _shown(data)


def _shown(data: bytes) -> str:
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return data.hex()
    return text if text.isprintable() else data.hex()


def _disks(kernel: GuestKernel, secrets: bool, width: int) -> Iterator[Row]:
    """The rows about dm-crypt."""
    try:
        for target in kernel.device_mapper.targets():
            if target.kind == "crypt":
                yield _disk(target, secrets)
    except UNREADABLE as error:
        if not isinstance(error, OSError) or error.errno not in (ENOENT, ENODEV, ENXIO):
            yield Row((why("the device mapper", error),) * width)


def _disk(target: Target, secrets: bool) -> Row:
    """`CIPHER KEY IV_OFFSET DEVICE OFFSET ...` (Documentation/admin-guide/device-mapper/dm-crypt.rst)."""
    words = target.parameters.split(" ")
    cipher, key, device = words[0], words[1] if len(words) > 1 else "", words[3] if len(words) > 3 else "?"
    description = f"/dev/mapper/{target.device}: {cipher} on {device}"
    if key.startswith(":"):
        description += f", key {key}"
    cells: tuple[Cell, ...] = (None, "dm-crypt", description, *[None] * 7)
    if secrets:
        held: Cell = key
        if key in ("", _HIDDEN):
            held = Unavailable("the table does not have the key")
        cells = (*cells, held)
    return Row(cells)


def _directory(key: MasterKey, secrets: bool) -> Row:
    cells: tuple[Cell, ...] = (None, "fscrypt", key.description, *[None] * 7)
    held = key.payload if isinstance(key.payload, Unavailable) else key.payload.hex()
    return Row((*cells, held) if secrets else cells)


def _socket(key: TlsKey, secrets: bool) -> Row:
    cells: tuple[Cell, ...] = (None, "kTLS", key.description, *[None] * 7)
    return Row((*cells, key.payload) if secrets else cells)


TOOL = Keys()
