"""authorized_keys: who may log in by a key (sshd(8), "AUTHORIZED_KEYS FILE FORMAT")."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hybridbridge_vol.guest.kernel import Files
from hybridbridge_vol.tools.host.text_file import Line, list_folder, read_text

DEFAULT_FILES = (".ssh/authorized_keys", ".ssh/authorized_keys2")
"""AuthorizedKeysFile of sshd_config(5) where nothing else is set."""
SSHD_CONFIG = "/etc/ssh/sshd_config"
MAX_PATTERNS = 32
"""Files named by AuthorizedKeysFile that are looked for in each home."""
_TYPE = re.compile(r"(?:sk-)?(?:ssh|ecdsa)-[\w-]+(?:@openssh\.com)?")
_OPTIONS = re.compile(r"(?:[^\s\"]|\"(?:\\.|[^\"\\])*\")+")
_SETTING = re.compile(r"\s*AuthorizedKeysFile\s*[\s=]\s*(.+)", re.IGNORECASE)


class Key(NamedTuple):
    """A line of authorized_keys. `fingerprint` as `ssh-keygen -l` writes it; empty where the key is
    damaged."""

    type: str
    fingerprint: str
    comment: str
    options: str
    line: Line


def parse_authorized_keys(lines: Iterable[Line]) -> Iterator[Key]:
    """The keys; a line that holds none is one of type `not a key`, and its text is the comment."""
    for line in lines:
        text = line.text.strip(" \t\r")
        if not text or text.startswith("#"):
            continue
        options = ""
        if not _TYPE.match(text):
            match = _OPTIONS.match(text)
            options = match[0] if match else ""
            text = text[len(options) :].strip(" \t")
        words = text.split(None, 2)
        if len(words) < 2 or not _TYPE.fullmatch(words[0]):
            yield Key("not a key", "", line.text.strip(), "", line)
            continue
        yield Key(words[0], fingerprint(words[1]), "".join(words[2:]), options, line)


def fingerprint(key: str) -> str:
    """`SHA256:...` of a key in base64; empty if it is not in that form."""
    try:
        data = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return ""
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"SHA256:{digest}" if data else ""


def key_files(files: Files) -> tuple[str, ...]:
    """The patterns of AuthorizedKeysFile that hold for this sshd: those of its configuration, if it has any,
    and the default ones, which an sshd that was started otherwise takes."""
    paths = [SSHD_CONFIG]
    folder = list_folder(files, f"{SSHD_CONFIG}.d")
    if folder is not None:
        paths += [path for path in folder.paths() if path.endswith(".conf")]
    patterns: list[str] = []
    for path in paths:
        found = read_text(files, path)
        for line in found.lines if found is not None else ():
            match = _SETTING.match(line.text)
            if match is not None:
                patterns += match[1].split()
    return tuple(dict.fromkeys((*patterns[:MAX_PATTERNS], *DEFAULT_FILES)))


def path_for(pattern: str, name: str, uid: int, home: str) -> str:
    """The file that a pattern means for an account."""
    tokens = {"%%": "%", "%h": home, "%u": name, "%U": str(uid)}
    path = re.sub("%[%huU]", lambda match: tokens[match[0]], pattern)
    return path if path.startswith("/") else f"{home.rstrip('/')}/{path}"
