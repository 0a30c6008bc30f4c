"""security: security modules, their policies, and the kernel's settings that guard it."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ECONNREFUSED, EPROTONOSUPPORT
from typing import ClassVar

from hybridbridge_vol.errors import ParseError
from hybridbridge_vol.guest.kernel import Files, GuestKernel
from hybridbridge_vol.procfs.pid import text
from hybridbridge_vol.procfs.sources import Source, lines
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.reading import UNREADABLE, read_answer, why
from hybridbridge_vol.toolkit.tool import Column, Option, Options, Row, Tool
from hybridbridge_vol.tools.host.text_file import is_absent, list_folder, read_text

_SECURITY = "/sys/kernel/security"
_STATES = (
    ("lsm", f"{_SECURITY}/lsm"), ("lockdown", f"{_SECURITY}/lockdown"),
    ("apparmor enabled", "/sys/module/apparmor/parameters/enabled"),
    ("apparmor mode", "/sys/module/apparmor/parameters/mode"),
    ("selinux enforce", "/sys/fs/selinux/enforce"), ("selinux policyvers", "/sys/fs/selinux/policyvers"),
    ("ima violations", f"{_SECURITY}/ima/violations"),
    ("ima runtime_measurements_count", f"{_SECURITY}/ima/runtime_measurements_count"),
    ("evm", f"{_SECURITY}/evm"),
)  # fmt: skip
"""What security modules say of themselves; a file that the kernel does not have is left out."""
_POLICIES = (
    ("apparmor profile", f"{_SECURITY}/apparmor/profiles"),
    ("tomoyo stat", f"{_SECURITY}/tomoyo/stat"),
    ("smack rule", "/sys/fs/smackfs/load2"),
)
"""Lists, a row for each line."""
_SETTINGS = (
    "kernel/yama/ptrace_scope", "kernel/kptr_restrict", "kernel/dmesg_restrict", "kernel/randomize_va_space",
    "kernel/unprivileged_bpf_disabled", "kernel/unprivileged_userns_clone", "kernel/perf_event_paranoid",
    "kernel/modules_disabled", "kernel/kexec_load_disabled", "kernel/sysrq", "kernel/tainted",
    "kernel/ftrace_enabled", "kernel/kprobes-optimization", "net/core/bpf_jit_harden",
    "net/core/bpf_jit_enable", "fs/protected_hardlinks", "fs/protected_symlinks", "fs/protected_fifos",
    "fs/protected_regular", "fs/suid_dumpable", "user/max_user_namespaces", "vm/mmap_min_addr",
)  # fmt: skip
_PARAMETERS = ("/sys/module/module/parameters/sig_enforce", "/sys/kernel/kexec_loaded")
_AUDIT_FILES = ("/etc/audit/audit.rules", "/etc/audit/auditd.conf")
_AUDIT_FOLDER = "/etc/audit/rules.d"
MAX_LINES = 1 << 16
"""Lines of one list."""


class Security(Tool):
    name = "security"
    help = "Security modules, their profiles, audit's state and rules, and settings that guard the kernel"
    notes = (
        "What the guest's kernel writes in securityfs, selinuxfs, /sys and /proc/sys, also where the guest "
        "had not mounted them; a file that its kernel does not have makes no row. The state and the rules of "
        "audit that are in force are the kernel's own answer, as `auditctl -s` and `-l` print it; those "
        "behind them are of the guest's files, which say what is loaded at boot."
    )
    example = ""
    options = (Option("kind", str, "only this kind: state, policy, setting, audit", short="k"),)
    columns: ClassVar[tuple[Column, ...]] = (
        Column("KIND", "str", "state, policy, setting, audit"),
        Column("NAME", "str", "what it is"),
        Column("VALUE", "str", "what the file says; of `lockdown` the mode in force stands in []"),
        Column("FILE", "str", "the file that says so; empty for what the kernel was asked"),
        Column("LINE", "int", "line in that file, of lists"),
    )

    def rows(self, kernel: GuestKernel, options: Options) -> Iterator[Row]:
        for row in _rows(kernel):
            if options["kind"] in (None, row.cells[0]):
                yield row


def _rows(kernel: GuestKernel) -> Iterator[Row]:
    files = kernel.files
    for name, path in _STATES:
        yield from _whole(files, "state", name, path)
    for name, path in _POLICIES:
        yield from _by_lines(files, name, path)
    for name in _SETTINGS:
        yield from _whole(files, "setting", name.replace("/", "."), f"/proc/sys/{name}")
    for path in _PARAMETERS:
        yield from _whole(files, "setting", path.rpartition("/")[2], path)
    yield from _in_force(kernel)
    folder = list_folder(files, _AUDIT_FOLDER)
    if folder is not None and folder.lack is not None:
        yield Row(("audit", None, folder.lack, folder.path, None))
    for path in (*_AUDIT_FILES, *(folder.paths() if folder is not None else ())):
        yield from _of_audit(files, path)


def _whole(files: Files, kind: str, name: str, path: str) -> Iterator[Row]:
    """A file of one value."""
    try:
        value = text(files.read(path)).strip("\0\n ")
    except UNREADABLE as error:
        if not is_absent(error):
            yield Row((kind, name, why(path, error), path, None))
        return
    yield Row((kind, name, value, path, None), sources=(Source(path),))


def _by_lines(files: Files, name: str, path: str) -> Iterator[Row]:
    try:
        data = files.read(path)
    except UNREADABLE as error:
        if not is_absent(error):
            yield Row(("policy", name, why(path, error), path, None))
        return
    for number, (line, source) in enumerate(lines(path, data), 1):
        if number > MAX_LINES:
            yield Row(("policy", name, Unavailable(f"{path}: more than {MAX_LINES:,} lines"), path, None))
            return
        yield Row(("policy", name, text(line), path, number), sources=(source,))


def _in_force(kernel: GuestKernel) -> Iterator[Row]:
    """The state and the rules of audit; nothing of a kernel without it."""
    # with the symbols of the kernel's calls: Volatility imports every tool to list its options
    from hybridbridge_vol.netlink import audit
    from hybridbridge_vol.tools.system.call_names import CallNames

    try:
        data = kernel.netlink.dump(audit.STATE)
    except UNREADABLE as error:
        if not (isinstance(error, OSError) and error.errno in (ECONNREFUSED, EPROTONOSUPPORT)):
            yield Row(("audit", None, why(audit.STATE.source, error), None, None))
        return
    for state, source in audit.state(data):
        if isinstance(state, ParseError):
            yield Row(("audit", None, Unavailable(str(state)), None, None), sources=(source,))
        else:
            for name, value in state.items():
                yield Row(("audit", name, str(value), None, None), sources=(source,))
    data, gap = read_answer(audit.RULES.source, lambda: kernel.netlink.dump(audit.RULES))
    names = CallNames(kernel.bridge)
    for rule, source in audit.rules(data):
        text_ = Unavailable(str(rule)) if isinstance(rule, ParseError) else audit.rule_text(rule, names.name)
        yield Row(("audit", "rule", text_, None, None), sources=(source,))
    if gap is not None:
        yield Row(("audit", "rule", gap, None, None))


def _of_audit(files: Files, path: str) -> Iterator[Row]:
    found = read_text(files, path)
    if found is None:
        return
    for line in found.lines:
        if line.text.strip() and not line.text.lstrip().startswith("#"):
            source = Source(path, line.start, line.end)
            yield Row(("audit", None, line.text.strip(), path, line.number), sources=(source,))
    if found.lack is not None:
        yield Row(("audit", None, found.lack, path, None))


TOOL = Security()
