"""Running a package client: no questions, no user's language, one line of what went wrong."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hybridbridge_vol.errors import FetchError

CLIENT_SECONDS = 1800
"""A client that has not ended after so long waits for something that never comes."""
_MOST_OF_A_MESSAGE = 200


def run_client(command: Sequence[str], cwd: Path | None = None) -> str:
    """What a client says on standard output. FetchError, with its own reason, if it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            cwd=cwd,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            timeout=CLIENT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise FetchError(f"{command[0]} is not installed") from None
    except OSError as error:
        raise FetchError(f"{command[0]} cannot be run ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"{command[0]} did not finish within {CLIENT_SECONDS} s") from None
    if done.returncode:
        raise FetchError(_reason(command[0], done.stderr or done.stdout))
    return done.stdout


def _reason(program: str, output: str) -> str:
    """apt marks its errors with "E:"; of other clients the last words count."""
    errors = [line for line in output.splitlines() if line.startswith("E:")]
    said = " ".join((errors[0] if errors else output).split())
    return f"{program} failed: {said[:_MOST_OF_A_MESSAGE] if errors else said[-_MOST_OF_A_MESSAGE:]}"
