"""The memos of stored kernels: how much is proven, written to a file, merged from one, removed.

A kernel has one memo for 4-level and one for 5-level page tables, because its text differs between the two
(alternatives).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.bridge.memo import Memo
from hybridbridge_vol.bridge.memo_for_kernel import memo_key
from hybridbridge_vol.errors import MemoError
from hybridbridge_vol.trust.files import write_atomically
from hybridbridge_vol.trust.placement import GUARD_HOLES
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.trust.stored_kernel import StoredKernel

_MEMO_FILES = "memo-*"
"""The memos of a stored kernel, of every format and policy (`bridge.memo.memo_path`)."""


@dataclass(frozen=True)
class MemoEntry:
    """The memo of one kernel: bytes of proven code, ranges that they form, static references that are
    redirected to trusted data, and what is wrong with the file."""

    kernel: str
    code_bytes: int
    ranges: int
    trusted: int
    problem: str


def summarise(store: Store, name: str | None) -> list[MemoEntry]:
    """The memos of all stored kernels, or of one. A memo for 5-level page tables is listed if it is not
    empty."""
    entries = []
    for kernel in _chosen(store, name):
        for levels in GUARD_HOLES:
            shown = kernel.name if levels == 4 else f"{kernel.name} ({levels}-level page tables)"
            try:
                memo = _load(kernel, levels)
            except MemoError as error:
                entries.append(MemoEntry(shown, 0, 0, 0, str(error)))
                continue
            if len(memo) or levels == 4:
                entries.append(_entry(shown, memo))
    return entries


def _entry(shown: str, memo: Memo) -> MemoEntry:
    ranges = sum(1 for part in memo.parts() for _range in part.ranges())
    trusted = sum(len(part.trusted) for part in memo.parts())
    return MemoEntry(shown, len(memo), ranges, trusted, "")


def export_memo(store: Store, path: Path, name: str | None) -> str:
    """Write the memo of one kernel to a file and return the kernel's name. Of the memos for 4-level and
    5-level page tables the larger one is written.

    MemoError if no kernel has a memo, or if several have one and `name` is None.
    """
    found = []
    for kernel in _chosen(store, name):
        memo = max((_load(kernel, levels) for levels in GUARD_HOLES), key=len)
        if len(memo):
            found.append((kernel, memo))
    if not found:
        raise MemoError("there is no memo to export: run a tool, or 'hb train DUMP'")
    if len(found) > 1:
        raise MemoError(f"{len(found)} kernels have a memo: choose one with --kernel, see 'hb memo show'")
    kernel, memo = found[0]
    write_atomically(path, memo_file.dump(memo))
    return kernel.name


def import_memo(store: Store, path: Path) -> str:
    """Merge a memo file into the memo of its kernel and return the kernel's name. MemoError if the file is
    damaged, or made for a kernel or a policy that is not here."""
    memo = memo_file.parse(path.read_bytes(), str(path))
    for kernel in store.kernels():
        if kernel.build_id != memo.key.build_id:
            continue
        if memo.key not in [memo_key(kernel, levels) for levels in GUARD_HOLES]:
            ours = memo_key(kernel).policy
            raise MemoError(f"{path}: made for another policy ({memo.key.policy}); this program uses {ours}")
        if not memo_file.add(kernel.folder, memo):
            raise MemoError(f"{kernel.folder}: cannot be written")
        return kernel.name
    raise MemoError(
        f"{path}: its kernel {memo.key.release or memo.key.build_id} is not stored; 'hb trust add' it first"
    )


def clear(store: Store, name: str | None) -> list[str]:
    """Remove the memos of all stored kernels, or of one, of every version; the names of the kernels that had
    one."""
    cleared = []
    for kernel in _chosen(store, name):
        for path in kernel.folder.glob(_MEMO_FILES):
            path.unlink()
            cleared.append(kernel.name)
    return list(dict.fromkeys(cleared))


def _chosen(store: Store, name: str | None) -> list[StoredKernel]:
    return [store.find(name)] if name else store.kernels()


def _load(kernel: StoredKernel, levels: int) -> Memo:
    return memo_file.load(kernel.folder, memo_key(kernel, levels))
