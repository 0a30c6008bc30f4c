"""`hb memo` and `hb train`: what FAST-BRIDGE may run, shown, moved between machines, and learned."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridbridge_vol.errors import HybridBridgeError, MemoError
from hybridbridge_vol.progress import Progress
from hybridbridge_vol.toolkit.tool import error_text


@dataclass(frozen=True)
class MemoEntry:
    """One line of `hb memo show`."""

    kernel: str
    code_bytes: int
    ranges: int
    trusted: int
    problem: str


def show(store: Any, name: str | None) -> list[MemoEntry]:
    """The memos of all stored kernels, or of one."""
    from hybridbridge_vol.bridge import memo as memos
    from hybridbridge_vol.bridge.memo_store import memo_key
    from hybridbridge_vol.trust.placement import GUARD_HOLES

    entries = []
    for kernel in [store.find(name)] if name else store.kernels():
        for levels in GUARD_HOLES:
            shown = kernel.name if levels == 4 else f"{kernel.name} ({levels}-level page tables)"
            try:
                memo = memos.load(kernel.folder, memo_key(kernel, levels))
                if len(memo) or levels == 4:
                    entries.append(MemoEntry(shown, len(memo), *_counts(memo), ""))
            except MemoError as error:
                entries.append(MemoEntry(shown, 0, 0, 0, str(error)))
    return entries


def _counts(memo: Any) -> tuple[int, int]:
    parts = memo.parts()
    return sum(sum(1 for _range in part.ranges()) for part in parts), sum(len(part.trusted) for part in parts)


def export(store: Any, path: Path, name: str | None) -> str:
    """Write one kernel's memo to a file; its name. MemoError if it is not clear which, or if there is none.

    Of the memos for 4-level and 5-level page tables it is the larger one.
    """
    from hybridbridge_vol.bridge import memo as memos
    from hybridbridge_vol.bridge.memo_store import memo_key
    from hybridbridge_vol.trust.files import write_atomically
    from hybridbridge_vol.trust.placement import GUARD_HOLES

    found = []
    for kernel in [store.find(name)] if name else store.kernels():
        memo = max((memos.load(kernel.folder, memo_key(kernel, levels)) for levels in GUARD_HOLES), key=len)
        if len(memo):
            found.append((kernel, memo))
    if not found:
        raise MemoError("there is no memo to export: run a tool, or 'hb train DUMP'")
    if len(found) > 1:
        raise MemoError(f"{len(found)} kernels have a memo: name one with --kernel, see 'hb memo show'")
    kernel, memo = found[0]
    write_atomically(path, memo.dump())
    return str(kernel.name)


def take_in(store: Any, path: Path) -> str:
    """Add a memo file to that of its kernel; the kernel's name. MemoError if nothing fits it."""
    from hybridbridge_vol.bridge import memo as memos
    from hybridbridge_vol.bridge.memo_store import memo_key
    from hybridbridge_vol.trust.placement import GUARD_HOLES

    memo = memos.parse(path.read_bytes(), str(path))
    for kernel in store.kernels():
        if kernel.build_id != memo.key.build_id:
            continue
        if memo.key not in [memo_key(kernel, levels) for levels in GUARD_HOLES]:
            ours = memo_key(kernel).policy
            raise MemoError(f"{path}: made for another policy ({memo.key.policy}); this program uses {ours}")
        if not memos.add(kernel.folder, memo):
            raise MemoError(f"{kernel.folder}: cannot be written")
        return str(kernel.name)
    raise MemoError(
        f"{path}: its kernel {memo.key.release or memo.key.build_id} is not stored; 'hb trust add' it first"
    )


def clear(store: Any, name: str | None) -> list[str]:
    """Remove the memos of all stored kernels, or of one, of whatever version; the kernels' names."""
    cleared = []
    for kernel in [store.find(name)] if name else store.kernels():
        for path in kernel.folder.glob("memo-*"):
            path.unlink()
            cleared.append(kernel.name)
    return list(dict.fromkeys(cleared))


def memo_show_command(args: argparse.Namespace) -> int:
    """hb memo show [NAME]"""
    from hybridbridge_vol.cli.report import write_records

    write_records(show(_store(args), args.name), getattr(args, "format", "text"), sys.stdout, details=())
    return 0


def memo_export_command(args: argparse.Namespace) -> int:
    """hb memo export FILE"""
    print(f"{export(_store(args), Path(args.file), args.kernel)}: exported to {args.file}")
    return 0


def memo_import_command(args: argparse.Namespace) -> int:
    """hb memo import FILE…"""
    return _each(args.files, lambda path: f"{take_in(_store(args), Path(path))}: {path} added")


def memo_clear_command(args: argparse.Namespace) -> int:
    """hb memo clear [NAME]"""
    for name in clear(_store(args), args.name):
        print(f"{name}: memo removed")
    return 0


def train_command(args: argparse.Namespace) -> int:
    """hb train DUMP…"""
    from hybridbridge_vol.workflow.train import train

    def one(path: str) -> str:
        with Progress() as progress:
            total = train(path, Path(args.store) if hasattr(args, "store") else None, progress).total
        return f"{path}: {total.traps} traps, {total.memoized} instructions newly proven"

    return _each(args.dumps, one)


def _each(paths: list[str], work: Callable[[str], str]) -> int:
    """Each file on its own, so that one bad file does not keep the others out."""
    from hybridbridge_vol.cli.main import complain

    status = 0
    for path in paths:
        try:
            print(work(path))
        except (HybridBridgeError, OSError) as error:
            complain(error_text(error, path))
            status = 1
    return status


def _store(args: argparse.Namespace) -> Any:
    from hybridbridge_vol.trust.store import Store

    return Store(Path(args.store) if hasattr(args, "store") else None)
