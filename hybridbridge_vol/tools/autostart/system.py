"""What the linker, the device manager, the kernel and programs of the system run or load by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, why
from hybridbridge_vol.tools.autostart.marks import UNTOUCHED
from hybridbridge_vol.tools.autostart.places import MAX_TEXT, Places, Start, joined, meaningful, of_line
from hybridbridge_vol.tools.host.text_file import TextFile, is_absent, list_folder

_CONFIG = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
_RUN_KEY = re.compile(r'(RUN(?:\{\w+\})?|PROGRAM|IMPORT\{program\})\s*(?:\+=|:=|==|=)\s*"((?:\\.|[^"\\])*)"')
_MATCH_KEY = re.compile(r'(?<![A-Z])([A-Z]{1,32}(?:\{[^}]{0,64}\})?)\s*(==|!=)\s*"((?:\\.|[^"\\])*)"')
_EXEC = re.compile(r"(?:Try)?Exec\s*=\s*(.+)")
MAX_RULE = 1 << 13
"""Characters of a rule of udev that are looked at."""
_HELPERS = (
    ("/proc/sys/kernel/core_pattern", "when a process dumps core"),
    ("/proc/sys/kernel/modprobe", "when the kernel wants a module"),
    ("/proc/sys/kernel/hotplug", "when a device comes or goes"),
    ("/sys/kernel/uevent_helper", "when a device comes or goes"),
    ("/proc/sys/kernel/poweroff_cmd", "when the kernel powers off"),
)
"""Programs that the kernel runs itself."""
_CGROUPS, _FORMATS = "/sys/fs/cgroup", "/proc/sys/fs/binfmt_misc"
_OF_SYSTEMD = re.compile(r"^\|?(/usr)?/lib/systemd/systemd-(coredump|cgroups-agent)( |$)")
_USUAL_HELPERS = ("", "core", "/sbin/modprobe", "/usr/sbin/modprobe", "/sbin/poweroff")
_SETTINGS = re.compile(r"-?\s*(kernel[./](?:core_pattern|modprobe|hotplug|poweroff_cmd))\s*=\s*(.+)")
_HOOK = re.compile(
    r'((?:DPkg|APT)::[\w:-]*(?:Invoke|Install-Pkgs)[\w:-]*)\s*(?:\{)?\s*"((?:\\.|[^"\\])*)"', re.IGNORECASE
)


def starts(places: Places) -> Iterator[Start]:
    """All of these."""
    for family in (_linker, _udev, _modules, _kernel, _desktop, _formats, _packages, _services):
        yield from family(places)


def _named_once(places: Places, kind: str, folder: str, suffix: str) -> Iterator[tuple[TextFile, str | None]]:
    """The files of a folder below each of `_CONFIG`, and by which other one a file is overridden: the first
    of a name is in force (file-hierarchy(7))."""
    seen: dict[str, str] = {}
    for file in places.texts(kind, places.distinct(f"{top}/{folder}" for top in _CONFIG), suffix):
        first = seen.setdefault(file.path.rpartition("/")[2], file.path)
        yield file, None if first == file.path else f"overridden by {first}"


def _linker(places: Places) -> Iterator[Start]:
    file = places.text("ld.so.preload", "/etc/ld.so.preload")
    if file is not None:
        for line in meaningful(file.lines):
            for name in re.split(r"[ \t:]+", line.text.split("#")[0].strip()):
                yield (
                    of_line("ld.so.preload", file, line, name, "in each program", "each user")
                    ._replace(program=name if name.startswith("/") else "")
                    .marked("loaded into every program")
                )
    main = places.text("ld.so.conf", "/etc/ld.so.conf")
    for found in (
        *((main,) if main is not None else ()),
        *places.texts("ld.so.conf", ("/etc/ld.so.conf.d",), ".conf"),
    ):
        for line in meaningful(found.lines):
            yield of_line("ld.so.conf", found, line, line.text, "libraries are looked for there")
    for path in ("/etc/environment", "/etc/security/pam_env.conf"):
        found_file = places.text("environment", path)
        if found_file is not None:
            for line in meaningful(found_file.lines):
                yield of_line("environment", found_file, line, line.text, "each login", "each user")
    for file, overridden in _named_once(places, "environment", "environment.d", ".conf"):
        for line in meaningful(file.lines):
            start = of_line("environment", file, line, line.text, "each session", "each user")
            yield start._replace(state=overridden)


def _udev(places: Places) -> Iterator[Start]:
    for file, overridden in _named_once(places, "udev", "udev/rules.d", ".rules"):
        yield from udev_rule(file, overridden)


def udev_rule(file: TextFile, overridden: str | None) -> Iterator[Start]:
    """The programs that the rules of a file run."""
    for line in joined(file.lines):
        rule = line.text[:MAX_RULE]
        keys = (f'{key}{sign}"{value}"' for key, sign, value in _MATCH_KEY.findall(rule))
        when = ", ".join(keys)
        for key, command in _RUN_KEY.findall(rule):
            start = of_line("udev", file, line, command, f"{key}: {when or 'each event'}"[:512], "root")
            program = command.split(" ")[0] if command.startswith("/") else ""
            yield start._replace(state=overridden, program=program)


def _modules(places: Places) -> Iterator[Start]:
    main = places.text("module", "/etc/modules")
    for line in meaningful(main.lines, "#;") if main is not None else ():
        if main is not None:
            yield of_line("module", main, line, line.text, "loaded at boot")
    for file, overridden in _named_once(places, "module", "modules-load.d", ".conf"):
        if main is not None and file.attributes == main.attributes:
            continue  # Debian's modules.conf is a link to /etc/modules
        for line in meaningful(file.lines, "#;"):
            yield of_line("module", file, line, line.text, "loaded at boot")._replace(state=overridden)
    for file, overridden in _named_once(places, "modprobe", "modprobe.d", ".conf"):
        for line in joined(file.lines):
            words = line.text.split(None, 2)
            if words[0] in ("install", "remove") and len(words) == 3:
                when = f"{words[0]} of module {words[1]}"
                yield of_line("modprobe", file, line, words[2], when, "root")._replace(state=overridden)
            elif words[0] == "softdep" and len(words) == 3:
                yield of_line("modprobe", file, line, words[2], f"with module {words[1]}")._replace(
                    state=overridden
                )


def _kernel(places: Places) -> Iterator[Start]:
    for path, when in (*_HELPERS, *_release_agents(places)):
        value = _setting(places, path)
        if isinstance(value, Unavailable):
            yield Start("kernel helper", path, None, value, when, lack=value)
            continue
        if value in ("", "core") or ("core_pattern" in path and not value.startswith("|")):
            continue
        is_usual = value in _USUAL_HELPERS
        state = UNTOUCHED if is_usual else "in force"
        program = value.lstrip("|").split(" ")[0]
        start = Start("kernel helper", path, None, value, when, "root", state, program=program)
        yield start if is_usual or _OF_SYSTEMD.search(value) else start.marked("unusual helper")
    yield from _running_formats(places)
    main = places.text("sysctl", "/etc/sysctl.conf")
    files = [(main, None)] if main is not None else []
    for file, overridden in (*files, *_named_once(places, "sysctl", "sysctl.d", ".conf")):
        for line in meaningful(file.lines, "#;"):
            match = _SETTINGS.fullmatch(line.text)
            if match is not None and (match[2].startswith("|") or "core_pattern" not in match[1]):
                start = of_line("sysctl", file, line, match[2], f"sets {match[1]}", "root")
                yield start._replace(state=overridden)


def _setting(places: Places, path: str) -> str | Unavailable:
    """What a file of the kernel's says; empty if there is none."""
    try:
        return places.files.read(path).decode("utf-8", "surrogateescape").strip("\0\n ")
    except UNREADABLE as error:
        return "" if is_absent(error) else why(path, error)


def _release_agents(places: Places) -> Iterator[tuple[str, str]]:
    """What the hierarchies of control groups (the first version) run when a group is empty
    (kernel/cgroup/cgroup-v1.c)."""
    folder = list_folder(places.files, _CGROUPS)
    for path in folder.paths() if folder is not None else ():
        yield f"{path}/release_agent", "when a control group is empty"


def _running_formats(places: Places) -> Iterator[Start]:
    """The handlers of formats that are registered (fs/binfmt_misc.c)."""
    folder = list_folder(places.files, _FORMATS)
    for path in folder.paths() if folder is not None else ():
        name = path.rpartition("/")[2]
        if name in ("register", "status"):
            continue
        value = _setting(places, path)
        if isinstance(value, Unavailable):
            yield Start("binfmt", path, None, value, lack=value)
            continue
        state, _newline, rest = value.partition("\n")
        words = dict(line.split(" ", 1) for line in rest.splitlines() if " " in line)
        program = words.get("interpreter", "")
        start = Start("binfmt", path, None, program, f"to run files of the format {name}"[:256], state=state)
        start = start._replace(program=program if program.startswith("/") else "")
        yield start.marked("runs with the rights of the file" if "C" in words.get("flags:", "") else "")


def _desktop(places: Places) -> Iterator[Start]:
    folders = [("/etc/xdg/autostart", "each user")]
    folders += [(f"{home.rstrip('/')}/.config/autostart", account.name) for home, account in places.homes]
    for folder, user in folders:
        for file in places.texts("autostart", (folder,), ".desktop"):
            hidden = any(re.fullmatch(r"Hidden\s*=\s*true", line.text.strip()) for line in file.lines)
            for line in meaningful(file.lines):
                match = _EXEC.fullmatch(line.text)
                if match is not None and line.text.startswith("Exec"):
                    start = of_line(
                        "autostart", file, line, match[1], "when a graphical session starts", user
                    )
                    yield start._replace(state="hidden" if hidden else None)


def _formats(places: Places) -> Iterator[Start]:
    for file, overridden in _named_once(places, "binfmt", "binfmt.d", ".conf"):
        for line in meaningful(file.lines, "#;"):
            fields = line.text.split(line.text[0])
            interpreter = fields[6] if len(fields) > 6 else line.text
            start = of_line(
                "binfmt", file, line, interpreter, f"to run files of the format {fields[1]}"[:256]
            )
            yield start._replace(state=overridden, program=interpreter if interpreter.startswith("/") else "")


def _packages(places: Places) -> Iterator[Start]:
    for file in places.texts("package manager", ("/etc/apt/apt.conf.d",)):
        yield from package_hooks(file)


def package_hooks(file: TextFile) -> Iterator[Start]:
    """What apt runs before and after its work."""
    for line in meaningful(file.lines, "#/"):
        for when, command in _HOOK.findall(line.text[:MAX_TEXT]):
            yield of_line("package manager", file, line, command, when, "root")


def _services(places: Places) -> Iterator[Start]:
    for folder in (
        "/usr/share/dbus-1/system-services",
        "/etc/dbus-1/system-services",
        "/run/dbus-1/system-services",
    ):
        for file in places.texts("D-Bus service", (folder,), ".service"):
            for line in meaningful(file.lines):
                match = _EXEC.fullmatch(line.text)
                if match is not None:
                    yield of_line("D-Bus service", file, line, match[1], "when it is asked for", "root")
    file_ = places.text("inetd", "/etc/inetd.conf")
    for line in meaningful(file_.lines) if file_ is not None else ():
        fields = line.text.split(None, 6)
        if len(fields) > 5 and file_ is not None:
            yield of_line(
                "inetd",
                file_,
                line,
                " ".join(fields[5:]),
                f"connection to {fields[0]}/{fields[2]}",
                fields[4],
            )
