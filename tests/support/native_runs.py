"""Running programs on the shared images: in this process, and by `hb exec`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Protocol

from generations import Lab

from hybridbridge_vol.errors import HostLacks
from hybridbridge_vol.native.capture import Completed, capture
from hybridbridge_vol.native.launch import check_host
from hybridbridge_vol.native.run import NATIVE, Options
from samples.native_programs import tools_folder

GUESTS_LOCALE = {"LC_CTYPE": "C"}
"""Where a guest's tools had no locale."""


def lacking() -> str:
    """What this machine lacks to run programs on images; empty if nothing."""
    try:
        check_host()
    except HostLacks as error:
        return str(error)
    return ""


class Run(Protocol):
    """A command on an image, by Debian's own programs."""

    def __call__(
        self,
        image: str,
        command: str,
        stdin: bytes = b"",
        seconds: float = 120.0,
        tools: str | None = "",
        user_mode: str = NATIVE,
    ) -> Completed: ...


def runner(lab: Lab, environment: Mapping[str, str]) -> Run:
    """`tools` are those of `samples.native_programs`, unless given."""

    def run(
        image: str,
        command: str,
        stdin: bytes = b"",
        seconds: float = 120.0,
        tools: str | None = "",
        user_mode: str = NATIVE,
    ) -> Completed:
        folder = str(tools_folder()) if tools == "" else tools
        options = Options(folder, environment, seconds, user_mode=user_mode)
        return capture(lab.session(image), shlex.split(command), stdin, options)

    return run


def hb_exec(lab: Lab, image: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`hb exec` in a process of its own."""
    command = [sys.executable, "-m", "hybridbridge_vol", "exec", str(lab.sample(image).dump)]
    return subprocess.run(
        [*command, "--store", str(lab.store.root), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
