"""The names in a directory, as far as they can be listed: a listing may be cyclic, or end in the middle."""

from __future__ import annotations

import errno
from collections.abc import Callable

from hybridbridge_vol.errors import CallRolledBack
from hybridbridge_vol.guest.file_content import IncompleteDirectory

NOT_IN_MEMORY = "the rest of it is not in memory"
MAX_DIRECTORY_ENTRIES = 10_000_000
"""Names that one directory may list."""


def why_it_ends(error: OSError | CallRolledBack) -> str:
    """Why a listing breaks off, in a few words. ENOMEM is what a file system says that would have to read a
    block of the directory."""
    if isinstance(error, CallRolledBack):
        return error.reason
    return NOT_IN_MEMORY if error.errno == errno.ENOMEM else error.strerror or "unknown"


def listed(path: str, entries: Callable[[], list[tuple[int, str]]]) -> list[str]:
    """The names in a directory, each once, without `.` and `..`, in the kernel's order. `entries` gives the
    next `(position, name)`, none at the end.

    IncompleteDirectory, with what there is, if the listing does not end well, or leads back into itself: no
    directory has a name twice.
    """
    names: dict[str, None] = {}
    twice = ""
    while len(names) <= MAX_DIRECTORY_ENTRIES:
        try:
            part = entries()
        except (OSError, CallRolledBack) as error:
            raise IncompleteDirectory(path, list(names), why_it_ends(error)) from None
        before = len(names)
        for _position, name in part:
            if name in names:
                twice = name
            elif name not in (".", ".."):
                names[name] = None
        if not part and not twice:
            return list(names)
        if twice and len(names) == before:
            raise IncompleteDirectory(
                path, list(names), f"it leads back into itself: {twice!r} is there again"
            )
    raise IncompleteDirectory(path, list(names), f"more than {MAX_DIRECTORY_ENTRIES:,} entries")
