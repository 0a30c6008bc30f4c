"""A guest with accounts, logins, all that starts programs by itself, and containers of every engine: made
with the native tools, which then say what they see."""

from __future__ import annotations

import stat

from samples.guest_files import GUEST, OBSERVER, Entry, Recipe
from samples.workload import ACTOR

USERS = ("root", "alice", "bob", "carol", "dave", "toor", "twin")
"""The accounts that guest/people_accounts.sh makes, and root."""
SCRIPTS = ("accounts", "logins", "persistence", "containers")
_MODULES = ("loop", "ext4", "crc32c_generic", "overlay")
COMMANDS = (
    "uname -a", "getent passwd", "getent group", "passwd -Sa", "cvtsudoers -f json /etc/sudoers",
    *(f"chage -i -l {name}" for name in USERS),
    "last -F -w", "last -w --time-format=iso", "last -x -w --time-format=iso", "lastb -w --time-format=iso",
    "last -w -i --time-format=iso", "who", "who -a", "lastlog",
    *(f"crontab -u {name} -l" for name in ("root", "alice")),
    "ssh-keygen -l -f /home/alice/.ssh/authorized_keys", "ssh-keygen -l -f /root/.ssh/authorized_keys",
    "atq", "run-parts --test /etc/cron.daily",
    "systemctl --root=/ list-unit-files --no-legend --no-pager --full",
    "cat /proc/self/mountinfo", "ps -eww -o pid,comm,cgroup:200",
    "find / -xdev -not -path /proc/* -printf %p\\0%m\\0%U\\0%G\\0%s\\0%T@\\0%C@\\0%A@\\0\\n",
)  # fmt: skip
_PACKAGES = (
    "dash", "coreutils", "findutils", "procps", "mount", "util-linux", "hostname", "kmod", "libc6",
    "libc-bin", "passwd", "login", "cron", "at", "systemd", "sudo", "e2fsprogs", "debianutils",
    "openssh-client",
)  # fmt: skip
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
_SHADOW = b"root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\n"
_LOGIN_DEFS = b"UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nUSERGROUPS_ENAB yes\n"
_PLAN = (*(f"command {line}" for line in COMMANDS), "settle comm")


def recipe() -> Recipe:
    """The files of the guest."""
    folders = (
        "proc", "sys", "dev", "run", "tmp", "root", "home", "var/log", "var/lib/machines", "var/mail",
        "etc/skel", "etc/default", "mnt/data",
    )  # fmt: skip
    return Recipe(
        entries=(
            Entry("init", stat.S_IFREG | 0o755, (GUEST / "people_init.sh").read_bytes()),
            *(_text(f"srv/{name}.sh", (GUEST / f"people_{name}.sh").read_bytes()) for name in SCRIPTS),
            _text("srv/plan", "".join(f"{line}\n" for line in _PLAN).encode()),
            _text("etc/passwd", _PASSWD),
            _text("etc/group", b"root:x:0:\ndaemon:x:1:\ntty:x:5:\ncrontab:x:101:\n"),
            Entry("etc/shadow", stat.S_IFREG | 0o640, _SHADOW),
            Entry("etc/gshadow", stat.S_IFREG | 0o640, b"root:*::\ndaemon:*::\ntty:*::\ncrontab:*::\n"),
            _text("etc/nsswitch.conf", b"passwd: files\ngroup: files\nshadow: files\n"),
            _text("etc/login.defs", _LOGIN_DEFS),
            _text("etc/ld.so.conf", b""),
            *(Entry(name, stat.S_IFDIR | 0o755) for name in folders),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ),
        programs=((ACTOR, GUEST / "actor.c"), (OBSERVER, GUEST / "observer.c")),
        packages=_PACKAGES,
        wanted=(
            "usr/bin/(dash|sh|cat|cp|ln|ls|rm|dd|find|mkdir|chmod|chown|head|touch|sync|sleep|test|true)",
            "usr/bin/(uname|env|hostname|kmod|mount|umount|unshare|pgrep|ps|getent|chage|passwd|gpasswd|crontab|at|atq|atrm)",
            "usr/bin/(last|lastb|lastlog|utmpdump|who|systemctl|cvtsudoers|run-parts|ssh-keygen)",
            "usr/sbin/(insmod|chroot|useradd|usermod|groupadd|mke2fs)",
            "usr/lib/x86_64-linux-gnu/libnss_files.*",
            "usr/lib/x86_64-linux-gnu/(libsystemd-shared|systemd/libsystemd-shared).*",
        ),
        modules=_MODULES,
    )  # fmt: skip


def _text(name: str, data: bytes) -> Entry:
    return Entry(name, stat.S_IFREG | 0o644, data)
