"""An image with more than one kernel: what kexec and kdump leave, and what somebody planted.

The guests start the same kernel, or another version, in their own place; their host names tell which of the
two answers.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from default_run import in_default_run
from ending_guest import Ending, ended, image_of
from generations import Lab
from saved_state import save_state
from several_kernels import KEXEC, PLANTED_AT, after_kexec, choice_and_kernel, choice_of, hb
from vmware_writer import control_registers, regions, state

from hybridbridge_vol.errors import AttachError, HybridBridgeWarning, KernelNotStored, OptionError
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.memory_image.open import open_image
from hybridbridge_vol.snapshot.find_kernel import find_kernels
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.trust.stored_kernel import StoredKernel
from hybridbridge_vol.workflow.describe_image import describe

KDUMP = Ending("6.1-cloud", "kdump", next_kernel="6.1-cloud", append="crashkernel=112M", ram=512 << 20)
_TABLE_SIZE = 4096
_LARGE_ENTRIES = 512


@pytest.fixture(scope="module")
def store(lab: Lab) -> Store:
    """A store that trusts the guests' kernel."""
    lab.sample("6.1 two CPUs")
    return lab.store


def opened(path: Path, store: Store, kernel_at: int | None = None) -> Session:
    """A session, whose notes are warnings."""
    with pytest.warns(HybridBridgeWarning):
        return open_session(path, store.root, kernel_at=kernel_at)


def test_after_kexec_the_kernel_that_runs_answers_and_says_that_there_are_two(store: Store) -> None:
    path = after_kexec(store) / "dump.raw"
    choice = choice_of(path, store)
    assert len(choice.kernels) == 2
    (left,) = (kernel for kernel in choice.kernels if kernel is not choice.chosen)
    assert left.evidence.state.left_by_kexec
    with opened(path, store) as session:
        assert session.system.uname().nodename == "second"
        assert session.files.read("/proc/1/comm") == b"init\n"
        assert any(
            "2 kernels" in note and f"{left.found.text_paddr:#x}" in note and "kexec" in note
            for note in session.notes
        )
    facts = describe(path, store.root)
    assert (facts.hostname, facts.state, facts.missing) == ("second", "running", ())
    assert facts.text_paddr == choice.chosen.found.text_paddr
    assert any("--kernel-at" in note for note in facts.notes)


def test_registers_of_the_images_cpus_tell_which_kernel_runs(store: Store) -> None:
    folder = after_kexec(store)
    choice = choice_of(folder / "dump.kdump", store)
    assert choice.chosen.found == choice_of(folder / "dump.raw", store).chosen.found
    assert choice.chosen.evidence.on_cpus == 1
    assert {kernel.evidence.on_cpus for kernel in choice.kernels} == {0, 1}


@pytest.mark.slow
def test_registers_in_a_state_that_qemu_saved_tell_it_too(store: Store, tmp_path: Path) -> None:
    with ended(KEXEC, tmp_path, can_be_saved=True) as guest:
        save_state(guest, "state.qevm")
        said = str(guest.command("human-monitor-command", {"command-line": "info registers -a"}))
    path = tmp_path / "state.qevm"
    with open_image(path) as image:
        assert [cpu.cr3 for cpu in image.cpus] == [int(word, 16) for word in re.findall(r"CR3=(\w+)", said)]
        assert all(cpu.cr3 for cpu in image.cpus)
    choice = choice_of(path, store)
    assert choice.chosen.evidence.on_cpus == 1
    assert {kernel.evidence.on_cpus for kernel in choice.kernels} == {0, 1}
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.slow
def test_registers_in_a_state_of_vmware_tell_it_too(store: Store, tmp_path: Path) -> None:
    folder = after_kexec(store)
    with open_image(folder / "dump.kdump") as image:
        cpus = [cpu.cr3 for cpu in image.cpus]
    (tmp_path / "vm.vmem").symlink_to(folder / "dump.raw")
    (tmp_path / "vm.vmss").write_bytes(state(regions([(0, KEXEC.ram, 0)]), cpus=control_registers(cpus)))
    for name in ("vm.vmem", "vm.vmss"):
        choice = choice_of(tmp_path / name, store)
        assert {kernel.evidence.on_cpus for kernel in choice.kernels} == {0, 1}
        assert choice.chosen.evidence.on_cpus == 1


def test_the_kernel_that_is_asked_for_answers_and_its_flaws_are_said(store: Store) -> None:
    path = after_kexec(store) / "dump.raw"
    choice = choice_of(path, store)
    (left,) = (kernel for kernel in choice.kernels if kernel is not choice.chosen)
    asked = choice_of(path, store, left.found.text_paddr)
    assert asked.chosen.found == left.found
    assert any("chosen by --kernel-at" in note for note in asked.notes)
    assert not left.evidence.flaws or any("not sound" in note for note in asked.notes)
    with pytest.raises(OptionError) as refused:
        open_session(path, store.root, kernel_at=left.found.text_paddr + 4096)
    for kernel in choice.kernels:
        assert f"{kernel.found.text_paddr:#x}" in str(refused.value)


# --- planted copies ---------------------------------------------------------------------------------------


@pytest.fixture
def planted(store: Store, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Images of the guest after kexec in which the running kernel has a copy, changed by a function that is
    given the kernel, its bytes, and by how much it was moved."""

    def make(change: Callable[[StoredKernel, bytearray, int], None] = lambda *_: None) -> Path:
        path = tmp_path / "planted.raw"
        subprocess.run(["cp", "--sparse=always", after_kexec(store) / "dump.raw", path], check=True)
        choice, kernel = choice_and_kernel(path, store)
        place = choice.chosen.found.text_paddr
        for other in choice.kernels:  # one copy and the original are enough
            if other is not choice.chosen:
                _erase_banner(path, kernel, other.found.text_paddr)
        with open(path, "r+b") as stream:
            stream.seek(place)
            content = bytearray(stream.read(kernel.size))
            change(kernel, content, PLANTED_AT - place)
            stream.seek(PLANTED_AT)
            stream.write(content)
        return path

    yield make
    shutil.rmtree(tmp_path, ignore_errors=True)


def _erase_banner(path: Path, kernel: StoredKernel, text_paddr: int) -> None:
    with open(path, "r+b") as stream:
        stream.seek(text_paddr + kernel.banner_link_vaddr - kernel.text_link_vaddr)
        stream.write(bytes(64))


def without_cpus(kernel: StoredKernel, content: bytearray, distance: int) -> None:
    """The same, and it says that it has no CPUs, so that nobody looks at their page tables."""
    moved_place(kernel, content, distance)
    for name in ("__cpu_online_mask", "__cpu_active_mask"):
        mask = kernel.symbols.address(name) - kernel.text_link_vaddr
        content[mask : mask + 8] = bytes(8)


def moved_place(kernel: StoredKernel, content: bytearray, distance: int) -> None:
    """Make the copy say that it was loaded where it lies, and its page tables lead there."""
    base = kernel.symbols.address("phys_base") - kernel.text_link_vaddr
    _add(content, base, distance)
    for name in ("init_top_pgt", "level3_kernel_pgt"):
        table = kernel.symbols.address(name) - kernel.text_link_vaddr
        first = _LARGE_ENTRIES - 2 if name == "level3_kernel_pgt" else _LARGE_ENTRIES - 1
        for slot in range(first, _LARGE_ENTRIES):
            _add(content, table + 8 * slot, distance)
    table = kernel.symbols.address("level2_kernel_pgt") - kernel.text_link_vaddr
    for slot in range(_LARGE_ENTRIES):
        if content[table + 8 * slot] & 1:
            _add(content, table + 8 * slot, distance)


def _add(content: bytearray, offset: int, distance: int) -> None:
    word = int.from_bytes(content[offset : offset + 8], "little")
    content[offset : offset + 8] = ((word + distance) % (1 << 64)).to_bytes(8, "little")


@pytest.mark.parametrize(
    "change", [lambda *_: None, moved_place, without_cpus], ids=["verbatim", "moved", "without CPUs"]
)
def test_a_planted_copy_is_told_from_the_kernel_that_runs(
    store: Store, planted: Callable[..., Path], change: Callable[[StoredKernel, bytearray, int], None]
) -> None:
    path = planted(change)
    choice = choice_of(path, store)
    assert [kernel.found.text_paddr == PLANTED_AT for kernel in choice.kernels] == [False, True]
    original, copy = choice.kernels
    assert choice.chosen is original and original.evidence.is_sound and original.evidence.has_tasks
    assert copy.found.agreement == 1.0 and not copy.evidence.is_sound
    if change is moved_place:  # only the tables of its tasks betray it
        assert copy.evidence.flaws == ("the page tables of its tasks map another",)
    with opened(path, store) as session:
        assert session.system.uname().nodename == "second"


@pytest.mark.parametrize(
    "word", in_default_run([0, 0x4141414141414141, (1 << 64) - 8, 0xFFFFEA0000000008], (1 << 64) - 8)
)
def test_a_copy_whose_list_of_page_tables_is_forged_is_not_chosen(
    store: Store, planted: Callable[..., Path], word: int
) -> None:
    """Whatever its list says, tasks have the page tables that map the original."""

    def change(kernel: StoredKernel, content: bytearray, distance: int) -> None:
        moved_place(kernel, content, distance)
        place = kernel.symbols.address("pgd_list") - kernel.text_link_vaddr
        content[place : place + 8] = word.to_bytes(8, "little")

    choice = choice_of(planted(change), store)
    original, copy = choice.kernels
    assert choice.chosen is original and not copy.evidence.has_tasks


def test_where_no_kernel_is_sound_nothing_is_answered(store: Store, planted: Callable[..., Path]) -> None:
    path = planted()
    original, kernel = choice_and_kernel(path, store)
    _erase_banner(path, kernel, original.chosen.found.text_paddr)
    with pytest.raises(AttachError, match=r"no kernel in it is sound: 0x10000000 .* --kernel-at"):
        open_session(path, store.root)
    with opened(path, store, PLANTED_AT) as session:
        assert any("not sound" in note for note in session.notes)


def test_the_command_line_says_in_a_note_that_there_are_two_and_takes_the_one_that_is_asked_for(
    store: Store,
) -> None:
    path = after_kexec(store) / "dump.raw"
    choice = choice_of(path, store)
    (left,) = (kernel for kernel in choice.kernels if kernel is not choice.chosen)
    status, out, err = hb("run", path, "hostname", "--store", store.root)
    assert status == 0 and "second" in out.split()
    place = f"{choice.chosen.found.text_paddr:#x}"
    assert err.startswith(f"hb: {path}: the image holds 2 kernels; this is {place} ")
    assert hb("run", path, "hostname", "--kernel-at", place, "--store", store.root)[:2] == (0, out)
    status, out, _err = hb("info", path, "--kernel-at", f"{left.found.text_paddr:#x}", "--store", store.root)
    # what the second kernel has overwritten of the first is chance
    assert status == 0 and re.search(r"^Text \(physical\): +0x", out, re.MULTILINE)
    assert "chosen by --kernel-at" in out
    status, out, err = hb("run", path, "ps", "--kernel-at", "0x1000", "--store", store.root)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "no kernel at physical address 0x1000" in err


def test_a_batch_keeps_the_note_and_examines_the_kernel_that_is_asked_for(
    store: Store, tmp_path: Path
) -> None:
    path = after_kexec(store) / "dump.raw"
    choice = choice_of(path, store)
    (left,) = (kernel for kernel in choice.kernels if kernel is not choice.chosen)
    batch = ("batch", path, "--out", tmp_path / "out", "--tools", "hostname", "--format", "jsonl")
    notes = []
    for options in ((), ("--kernel-at", f"{left.found.text_paddr:#x}")):
        hb(*batch, "--store", store.root, *options)
        (record,) = map(json.loads, (tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
        notes.append(record["notes"])
    assert f"this is {choice.chosen.found.text_paddr:#x} " in notes[0]
    assert f"this is {left.found.text_paddr:#x} " in notes[1] and "chosen by --kernel-at" in notes[1]


# --- more guests ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_after_kexec_into_another_version_the_other_answers(lab: Lab, store: Store, tmp_path: Path) -> None:
    path = image_of(Ending("6.1-cloud", "kexec", next_kernel="6.12-cloud")) / "dump.raw"
    lab.sample("6.12")
    facts = describe(path, store.root)
    assert facts.hostname == "second" and "6.12" in facts.banner
    only = tmp_path / "only"
    entry = next(kernel for kernel in store.kernels() if kernel.release.startswith("6.1."))
    shutil.copytree(entry.folder, only / entry.name)
    with pytest.raises(KernelNotStored, match=r"no trusted kernel for .Linux version 6\.12.*hb trust add"):
        open_session(path, only)


@pytest.mark.slow
def test_the_capture_kernel_of_kdump_answers_and_the_crashed_one_can_be_chosen(store: Store) -> None:
    path = image_of(KDUMP) / "dump.raw"
    choice = choice_of(path, store)
    assert choice.chosen.evidence.state.is_capture_kernel
    (crashed,) = (kernel for kernel in choice.kernels if kernel is not choice.chosen)
    assert crashed.evidence.state.crashed_on == 0 and crashed.evidence.is_sound
    with opened(path, store) as session:
        assert session.system.uname().nodename == "second"
    with opened(path, store, crashed.found.text_paddr) as session:
        assert session.system.uname().nodename == "first"
        assert b"sysrq" in session.system.syslog(3, 1 << 20)
    found = [found for _index, found in find_kernels_of(path, store)]
    assert found == [kernel.found for kernel in choice.kernels]


def find_kernels_of(path: Path, store: Store) -> list[tuple[int, object]]:
    with open_image(path) as image:
        return list(find_kernels(image, store.kernels()))
