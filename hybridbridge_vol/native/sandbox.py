"""Confining a process of our own that works on an image: whatever an image could make of it, it reads what it
needs, and reaches nothing else.

It stays what it is, Python with the emulator in it, and so the filter is a list of what it never calls; what
files it reaches Landlock decides. What a native program may do on an image is another matter (launch.py).
"""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

from hybridbridge_vol.bridge.text.policy import policy_folder
from hybridbridge_vol.child_process import limit
from hybridbridge_vol.errors import HostLacks
from hybridbridge_vol.native import filter as seccomp_filter
from hybridbridge_vol.native import landlock
from hybridbridge_vol.native.abi import NUMBERS
from hybridbridge_vol.native.rights import Filter, no_new_rights

_REACHING_OTHERS = {
    "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "accept4": 288, "ptrace": 101,
    "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "pidfd_open": 434, "pidfd_getfd": 438,
    "pidfd_send_signal": 424, "tkill": 200, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
    "process_madvise": 440, "shmget": 29, "shmat": 30, "msgget": 68, "semget": 64, "mq_open": 240,
    "add_key": 248, "request_key": 249, "keyctl": 250,
}  # fmt: skip
_CHANGING_THE_SYSTEM = {
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "swapon": 167, "swapoff": 168,
    "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "init_module": 175,
    "delete_module": 176, "finit_module": 313, "kexec_load": 246, "kexec_file_load": 320, "acct": 163,
    "settimeofday": 164, "clock_settime": 227, "adjtimex": 159, "clock_adjtime": 305, "quotactl": 179,
    "unshare": 272, "setns": 308, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "fspick": 433, "mount_setattr": 442, "open_by_handle_at": 304,
}  # fmt: skip
_CHANGING_FILES_BY_NAME = {
    "chmod": 90, "fchmodat": 268, "fchmodat2": 452, "chown": 92, "lchown": 94, "fchownat": 260,
    "setxattr": 188, "lsetxattr": 189, "removexattr": 197, "lremovexattr": 198, "utime": 132, "utimes": 235,
    "futimesat": 261, "mknod": 133, "mknodat": 259, "symlink": 88, "symlinkat": 266, "link": 86,
    "linkat": 265, "fanotify_init": 300, "inotify_init": 253, "inotify_init1": 294,
}  # fmt: skip
"""What Landlock does not decide."""
_LARGE_SURFACE = {
    "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "uselib": 134, "personality": 135, "modify_ldt": 154, "vmsplice": 278,
    "lookup_dcookie": 212, "nfsservctl": 180, "syslog": 103,
}  # fmt: skip
_EXECUTING = {"execve": NUMBERS["execve"], "execveat": 322}

_PACKAGES = re.compile(r"/(site|dist)-packages(/|$)|/lib-dynload$|[.](zip|egg)$")
"""Of the folders where Python looks for modules, those of installed ones: another one may be anything."""
_OWN_PROC = "/proc/self"
MAX_WRITTEN = 16 << 30
"""Bytes of one file that a worker writes: its tables."""


def confine(readable: Iterable[str], writable: Iterable[str] = ()) -> None:
    """Give up, for this process and all that it forks: the network, other processes, executing programs,
    every file but reading those below `readable` and what Python and this package are made of, and changing
    those below `writable`. Its own files of /proc a process that it forks cannot read.

    HostLacks if this machine's kernel cannot do it: nothing is given up then.
    """
    if not landlock.version():
        raise HostLacks(
            "Landlock is not available, which confines what works on an image: add 'landlock' to the "
            "kernel's lsm= parameter, or in a container allow its system calls"
        )
    limit(resource.RLIMIT_FSIZE, MAX_WRITTEN)
    reading = landlock.READ_FILE | landlock.READ_FOLDER
    rules = [(path, reading) for path in (*readable, *_own_files())]
    rules += [(path, reading | landlock.CHANGE_FILES) for path in writable]
    calls = _REACHING_OTHERS | _CHANGING_THE_SYSTEM | _CHANGING_FILES_BY_NAME | _LARGE_SURFACE | _EXECUTING
    own_proc = -1
    try:
        no_new_rights()
        # kept open as long as the process lives: where memory is scarce Linux forgets unused names of /proc,
        # the folder's next inode is another one, and Landlock's rules are of inodes
        own_proc = os.open(_OWN_PROC, os.O_PATH | os.O_CLOEXEC)
        landlock.restrict(rules)
        Filter(seccomp_filter.refusing(sorted(calls.values()))).install()
    except OSError as error:
        if own_proc >= 0:
            os.close(own_proc)
        reason = f"{error.filename}: {error.strerror}"
        raise HostLacks(f"this machine cannot confine a process ({reason})") from None


def readable_for(image: str, store: Path) -> list[str]:
    """The folders that whoever works on an image reads: its own, where the parts of some formats lie, and the
    store with its entries, which may be links."""
    entries = [os.path.realpath(entry.path) for entry in os.scandir(store)] if store.is_dir() else []
    folders = [os.path.dirname(resolve(image)) for resolve in (os.path.abspath, os.path.realpath)]
    return [*folders, str(store), *entries]


def _own_files() -> Iterable[str]:
    """What Python and this package load while they run, and what they ask of this machine. /proc of the
    process itself only: that of another one shows its environment."""
    folders = {str(Path(__file__).resolve().parents[1]), str(policy_folder()), os.path.dirname(os.__file__)}
    folders |= {os.path.abspath(path) for path in sys.path if _PACKAGES.search(path)}
    yield from sorted(folders)
    yield from ("/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/lib", "/lib64", "/etc/ld.so.cache")
    yield from ("/etc/localtime", _OWN_PROC, "/sys/devices/system/cpu", "/dev/null", "/dev/urandom")
