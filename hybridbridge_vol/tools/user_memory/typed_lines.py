"""Lines that look like commands in the memory of shells that keep no list of a known form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.procfs.maps import Mapping
from hybridbridge_vol.toolkit.reading import UNREADABLE

SHELLS = re.compile(
    r"(?:bash|rbash|sh|dash|ash|busybox|zsh[0-9.-]*|ksh[0-9]*|mksh|lksh|fish|tcsh|csh|rc|es|yash|posh|xonsh"
    r"|python[0-9.]*|perl[0-9.]*|ruby[0-9.]*|node|lua[0-9.]*|mysql|mariadb|psql|sqlite3|gdb)(?: \(deleted\))?"
)
"""Names of programs at which people type."""
MAX_SEARCHED = 64 << 20
"""Bytes of one process's memory."""
MAX_LINES = 10_000
"""Lines of one process."""
_FOLDERS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")
_BUILTINS = (
    "alias bg bind break builtin cd command declare disown echo eval exec exit export fc fg for function "
    "hash "
    "help history if import jobs kill let local logout popd printf print pushd pwd read readonly set shift "
    "source test time times trap type ulimit umask unalias unset until wait while"
)
_LINE = re.compile(
    rb"(?:(?<=[\0\n])|\A)([A-Za-z_./][\x21-\x7e\x80-\xff]{0,255} [ -~\x80-\xff]{1,4000})(?=[\0\n])"
)


def command_names(files: Files) -> set[bytes]:
    """The names of the guest's programs and of what shells know themselves."""
    names = set(_BUILTINS.encode().split())
    for folder in _FOLDERS:
        try:
            names.update(name.encode("utf-8", "surrogateescape") for name in files.listdir(folder))
        except UNREADABLE:
            continue
    return names


def lines_like_commands(
    files: Files, pid: int, mappings: Iterable[Mapping], names: set[bytes]
) -> Iterator[bytes]:
    """Lines in the writable memory without a file whose first word is a command's name, each once."""
    seen: set[bytes] = set()
    left = MAX_SEARCHED
    for mapping in mappings:
        if mapping.inode or "w" not in mapping.permissions or mapping.path.startswith("[stack"):
            continue
        size = min(mapping.size, left)
        left -= size
        for piece in files.window(f"/proc/{pid}/mem", mapping.start_vaddr, size):
            for found in _LINE.finditer(piece.data):
                line = found[1]
                word = line.split(b" ", 1)[0].rpartition(b"/")[2]
                if word in names and line not in seen:
                    seen.add(line)
                    yield line
                    if len(seen) >= MAX_LINES:
                        return
