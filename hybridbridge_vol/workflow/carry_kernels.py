"""Trusted kernels in one file, to carry them to a machine without a network.

The file is a tar: first a manifest, then for each kernel its vmlinuz, its modules and its memos, and a
System.map where the kernel does not name its variables itself, each with its SHA-256 in the manifest. Booted
states are not carried: their layouts are a secret of the machine that made them, and the kernel is booted
again in some seconds. The sums find damage, not a forger: whoever imports trusts who exported, as with a
package.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.bridge.memo_for_kernel import memo_key
from hybridbridge_vol.check.modules import module_store
from hybridbridge_vol.errors import HybridBridgeError, KernelFileError, MemoError, StoreError
from hybridbridge_vol.kernel_file.archives.member import Member
from hybridbridge_vol.kernel_file.archives.streams import MAX_MEMBER_SIZE, damage_errors
from hybridbridge_vol.kernel_file.archives.tar import tar_members
from hybridbridge_vol.kernel_file.kallsyms import find_symbols
from hybridbridge_vol.kernel_file.loading import load_kernel
from hybridbridge_vol.trust import modules
from hybridbridge_vol.trust.placement import GUARD_HOLES
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.trust.stored_kernel import StoredKernel
from hybridbridge_vol.units import Progress, part_of
from hybridbridge_vol.workflow.memos import import_memo
from hybridbridge_vol.workflow.trust_kernel import enroll

FORMAT = 1
_MANIFEST = "hybridbridge-kernels.json"
_VMLINUZ = "vmlinuz"
_MEMOS = tuple(f"memo-{levels}" for levels in GUARD_HOLES)
_MAP = "System.map"
_FILES = (_VMLINUZ, modules.ARCHIVE, _MAP, *_MEMOS)
"""The files of one kernel, by their names in the tar."""
_MAX_KERNELS = 1 << 10
_MAX_MANIFEST = 4 << 20
_MAX_MODULES = 1 << 16
"""Distributions' kernels have up to 7,000."""
_TAR_MAGIC_OFFSET, _TAR_MAGIC = 257, b"ustar"


class Carried(NamedTuple):
    """One kernel of a file: its name in the store that it came from, and (bytes, SHA-256) of its files."""

    name: str
    files: dict[str, tuple[int, str]]


def export_kernels(store: Store, names: Iterable[str], path: Path) -> list[str]:
    """Write the kernels of these names (as for `Store.find`) to a file, which appears when it is whole; their
    full names. StoreError."""
    kernels = list({kernel.name: kernel for kernel in map(store.find, names)}.values())
    contents = {kernel.name: _contents(kernel) for kernel in kernels}
    manifest = {
        "format": FORMAT,
        "kernels": [
            {"name": name, "files": {each: [len(data), _sum(data)] for each, data in files.items()}}
            for name, files in contents.items()
        ],
    }
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as archive:
                _put(archive, _MANIFEST, json.dumps(manifest).encode())
                for name, files in contents.items():
                    for each, data in files.items():
                        _put(archive, f"{name}/{each}", data)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from None
    return list(contents)


def _contents(kernel: StoredKernel) -> dict[str, bytes]:
    """What is carried of a kernel. StoreError if its file cannot be read."""
    found = {}
    for name in (_VMLINUZ, modules.ARCHIVE):
        path = kernel.folder / name
        try:
            found[name] = path.read_bytes()
        except FileNotFoundError:
            if name == _VMLINUZ:
                raise StoreError(f"{path}: missing; add the kernel again with 'hb trust add'") from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
    if not _names_its_variables(found[_VMLINUZ], kernel.name):
        lines = (f"{vaddr:016x} {kind} {name}\n" for vaddr, kind, name in kernel.symbols)
        found[_MAP] = "".join(lines).encode("latin-1")
    for name, levels in zip(_MEMOS, GUARD_HOLES, strict=True):
        try:
            memo = memo_file.load(kernel.folder, memo_key(kernel, levels))
        except MemoError:
            continue  # everything in it can be proven again
        if len(memo):
            found[name] = memo_file.dump(memo)
    return found


def _names_its_variables(vmlinuz: bytes, name: str) -> bool:
    """Whether a kernel's own table is whole (CONFIG_KALLSYMS_ALL). If not, symbols were given with it. Raises
    KernelFileError."""
    loaded = load_kernel(vmlinuz, name)
    try:
        own = loaded.symbols or find_symbols(loaded.flat(), loaded.start_vaddr, name)
    except KernelFileError:
        return False
    return "_end" in own


def _put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(data), 0o600
    archive.addfile(header, io.BytesIO(data))


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def import_kernels(store: Store, path: Path, progress: Progress | None = None) -> list[str]:
    """Take in every kernel of a file that `export_kernels` wrote; their names in the store.

    Nothing is added before the whole file has been read and compared with its sums; then one kernel after
    the other appears in the store as a whole. StoreError if the file is damaged or not such a file; raises
    as `enroll`.
    """
    folder = store.temporary_folder()
    try:
        carried = _unpack(path, folder)
        added = []
        for number, kernel in enumerate(carried):
            part = part_of(progress, number / len(carried), (number + 1) / len(carried))
            try:
                added.append(_add(store, folder / str(number), part))
            except KernelFileError as error:
                raise KernelFileError(f"{path}: {kernel.name}: {error}") from None
        return added
    except OSError as error:
        raise StoreError(f"{path}: cannot be read or unpacked ({error.strerror or error})") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _add(store: Store, folder: Path, progress: Progress | None) -> str:
    symbols = folder / _MAP
    entry = enroll(store, folder / _VMLINUZ, progress, symbols=symbols if symbols.exists() else None)
    kernel = store.find(entry.name)
    if not modules.names(kernel.folder):
        modules.move(folder, kernel.folder)
        module_store.link_all(kernel.folder)
    for name in _MEMOS:
        if (folder / name).exists():
            try:
                import_memo(store, folder / name)
            except MemoError:
                continue  # made for another policy: it is proven again
    return entry.name


def _unpack(path: Path, folder: Path) -> tuple[Carried, ...]:
    """The kernels of a file, each unpacked into the folder of its number. StoreError, OSError."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(_TAR_MAGIC_OFFSET + len(_TAR_MAGIC))
            if not head.startswith(_MANIFEST.encode()) or not head.endswith(_TAR_MAGIC):
                raise StoreError(f"{path}: not a file that 'hb trust export' wrote")
            stream.seek(0)
            return _checked(stream, folder)
    except HybridBridgeError:
        raise
    except damage_errors() as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"{path}: cannot be used ({reason}); nothing was added, export it again") from None


def _checked(stream: IO[bytes], folder: Path) -> tuple[Carried, ...]:
    """Unpack and compare with the sums. ValueError and EOFError if anything is not as the manifest says."""
    expected: dict[str, tuple[Path, int, str]] = {}

    def wanted(name: str) -> bool:
        if name == _MANIFEST or name in expected:
            return True
        raise ValueError(f"a file that its manifest does not name: {name[:80]!r}")

    kernels: tuple[Carried, ...] = ()
    for number, member in enumerate(tar_members(stream, wanted, plain_only=True)):
        if number == 0:
            kernels = _manifest(member)
            for index, kernel in enumerate(kernels):
                (folder / str(index)).mkdir()
                for name, (size, digest) in kernel.files.items():
                    expected[f"{kernel.name}/{name}"] = (folder / str(index) / name, size, digest)
            continue
        if member.name not in expected:
            raise ValueError("a second manifest")
        target, size, digest = expected.pop(member.name)
        if len(member.data) != size or _sum(member.data) != digest:
            raise ValueError(f"the sum of {member.name} differs")
        if target.name == modules.ARCHIVE:
            _check_modules(member.data)
        target.write_bytes(member.data)
    if expected:
        raise EOFError(f"{next(iter(expected))} is missing")
    return kernels


def _manifest(member: Member) -> tuple[Carried, ...]:
    if member.name != _MANIFEST or len(member.data) > _MAX_MANIFEST:
        raise ValueError("no manifest at its beginning")
    try:
        record = json.loads(member.data)
        if record["format"] != FORMAT:
            raise ValueError(f"written in format {record['format']}; this version reads {FORMAT}")
        kernels = tuple(map(_carried, record["kernels"]))
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("its manifest makes no sense") from None
    if not 0 < len(kernels) <= _MAX_KERNELS or len({kernel.name for kernel in kernels}) < len(kernels):
        raise ValueError("its manifest makes no sense")
    return kernels


def _carried(record: dict[str, Any]) -> Carried:
    name, files = record["name"], record["files"]
    is_sound = re.fullmatch(r"[\w.+~-]{1,200}", name) and _VMLINUZ in files and set(files) <= set(_FILES)
    if not is_sound or not all(0 <= size <= MAX_MEMBER_SIZE for size, _digest in files.values()):
        raise ValueError("its manifest makes no sense")
    return Carried(name, {each: (size, digest) for each, (size, digest) in files.items()})


def _check_modules(data: bytes) -> None:
    """Modules are read one by one when they are needed: that all are where the table says is known before."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > _MAX_MODULES or archive.testzip() is not None:
                raise ValueError("its modules are damaged")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        raise ValueError("its modules are damaged") from None
    if any(each.compress_type != zipfile.ZIP_STORED or each.file_size > len(data) for each in entries):
        raise ValueError("its modules are not as they are stored")
