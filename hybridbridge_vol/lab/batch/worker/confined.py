"""What a worker's child may reach, and what the worker does for it that it may not do itself.

The child works on an image that somebody else may have made. It reads the image and the store, and writes its
tables into a folder of its own; what it has proven, and a boot that it needs, it can only ask for.
"""

from __future__ import annotations

import base64
import binascii
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hybridbridge_vol.bridge import memo_file
from hybridbridge_vol.bridge.memo_for_kernel import memo_key
from hybridbridge_vol.errors import HostLacks, MemoError
from hybridbridge_vol.lab.batch.events import Event, Learned
from hybridbridge_vol.lab.batch.worker.supervised_child import Work
from hybridbridge_vol.native.sandbox import confine, readable_for
from hybridbridge_vol.trust.placement import GUARD_HOLES
from hybridbridge_vol.trust.store import Store


def confined(work: Work, path: str, store: str | None, staging: str | None) -> Work:
    """The same work, in a process that reaches the image at `path` and what lies beside it, the store, and
    `staging`, where it writes. On a machine that cannot confine it works without, and says so."""

    def run() -> Iterator[Event]:
        tempfile.tempdir = staging
        try:
            confine(readable_for(path, Store(root_of(store)).root), [staging] if staging else [])
        except HostLacks as error:
            print(f"hb: workers are not confined: {error}", file=sys.stderr)
        yield from work()

    return run


def root_of(store: str | None) -> Path | None:
    """The store's folder as `Store` takes it."""
    return Path(store) if store else None


def keep_learned(learned: Learned, store: str | None) -> None:
    """Put a memo that a child sent into the store: of a kernel and a policy that it may be of, or not at
    all."""
    try:
        memo = memo_file.parse(base64.b64decode(learned.memo, validate=True), "a worker's memo")
    except (MemoError, binascii.Error):
        return
    for kernel in Store(root_of(store)).kernels():
        if memo.key in [memo_key(kernel, levels) for levels in GUARD_HOLES]:
            memo_file.add(kernel.folder, memo)
