"""hooks: what the guest's own files name, nothing suspected in clean guests, and forged lists."""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attacks import ask, edited
from default_run import in_default_run
from generations import ALL_MODULES, GENERATIONS, SERVERS, Lab
from image_editor import Editor

from hybridbridge_vol import tools
from hybridbridge_vol.bridge.objects import typed_memory
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.check.modules.linked_module import TEXT
from hybridbridge_vol.check.symbol_names import listed_modules
from hybridbridge_vol.errors import OptionError
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.provenance import with_provenance
from hybridbridge_vol.tools.kernel_hooks.all_kinds import NO_TABLE
from hybridbridge_vol.tools.kernel_hooks.names import KernelNames
from samples.make import Spec, make_sample

SAMPLE = "6.1 two CPUs"
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module", params=in_default_run(GENERATIONS, SAMPLE))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rows(lab: Lab, name: str) -> Rows:
    return ask(lab.session(name), "hooks")


def of_kind(rows: Rows, kind: str) -> Rows:
    return [row for row in rows if row["KIND"] == kind]


def told(lab: Lab, name: str, path: str) -> list[list[str]]:
    """The words of each line of a file, as the guest last read it."""
    return [line.split() for line in lab.sample(name).truth.late[path].data.decode().splitlines()]


def test_nothing_is_suspected_and_all_is_read_in_a_guest_that_nobody_attacked(rows: Rows) -> None:
    assert [row for row in rows if row["VERDICT"] != "trusted"] == []
    always = {
        "packet",
        "protocol",
        "notifier",
        "tty",
        "interrupt",
        "format",
        "security",
        "proc",
        "filesystem",
        "device",
        "sysfs",
        "descriptor",
    }
    assert {row["KIND"] for row in rows} >= always | {"timer", "kthread"}
    assert all(row["OBJECT"] >> 63 for row in rows)


def test_receivers_of_packets_are_those_of_the_guests_ptype(lab: Lab, name: str, rows: Rows) -> None:
    said = Counter(
        (words[0].replace("ALL", "0003"), words[-1 - words[-1].startswith("[")])
        for words in told(lab, name, "/proc/net/ptype")[1:]
    )
    shown = Counter(
        (found[1], row["SYMBOL"])
        for row in of_kind(rows, "packet")
        if (found := re.search(r"of type 0x(\w+)$", row["WHAT"])) and not row["SYMBOL"].endswith("_list_rcv")
        and " in net:" not in row["WHAT"]
    )  # fmt: skip
    assert said and shown == said


def test_protocols_and_file_systems_are_the_guests(lab: Lab, name: str, rows: Rows) -> None:
    said = {words[0] for words in told(lab, name, "/proc/net/protocols")[1:]}
    shown = {found[1] for row in rows if (found := re.match(r"protocol (\S+) ", row["WHAT"]))}
    assert shown == said
    said = {words[-1] for words in told(lab, name, "/proc/filesystems")}
    shown = {found[1] for row in rows if (found := re.match(r"file system type (\S+) ", row["WHAT"]))}
    assert shown == said


def test_devices_and_files_of_sys_are_the_guests(lab: Lab, name: str, rows: Rows) -> None:
    said = {words[1] for words in told(lab, name, "/proc/misc")}
    shown = {found[1] for row in rows if (found := re.fullmatch(r"device (\S+) \(file_op\w+\)", row["WHAT"]))}
    assert shown == said
    major, _name = zip(*(words for words in told(lab, name, "/proc/devices") if len(words) == 2), strict=True)
    shown = {found[1] for row in rows if (found := re.match(r"character device (\d+):", row["WHAT"]))}
    assert {"1", "4", "5"} <= shown <= set(major[1:])
    shown = {row["WHAT"].partition(" ")[0] for row in of_kind(rows, "sysfs") if "_attribute" in row["WHAT"]}
    assert len(shown) > 300
    # links of other network namespaces are not in the first one's /sys
    for path in sorted(path for path in shown if "/net/" not in path)[::40]:
        assert stat.S_ISREG(lab.session(name).files.stat(path).mode)


def test_line_disciplines_and_interrupts_are_the_guests(lab: Lab, name: str, rows: Rows) -> None:
    said = {number for _discipline, number in told(lab, name, "/proc/tty/ldiscs")}
    shown = {found[1] for row in rows if (found := re.match(r"line discipline (\d+) ", row["WHAT"]))}
    assert shown == said
    handlers = {
        (words[0][:-1], words[-1]) for words in told(lab, name, "/proc/interrupts") if words[0][:-1].isdigit()
    }
    matches = (re.match(r"interrupt (\d+) (\S+) \(handler\)", row["WHAT"]) for row in rows)
    assert {(match[1], match[2]) for match in matches if match} >= handlers


def test_timers_are_those_that_the_kernels_own_code_lists(lab: Lab, name: str, rows: Rows) -> None:
    """/proc/timer_list of the image, which the trusted kernel's code makes."""
    text = lab.session(name).files.read("/proc/timer_list").decode()
    said = Counter(re.findall(r"^ #\d+: <\w+>, (\w+), S:01$", text, re.MULTILINE))
    shown = Counter(row["SYMBOL"] for row in rows if row["WHAT"].startswith("high-resolution timer"))
    assert said and shown == said


def test_kernel_threads_are_those_that_ps_lists(lab: Lab, name: str, rows: Rows) -> None:
    session = lab.session(name)
    said = {
        row["PID"]
        for row in ask(session, "ps", columns=None, threads=False)
        if row["PPID"] == 2 or row["PID"] == 2
    }
    found = (re.match(r"kernel thread (\d+) ", row["WHAT"]) for row in of_kind(rows, "kthread"))
    assert {int(match[1]) for match in found if match} == said


def test_kinds_are_chosen_and_an_unknown_one_is_named(lab: Lab) -> None:
    session = lab.session(SAMPLE)
    assert {row["KIND"] for row in ask(session, "hooks", kind=("tty", "format"))} == {"tty", "format"}
    with pytest.raises(OptionError, match="--kind nothing: there are ftrace, kprobe"):
        ask(session, "hooks", kind=("nothing",))


def test_a_probe_of_the_guests_own_is_shown_with_the_kernels_handler(lab: Lab) -> None:
    """`kprobe_events` of samples/guest/pseudo_init.sh: somebody watches, and the handler is the kernel's."""
    lab.sample(SAMPLE)
    sample = make_sample(Spec("6.1-cloud", light=True, pseudo=True))
    with open_session(sample.dump, lab.store.root) as session:
        rows = ask(session, "hooks", kind=("kprobe", "ftrace"))
    assert {(row["KIND"], row["WHAT"], row["SYMBOL"], row["VERDICT"]) for row in rows} == {
        ("kprobe", "before __x64_sys_sethostname (kprobe)", "kprobe_dispatcher", "trusted"),
        ("ftrace", "calls of __x64_sys_sethostname", "kprobe_ftrace_handler", "trusted"),
    }


def test_provenance_is_where_the_pointer_stands_in_the_image(lab: Lab) -> None:
    sample = lab.sample(SAMPLE)
    tool = tools.load("hooks")
    options: dict[str, Any] = tool.defaults()
    options["kind"] = ("format", "netfilter", "notifier", "packet", "device")
    with open_session(sample.dump, lab.store.root, mode=Mode.SLOW) as session:
        rows = [row.cells for row in with_provenance(tool).rows(session, options)]
    assert len(rows) > 50
    image = sample.dump.read_bytes()
    placed = 0
    for row in rows:
        found = re.fullmatch(r"0x(\w+)\+8", str(row[-1]))
        if found:
            offset = int(found[1], 16)
            assert int.from_bytes(image[offset : offset + 8], "little") == row[2]
            placed += 1
    assert placed > len(rows) * 0.8  # a format is a table itself, to which no pointer leads


# --- forged lists -----------------------------------------------------------------------------------------


@pytest.fixture
def asked(lab: Lab, tmp_path: Path) -> Callable[..., Rows]:
    """What some kinds say of an edited copy of the image."""

    def ask_edited(edit: Callable[[Editor], None], *kinds: str) -> Rows:
        with edited(lab.session(SAMPLE), lab.store.root, tmp_path / "edited.raw", edit) as session:
            return ask(session, "hooks", kind=kinds)

    return ask_edited


def reasons(rows: Rows) -> list[str]:
    return [row["WHAT"].reason for row in rows if isinstance(row["WHAT"], Unavailable)]


def place(session: Session, symbol: str) -> int:
    return session.bridge.snapshot(symbol)


def test_a_pointer_to_the_room_behind_a_modules_code_is_found(lab: Lab, asked: Callable[..., Rows]) -> None:
    """Nothing of the module's is there, and what is there is executable."""
    line = lab.session(SAMPLE).files.read("/proc/modules").decode().splitlines()[0].split()
    name, start = line[0], int(line[5], 16)
    names = KernelNames(lab.session(SAMPLE).bridge, listed_modules(lab.session(SAMPLE)))
    target = start + len(names.modules.by_name[name].linked.segments[TEXT]) + 16

    def edit(editor: Editor) -> None:
        editor.write(place(editor.session, "pm_power_off"), target)

    (row,) = (row for row in asked(edit, "pointer") if row["KIND"] == "pointer")
    assert (row["WHAT"], row["FUNCTION"], row["MODULE"]) == ("pm_power_off", target, name)
    assert row["VERDICT"] == "behind the module's code"


def test_a_cyclic_list_ends_and_is_reported_and_the_others_are_whole(
    lab: Lab, asked: Callable[..., Rows]
) -> None:
    before = ask(lab.session(SAMPLE), "hooks", kind=("notifier", "format"))

    def edit(editor: Editor) -> None:
        first = editor.read(place(editor.session, "die_chain") + 8)
        editor.write(first + 8, first)  # notifier_block.next

    after = asked(edit, "notifier", "format")
    assert [reason for reason in reasons(after) if "die_chain: a list leads back into itself" in reason]
    others = [row for row in before if "die_chain" not in str(row["WHAT"])]
    assert [row for row in after if row in others] == others


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (0x4141, "leads out of the kernel, to 0x4141"),
        (0xFFFF_8000_0000_0000, "does not hold virtual address"),
        (0x7FFF_FFFF_F000, "leads out of the kernel"),
    ],
)
def test_a_pointer_to_nowhere_costs_its_own_list(
    asked: Callable[..., Rows], target: int, reason: str
) -> None:
    def edit(editor: Editor) -> None:
        editor.write(place(editor.session, "formats"), target)

    after = asked(edit, "format", "tty")
    assert reasons(after) and all(reason in one for one in reasons(after))
    assert of_kind(after, "tty")


def test_lists_that_lead_to_one_another_are_not_followed_for_ever(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typed_memory, "MAX_READS", 500)
    rows = ask(lab.session(SAMPLE), "hooks", kind=("proc", "format"))
    assert reasons(of_kind(rows, "proc")) and not reasons(of_kind(rows, "format"))
    assert any("more lists than can be followed" in reason for reason in reasons(rows))


def test_every_word_of_a_list_may_be_forged(lab: Lab, asked: Callable[..., Rows]) -> None:
    """A binary format at random bytes of the image: rows or reasons, no failure."""

    def edit(editor: Editor) -> None:
        editor.write(place(editor.session, "formats"), place(editor.session, "_text") + 0x100)

    assert of_kind(asked(edit, "format"), "format")


def test_a_handler_in_the_middle_of_a_function_or_in_data_is_suspected(
    lab: Lab, asked: Callable[..., Rows]
) -> None:
    inside = place(lab.session(SAMPLE), "commit_creds") + 1
    data = place(lab.session(SAMPLE), "init_task")
    verdicts = {
        inside: "inside of a function",
        data: "not in the kernel's code",
        0xFFFF_FFFF_C0DE_0000: "no module: in the area for modules",
        0x1000: "no module: in no code",
    }
    for target, verdict in verdicts.items():

        def edit(editor: Editor, target: int = target) -> None:
            editor.write(editor.read(place(editor.session, "die_chain") + 8), target)

        wrong = [row for row in asked(edit, "notifier") if row["VERDICT"] != "trusted"]
        assert [(row["FUNCTION"], row["VERDICT"]) for row in wrong] == [(target, verdict)]


def test_one_socket_that_is_worked_with_otherwise_is_suspected(lab: Lab, asked: Callable[..., Rows]) -> None:
    def of(field: str) -> dict[str, Any]:
        rows = ask(lab.session(SAMPLE), "hooks", kind=("descriptor",))
        return next(row for row in rows if row["WHAT"].endswith(f"({field})"))

    types = typed_memory.TypedMemory(lab.session(SAMPLE).bridge).types
    for field, place_of in (("sk_data_ready", ("sock", "sk_data_ready")), ("proto_ops", ("socket", "ops"))):
        usual = of(field)

        def edit(editor: Editor, usual: dict[str, Any] = usual, where: tuple[str, str] = place_of) -> None:
            editor.write(usual["OBJECT"] + types.offset(*where), place(editor.session, "init_task") + 64)

        wrong = [row for row in asked(edit, "descriptor") if row["VERDICT"] != "trusted"]
        assert wrong and all(row["WHAT"].startswith(usual["WHAT"].split(" (")[0]) for row in wrong)


def test_a_table_of_words_that_are_no_addresses_is_one_row(lab: Lab, asked: Callable[..., Rows]) -> None:
    """In a smeared image the descriptors of a process led to thousands of hooked functions."""
    rows = ask(lab.session(SAMPLE), "hooks", kind=("descriptor",))
    usual = next(row for row in rows if row["WHAT"].endswith("(proto_ops)"))
    types = typed_memory.TypedMemory(lab.session(SAMPLE).bridge).types

    def edit(editor: Editor) -> None:
        text = place(editor.session, "init_uts_ns")
        editor.write(usual["OBJECT"] + types.offset("socket", "ops"), text)

    (row,) = (row for row in asked(edit, "descriptor") if row["VERDICT"] != "trusted")
    assert (row["WHAT"], row["VERDICT"]) == (usual["WHAT"], Unavailable(NO_TABLE))


def test_a_handler_whose_code_was_changed_is_suspected(lab: Lab, asked: Callable[..., Rows]) -> None:
    def edit(editor: Editor) -> None:
        function = editor.read(editor.read(place(editor.session, "die_chain") + 8))
        jump = int.from_bytes(b"\xe9\x00\x10\x00\x00\x90\x90\x90", "little")
        editor.write(function, jump)

    (row,) = (row for row in asked(edit, "notifier") if row["VERDICT"] != "trusted")
    assert row["VERDICT"] == "its code is changed (text)"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SERVERS, *ALL_MODULES])
def test_nothing_is_suspected_or_hidden_where_many_modules_are_loaded(lab: Lab, name: str) -> None:
    session = lab.session(name)
    assert ask(session, "hooks", suspicious=True) == []
    assert ask(session, "hidden") == []
