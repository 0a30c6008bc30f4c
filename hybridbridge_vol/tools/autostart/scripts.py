"""Scripts that run at boot, at a login, in each shell, or when something happens to the machine."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hybridbridge_vol.toolkit.cells import Cell
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.autostart.marks import FROM_SKELETON
from hybridbridge_vol.tools.autostart.places import Places, Start, meaningful, of_line, of_script
from hybridbridge_vol.tools.host.text_file import Folder, TextFile

_RC_LOCAL = ("/etc/rc.local", "/etc/rc.d/rc.local", "/etc/init.d/rc.local", "/etc/init.d/boot.local")
_SHELL_FILES = (
    "/etc/profile", "/etc/bash.bashrc", "/etc/bashrc", "/etc/bash.bash_logout", "/etc/zshenv", "/etc/zshrc",
    "/etc/zprofile", "/etc/zlogin", "/etc/zsh/zshenv", "/etc/zsh/zshrc", "/etc/zsh/zprofile",
    "/etc/zsh/zlogin", "/etc/csh.cshrc", "/etc/csh.login", "/etc/fish/config.fish",
)  # fmt: skip
_OF_HOMES = (
    ".bashrc", ".bash_profile", ".bash_login", ".profile", ".bash_logout", ".bash_aliases", ".zshrc",
    ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".cshrc", ".login", ".xprofile", ".xinitrc",
    ".xsession", ".xsessionrc", ".config/fish/config.fish", ".ssh/rc", ".pam_environment",
)  # fmt: skip
_SYNTAX = re.compile(
    r"(?:if|then|else|elif|fi|for|do|done|while|until|case|esac|function|in|return|break|continue|exit|:|shift"
    r"|\{|\}|\(|\)|;;|\[|\[\[|unset|local|declare|typeset|set|shopt|umask|alias|readonly|end|begin)\b.*|[{}();\]]+.*"
    r"|(?:export\s+)?[A-Za-z_]\w*(?:\s+[A-Za-z_]\w*)*|\S+\)\s*(?:;;)?"
)
"""Lines that run nothing by themselves: words of the shell, and names that are exported."""
_SETS = re.compile(r"(?:export\s+|readonly\s+)?([A-Za-z_]\w*)=(.*)")
_RUNNING_VARIABLES = (
    "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PROMPT_COMMAND", "BASH_ENV", "ENV", "PATH", "PYTHONPATH",
    "PYTHONSTARTUP", "PERL5OPT", "SHELL", "HISTFILE", "HISTCONTROL",
)  # fmt: skip
_RUNS_INSIDE = re.compile(r"\$\(|`|&&|\|\||;|\|")
_FOLDERS = (
    ("motd", "at each login", ("/etc/update-motd.d", "/usr/lib/update-motd.d")),
    ("network", "when a link goes up or down", tuple(
        f"/etc/network/if-{when}.d" for when in ("pre-up", "up", "down", "post-down")
    )),
    ("network", "by dhclient", ("/etc/dhcp/dhclient-enter-hooks.d", "/etc/dhcp/dhclient-exit-hooks.d")),
    ("network", "by NetworkManager", (
        "/etc/NetworkManager/dispatcher.d", "/usr/lib/NetworkManager/dispatcher.d",
        "/etc/NetworkManager/dispatcher.d/pre-up.d",
    )),
    ("network", "by networkd-dispatcher", tuple(
        f"/etc/networkd-dispatcher/{name}.d" for name in ("routable", "carrier", "off", "dormant")
    )),
    ("network", "when a PPP link goes up or down", ("/etc/ppp/ip-up.d", "/etc/ppp/ip-down.d")),
    ("power", "at sleep and other changes of power", ("/etc/pm/sleep.d", "/etc/acpi", "/etc/apm/event.d")),
    ("desktop", "when a graphical session starts", ("/etc/X11/Xsession.d", "/etc/X11/xinit/xinitrc.d")),
    ("kernel package", "when a kernel is installed or removed", (
        "/etc/kernel/postinst.d", "/etc/kernel/postrm.d", "/etc/kernel/preinst.d", "/etc/kernel/prerm.d",
    )),
    ("kernel package", "when grub's menu is made", ("/etc/grub.d",)),
    ("package manager", "by needrestart", (
        "/etc/needrestart/hook.d", "/etc/needrestart/notify.d", "/etc/needrestart/restart.d",
    )),
    ("initramfs", "when an initramfs is made", ("/etc/initramfs-tools/hooks",)),
)  # fmt: skip
"""Folders whose files are run: the kind of their rows, when, and where."""
_INITRAMFS = "/etc/initramfs-tools/scripts"
_INITRAMFS_STAGES = (
    "init-top", "init-premount", "local-top", "nfs-top", "local-block", "local-premount", "nfs-premount",
    "local-bottom", "nfs-bottom", "init-bottom", "panic",
)  # fmt: skip
_RC_LINK = re.compile(r"([SK])(\d\d)(.+)")
MAX_SCRIPT_LINES = 2000
"""Lines of one script that are looked at."""


def starts(places: Places) -> Iterator[Start]:
    """Scripts of init, of shells, and of the folders above."""
    yield from _init(places)
    yield from _shells(places)
    for kind, when, folders in _FOLDERS:
        for folder in folders:
            for script in places.scripts(kind, folder):
                state = None if script.is_executable or script.lack else "not executable"
                yield of_script(kind, script, when, state=state)
    for stage in _INITRAMFS_STAGES:
        for script in places.scripts("initramfs", f"{_INITRAMFS}/{stage}"):
            if script.name != "ORDER":
                state = None if script.is_executable or script.lack else "not executable"
                yield of_script("initramfs", script, f"in the initramfs, {stage}", state=state)


def _init(places: Places) -> Iterator[Start]:
    for path in _RC_LOCAL:
        file = places.text("rc.local", path)
        if file is not None:
            runs = file.attributes is not None and bool(file.attributes.mode & 0o111)
            for start in commands(file, "rc.local", "at boot", "root"):
                yield start._replace(state=None if runs else "not executable")
    levels, unread = _run_levels(places)
    for script in places.scripts("init script", "/etc/init.d"):
        at = levels.pop(script.path, None)
        started = "enabled" if at else None if script.name in unread else "disabled"
        state = started if script.is_executable else "not executable"
        yield of_script("init script", script, at, state=state)
    for path, at in levels.items():
        seen = places.attributes(path)
        start = Start("init script", path, None, path, at, "root", "enabled", seen)
        yield start.marked("outside of /etc/init.d")
    table = places.text("inittab", "/etc/inittab")
    if table is not None:
        yield from _inittab(table)


def _run_levels(places: Places) -> tuple[dict[str, str], set[str]]:
    """The scripts that links in /etc/rc?.d start, and at which run levels; and the names of those links that
    could not be read, without their order."""
    levels: dict[str, list[str]] = {}
    unread: set[str] = set()
    for level in "S0123456":
        for path in places.folder("init script", f"/etc/rc{level}.d").paths():
            match = _RC_LINK.fullmatch(path.rpartition("/")[2])
            if match is None or match[1] != "S":
                continue
            try:
                target = places.target(path)
            except UNREADABLE as error:
                lack = why(path, error)
                places.lacks(
                    Start("init script", path, None, lack, f"at run levels {level}", "root", lack=lack)
                )
                unread.add(match[3])
            else:
                levels.setdefault(target, []).append(level)
    return {path: f"at run levels {' '.join(at)}" for path, at in levels.items()}, unread


def _inittab(table: TextFile) -> Iterator[Start]:
    """inittab(5): id, run levels, action, process."""
    for line in meaningful(table.lines):
        fields = line.text.split(":", 3)
        if len(fields) == 4 and fields[3]:
            yield of_line("inittab", table, line, fields[3], f"{fields[2]} at {fields[1] or 'all'}", "root")


def _shells(places: Places) -> Iterator[Start]:
    for path in _SHELL_FILES:
        file = places.text("shell", path)
        if file is not None:
            yield from commands(file, "shell", "each shell", "each user")
    for file in places.texts("shell", ("/etc/profile.d", "/etc/zsh/zprofile.d", "/etc/fish/conf.d")):
        yield from commands(file, "shell", "each login shell", "each user")
    pattern: dict[str, TextFile | None] = {}
    for home, account in places.homes:
        inside = places.folder("shell", home)
        for name in _OF_HOMES:
            file = _file_of_home(places, inside, name)
            if file is None:
                continue
            if name not in pattern:
                pattern[name] = places.text("shell", f"/etc/skel/{name}")
            yield from _of_home(file, pattern[name], account.name)


def _of_home(file: TextFile, skeleton: TextFile | None, user: str) -> Iterator[Start]:
    """What a file of a user's shell starts, beside the one that new users get."""
    if skeleton is not None and _same(skeleton, file):
        what = f"the same lines as {skeleton.path}"
        yield Start("shell", file.path, None, what, "the user's shells", user, None, file.attributes)
        return
    theirs = frozenset(line.text for line in meaningful(skeleton.lines)) if skeleton else frozenset()
    yield from commands(file, "shell", "the user's shells", user, theirs)


def _file_of_home(places: Places, home: Folder, name: str) -> TextFile | None:
    """A file below a home directory; None if there is none, and if nobody knows whether there is: that the
    directory lacks names is said once."""
    if home.lack is None and name.partition("/")[0] not in home.names:
        return None
    file = places.text("shell", f"{home.path.rstrip('/')}/{name}", report=False)
    return None if file is not None and home.lack is not None and file.attributes is None else file


def _same(first: TextFile, second: TextFile) -> bool:
    whole = first.lack is None and second.lack is None
    return whole and [line.text for line in first.lines] == [line.text for line in second.lines]


def commands(
    file: TextFile, kind: str, when: str, user: Cell, skeleton: frozenset[str] = frozenset()
) -> Iterator[Start]:
    """The lines of a shell script that run something, or set what makes others run something. One row for the
    whole file if there is none. Lines that `skeleton` has are as each account's were when it was made."""
    found = False
    for line in list(meaningful(file.lines))[:MAX_SCRIPT_LINES]:
        if _runs(line.text):
            start = of_line(kind, file, line, line.text, when, user)
            yield start._replace(state=FROM_SKELETON) if line.text in skeleton else start
            found = True
    if not found:
        yield Start(kind, file.path, None, file.lack or None, when, user, None, file.attributes, file.lack)


def _runs(text: str) -> bool:
    sets = _SETS.fullmatch(text)
    if sets is not None:
        return sets[1] in _RUNNING_VARIABLES or bool(_RUNS_INSIDE.search(sets[2]))
    return _SYNTAX.fullmatch(text) is None or bool(re.search(r"\$\(|`|;\s*then\s+\S|&&", text))
