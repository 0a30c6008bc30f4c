"""What all commands share towards the user: exit statuses, messages on standard error, common options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hybridbridge_vol.errors import BootNeeded, HybridBridgeError, KernelNotStored, error_text

if TYPE_CHECKING:
    from pathlib import Path

    from hybridbridge_vol.cli.sandbox import OutsideBoots
    from hybridbridge_vol.guest.session import Session
    from hybridbridge_vol.progress import Progress
    from hybridbridge_vol.trust.store import Store

OK, FAILED, WRONG_USAGE, PARTIAL, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141
"""Exit statuses. `hb regress verify` has its own meaning for 1 and 2, as `diff` has."""

EXIT_STATUSES = (
    (OK, "the answer is complete"),
    (FAILED, "an error; one line on standard error says what and how to go on"),
    (WRONG_USAGE, "the command line cannot be understood"),
    (PARTIAL, "some rows, files or images could not be read; each says why"),
    (INTERRUPTED, "interrupted"),
    (PIPE_CLOSED, "the reader of the output has gone"),
)


def complain(text: str) -> None:
    """Write one line to standard error."""
    from hybridbridge_vol.toolkit.printable import printable

    print(printable(f"hb: {text}"), file=sys.stderr)


def for_each(paths: Iterable[str], work: Callable[[str], str]) -> int:
    """Do the work for each path and print the line it returns. A bad file costs an error message, not the
    files that follow. Returns the exit status."""
    status = OK
    for path in paths:
        try:
            print(work(path))
        except (HybridBridgeError, OSError) as error:
            complain(error_text(error, path))
            status = FAILED
    return status


def format_of(args: argparse.Namespace) -> str:
    """The output format that was asked for."""
    chosen: str = getattr(args, "format", "text")
    return chosen


def store_root(args: argparse.Namespace) -> Path | None:
    """The directory of trusted kernels that was asked for; None: the user's own."""
    from pathlib import Path

    return Path(args.store) if hasattr(args, "store") else None


def kernel_at(args: argparse.Namespace) -> int | None:
    """The physical address of the kernel that was asked for; None: the one that ran."""
    chosen: int | None = getattr(args, "kernel_at", None)
    return chosen


def root_of(args: argparse.Namespace) -> int | None:
    """The process from whose root directory files are seen; None: the one as which the guest is asked."""
    chosen: int | None = getattr(args, "root_of", None)
    return chosen


def opened(
    args: argparse.Namespace, progress: Progress, mode: str = "auto", boots: OutsideBoots | None = None
) -> Session:
    """A session on the image that was named, as its options say. Raises as `open_session`. A kernel that is
    not stored is fetched with `--fetch`, or if somebody at a terminal wants it; one that must be booted once
    more is by `boots`, where this process cannot store that."""
    from hybridbridge_vol.guest.session import open_session

    def attempt() -> Session:
        return open_session(
            args.dump,
            store=store_root(args),
            progress=progress,
            mode=mode,
            ns_of=getattr(args, "ns_of", None),
            kernel_at=kernel_at(args),
            root_of=root_of(args),
        )

    try:
        return attempt()
    except BootNeeded as error:
        if boots is None or not boots.boot(error):
            raise
        return attempt()
    except KernelNotStored as error:
        progress.clear()
        if not (hasattr(args, "fetch") or _agreed(error.banner, hasattr(args, "sandbox"))):
            raise
        banner = error.banner
    from hybridbridge_vol.workflow.trust_get import trust_banner

    gotten = trust_banner(open_store(args), banner, progress, args.dump)
    progress.clear()
    complain(str(gotten))
    return attempt()


def _agreed(banner: str, sandboxed: bool) -> bool:
    """Whether somebody at a terminal, who is asked, wants the kernel fetched. Nobody is asked where its
    banner names no package, or where nothing can be fetched."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or sandboxed:
        return False
    from hybridbridge_vol.snapshot.kernel_origin import origin_of
    from hybridbridge_vol.toolkit.printable import printable

    origin = origin_of(banner)
    if origin is None:
        return False
    question = f"no trusted kernel for {origin.release}; fetch {origin.packages[0]} ({origin.distribution})?"
    print(printable(f"hb: {question} [y/N] "), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def open_store(args: argparse.Namespace) -> Store:
    """The store of trusted kernels."""
    from hybridbridge_vol.trust.store import Store

    return Store(store_root(args))
