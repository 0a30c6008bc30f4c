"""A guest, and its memory at an earlier moment: an image that is taken while the machine runs has pages of
both."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from benchmarks.hostile.reads import replaced
from samples import qemu
from samples.make import Spec, make_sample

EVERY_SECONDS = 10.0
"""Between two copies of the guest's memory: the last but one is the earlier moment."""


def make_moments(spec: Spec, folder: Path) -> tuple[Path, Path]:
    """Run a guest; its memory at the end, and at least `EVERY_SECONDS` before."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = [folder / f"{number}.copy" for number in range(2)]
    ended = threading.Event()

    def copy_until_the_end(ram: Path) -> None:
        while not ended.wait(EVERY_SECONDS):
            shutil.copyfile(ram, copies[1])
            copies.reverse()

    def wait_and_copy(guest: qemu.Guest) -> None:
        copier = threading.Thread(target=copy_until_the_end, args=(guest.folder / "ram",))
        copier.start()
        try:
            wait_for_capture(guest)
        finally:
            ended.set()
            copier.join()

    wait_for_capture = qemu.Guest.wait_for_capture
    with replaced(qemu.Guest, "wait_for_capture", wait_and_copy):
        sample = make_sample(spec)
    if not copies[1].exists():
        raise SystemExit(
            f"{sample.folder.name} is kept already, or its guest ran too short: take another seed"
        )
    dump, earlier = folder / "dump.raw", folder / "earlier.raw"
    shutil.copyfile(sample.raw, dump)
    copies[1].rename(earlier)
    copies[0].unlink()
    return dump, earlier
