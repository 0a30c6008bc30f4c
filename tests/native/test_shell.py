"""`hb shell` on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import sys
import time

import pytest
from generations import Lab

IMAGE = "6.12"
PROMPT = rb"dump\.raw \(at capture\) (\S+) # \Z"
PATIENCE = 120.0


class Terminal:
    """A terminal with `hb shell` on it."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.environ["TERM"] = "dumb"
            os.execv(command[0], command)

    def type(self, text: str, until: bytes = PROMPT, again: bool = False) -> str:
        """What appears after typing, up to a pattern; an assertion if it does not. `again`: type it until
        then, once a second."""
        os.write(self._fd, text.encode())
        shown, end = b"", time.monotonic() + PATIENCE
        while not re.search(until, shown):
            assert time.monotonic() < end, shown
            if select.select([self._fd], [], [], 1.0)[0]:
                shown += os.read(self._fd, 65536)
            elif again:
                os.write(self._fd, text.encode())
        return shown.decode()

    def end(self) -> int:
        """Its exit status after `exit 4`."""
        os.write(self._fd, b"exit 4\n")
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._fd)
        return status


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_shell_with_job_control_in_the_image(lab: Lab) -> None:
    dump, store = str(lab.sample(IMAGE).dump), str(lab.store.root)
    shell = Terminal([sys.executable, "-m", "hybridbridge_vol", "shell", dump, "--store", store])
    try:
        use(shell, lab)
    except BaseException:
        os.kill(shell.pid, signal.SIGTERM)
        raise
    assert shell.end() == 4


def use(shell: Terminal, lab: Lab) -> None:
    assert "(at capture) / #" in shell.type("")
    assert "init\r\n/proc/1\r\n" in shell.type("cd /proc/1; cat comm; pwd\n")
    processes = str(len([name for name in lab.session(IMAGE).files.listdir("/proc") if name.isdecimal()]))
    assert f"\n{processes}\r\n" in shell.type("echo /proc/[0-9]* | wc -w\n")
    assert "Running" in shell.type("cat /dev/zero > /dev/null & jobs\n")
    shell.type("fg\n", rb"cat /dev/zero > /dev/null\r\n")
    # bash names a job before the terminal is the job's
    assert "^C" in shell.type("\x03", again=True)
    assert "/etc #" in shell.type("cd /et\t\n")
