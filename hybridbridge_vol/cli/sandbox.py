"""`--sandbox` of the commands that answer about an image: this process is confined before it is opened."""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Iterable

from hybridbridge_vol.child_process import die_with, fork
from hybridbridge_vol.cli.console import open_store
from hybridbridge_vol.errors import BootNeeded, OptionError
from hybridbridge_vol.native.sandbox import confine, readable_for
from hybridbridge_vol.progress import Progress
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.boot_again import boot_again

_LONGEST_REQUEST = 4096


def refuse_fetch(args: argparse.Namespace) -> None:
    """OptionError if the command is to fetch a kernel, too."""
    if hasattr(args, "fetch"):
        raise OptionError(
            "--fetch needs the network, which --sandbox gives up: fetch first, with 'hb trust get'"
        )


def begin_file(path: str) -> None:
    """Make a file that is to be written, if it is not there: rights are given to what is there. OptionError
    if that cannot be."""
    try:
        open(path, "ab").close()
    except OSError as error:
        raise OptionError(f"{path}: {error.strerror}") from None


class OutsideBoots:
    """A child that is not confined: it boots a kernel of the store once, if this process asks for that before
    it ends. To be made before this process is confined."""

    def __init__(self, store: Store) -> None:
        asked, self._ask = os.pipe()
        self._answered, answer = os.pipe()
        parent = os.getpid()
        if not fork():
            try:
                die_with(parent)
                os.close(self._ask)
                _serve(store, asked, answer)
            finally:
                os._exit(0)
        os.close(asked)
        os.close(answer)

    def boot(self, needed: BootNeeded) -> bool:
        """Have a kernel booted; whether it was."""
        wanted = (needed.kernel, needed.start_vaddr, needed.end_vaddr, needed.levels)
        os.write(self._ask, json.dumps(wanted).encode() + b"\n")
        return os.read(self._answered, 1) == b"1"


def _serve(store: Store, asked: int, answer: int) -> None:
    """Read one request, a line, and answer it with one byte."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for inherited in (0, 1):  # who reads what the command writes waits for its end
        os.dup2(nowhere, inherited)
    with open(asked, "rb") as requests:
        line = requests.readline(_LONGEST_REQUEST)
    if line:
        kernel, start_vaddr, end_vaddr, levels = json.loads(line)
        with Progress() as progress:
            done = boot_again(store, str(kernel), int(start_vaddr), int(end_vaddr), int(levels), progress)
        os.write(answer, b"1" if done else b"0")


def confine_command(
    args: argparse.Namespace, files: Iterable[str | os.PathLike[str]], writable: Iterable[str] = ()
) -> OutsideBoots:
    """From here on this process reads the image's folder, the store and the folders of `files`, and changes
    what is at or below `writable`. What boots kernels for it. HostLacks."""
    folders, store = [os.path.dirname(os.path.realpath(path)) for path in files], open_store(args)
    readable = readable_for(args.dump, store.root)
    boots = OutsideBoots(store)
    confine([*folders, *readable], writable)
    return boots
