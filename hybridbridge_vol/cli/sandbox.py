"""`--sandbox` of the commands that answer about an image: this process is confined before it is opened."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

from hybridbridge_vol.cli.console import open_store
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.native.sandbox import confine, readable_for


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


def confine_command(
    args: argparse.Namespace, files: Iterable[str | os.PathLike[str]], writable: Iterable[str] = ()
) -> None:
    """From here on this process reads the image's folder, the store and the folders of `files`, and changes
    what is at or below `writable`. HostLacks."""
    folders = [os.path.dirname(os.path.realpath(path)) for path in files]
    confine([*folders, *readable_for(args.dump, open_store(args).root)], writable)
