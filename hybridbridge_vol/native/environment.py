"""Where the program is found, and the variables that it gets: none of the examiner's but these."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.native.host_files import HostFiles
from hybridbridge_vol.native.own_libraries import OwnLibraries, is_below, program_below

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("TERM", "COLORTERM", "NO_COLOR", "COLUMNS", "LINES")
_PYTHON = re.compile(r"python[0-9.]*")


class Program(NamedTuple):
    """A program of the host's. `path` is where it was found; `home` is an interpreter's own folder."""

    path: str
    home: str


def tool_folders(tools: str | None) -> list[str]:
    """The folders of programs: the system's own, then those of the PATH, where wrappers may be. With `tools`,
    those below it come first."""
    own = [] if tools is None else [os.path.join(os.path.abspath(tools), name) for name in _BELOW_TOOLS]
    named = [*own, *_DEFAULT_PATH.split(":"), *os.environ.get("PATH", "").split(":")]
    return [path for path in dict.fromkeys(named) if path.startswith("/") and os.path.isdir(path)]


_BELOW_TOOLS = ("", "usr/sbin", "usr/bin", "sbin", "bin")


def find_program(name: str, folders: Sequence[str], tools: str | None = None) -> Program:
    """The program of a name or a path. OptionError if there is none. Links below `tools` that begin at the
    root mean `tools`: Debian 11 has /sbin/ip as a link to /bin/ip."""
    below = None if tools is None or "/" in name else program_below(tools, _BELOW_TOOLS, name)
    found = below or shutil.which(name, path=":".join(folders))
    if found is None:
        raise OptionError(f"{name}: {os.strerror(errno.ENOENT)} (looked for in {':'.join(folders)})")
    found = os.path.abspath(found)
    real = os.path.realpath(found)
    home = os.path.dirname(os.path.dirname(real)) if _PYTHON.fullmatch(os.path.basename(real)) else ""
    return Program(found, home)


def more_folders(program: Program, tools: str | None) -> list[str]:
    """Folders that the program needs to read besides: its own, if it lies elsewhere; those of python."""
    found = [program.path]
    if program.home:
        found += [os.path.join(program.home, "lib")]
    else:
        python = shutil.which("python3", path=_DEFAULT_PATH)
        found += [] if python is None else glob.glob("/usr/lib/python3*")
    if tools is not None:
        found.append(os.path.abspath(tools))
    return found


def library_folders(tools: str) -> list[str]:
    """Folders of shared libraries below `tools`."""
    return _folders_below(tools, _LIBRARIES_BELOW_TOOLS)


def variables(
    host: HostFiles,
    folders: Sequence[str],
    program: Program,
    given: Mapping[str, str],
    tools: str | None,
    own: OwnLibraries | None = None,
) -> dict[str, str]:
    """The environment: data of programs are looked for below the prefix; everything else is the image's.

    With `own`, what lies below `tools` is for a program from there only: what the program starts is this
    machine's, and so are its libraries."""
    if own is not None:
        folders = [path for path in folders if not is_below(os.path.join(path, ""), tools)]
        tools = tools if is_below(program.path, tools) else None

    def below(*paths: str) -> str:
        return ":".join(host.prefix + path for path in paths)

    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {
        "PATH": below(*folders),
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": "/bin/sh",
        "LC_CTYPE": "C.utf8",  # spelt as its folder: other spellings are looked for first
        "LOCPATH": below("/usr/lib/locale"),
        "TERMINFO_DIRS": below("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"),
        "TZDIR": below("/usr/share/zoneinfo"),
        "INPUTRC": below("/etc/inputrc"),
        "PERL5LIB": below(*_perl_folders()),
        "PYTHONHOME": below(program.home or "/usr"),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        "MAGIC": below("/usr/share/misc/magic"),
        "HISTFILE": "/dev/null",
    }
    extensions = [
        path
        for root in (*([] if tools is None else [os.path.abspath(tools)]), "/")
        for path in sorted(glob.glob(os.path.join(root, _XTABLES)))
    ]
    if extensions:
        environment["XTABLES_LIBDIR"] = below(*extensions)
    if tools is not None:
        if own is None:
            environment["LD_LIBRARY_PATH"] = ":".join(library_folders(tools))
        environment["PYTHONPATH"] = below(*_folders_below(tools, _PYTHON_BELOW_TOOLS))
    return environment | dict(given)


_XTABLES = "usr/lib/*/xtables"
"""Where Debian has the matches and targets of iptables, libraries which it looks for by name."""
_LIBRARIES_BELOW_TOOLS = ("lib", "usr/lib", "lib/*-linux-gnu", "usr/lib/*-linux-gnu")
_PYTHON_BELOW_TOOLS = ("usr/lib/python3/dist-packages", "lib/python3*/site-packages")
"""Where Debian, and pip with --prefix, put modules of Python."""


def _folders_below(tools: str, patterns: Sequence[str]) -> list[str]:
    found = (path for pattern in patterns for path in sorted(glob.glob(pattern, root_dir=tools)))
    return [path for name in found if os.path.isdir(path := os.path.join(os.path.abspath(tools), name))]


def _perl_folders() -> list[str]:
    patterns = ("/etc/perl", "/usr/lib/*/perl5/*", "/usr/share/perl5", "/usr/lib/*/perl-base",
                "/usr/lib/*/perl/*", "/usr/share/perl/*")  # fmt: skip
    return [path for pattern in patterns for path in sorted(glob.glob(pattern))]
