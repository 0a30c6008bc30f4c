"""Programs of a folder that has a dynamic linker of its own are started by it, with its libraries."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from native_runs import Run

from hybridbridge_vol.native import environment
from hybridbridge_vol.native.own_libraries import is_below, needs_linker, own_libraries, program_below
from hybridbridge_vol.native.run import EMULATED, NATIVE

IMAGE = "6.12"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_LINKER = "ld-linux-x86-64.so.2"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder as another release has it: this machine's libc, with a linker that is another file; links as
    a root directory has them."""
    root = tmp_path / "tree"
    (root / _LIBRARIES).mkdir(parents=True)
    (root / "usr/bin").mkdir()
    (root / "lib64").symlink_to("/usr/lib64")
    (root / "usr/lib64").mkdir()
    (root / "usr/lib64" / _LINKER).symlink_to(f"/{_LIBRARIES}/{_LINKER}")
    (root / _LIBRARIES / _LINKER).write_bytes(Path(f"/lib64/{_LINKER}").read_bytes() + b"\0")
    (root / _LIBRARIES / _LINKER).chmod(0o755)
    shutil.copy(f"/{_LIBRARIES}/libc.so.6", root / _LIBRARIES)
    for program in ("cat", "dash"):
        shutil.copy(f"/usr/bin/{program}", root / "usr/bin")
    return root


def mapped(maps: bytes) -> set[str]:
    """The files that a process had mapped."""
    return {line.split(None, 5)[5] for line in maps.decode().splitlines() if " /" in line}


@pytest.mark.parametrize("user_mode", [NATIVE, EMULATED])
def test_a_program_has_the_linker_and_the_libc_of_its_folder(run: Run, tree: Path, user_mode: str) -> None:
    done = run(IMAGE, "cat /proc/self/maps /proc/version", tools=str(tree), user_mode=user_mode)
    assert done.status == 0 and b"Linux version 6.12" in done.stdout, done.stderr
    if user_mode == NATIVE:  # an emulated one has no file behind its mappings
        own = {f"{tree}/{_LIBRARIES}/{name}" for name in (_LINKER, "libc.so.6")}
        assert own <= mapped(done.stdout)
        assert not [name for name in mapped(done.stdout) if name.startswith(f"/{_LIBRARIES}/")]


def test_libraries_of_a_folder_that_has_them_in_two_places(run: Run, tree: Path) -> None:
    """As a release has them that has not merged /lib and /usr/lib: the linker looks for the first one in the
    folder of the second, and remembers whether there is such a folder."""
    first, second = tree / _LIBRARIES, tree / "lib/x86_64-linux-gnu"
    second.mkdir(parents=True)
    (first / "libc.so.6").rename(second / "libc.so.6")
    shutil.copy(f"/{_LIBRARIES}/libpcre2-8.so.0", first)
    shutil.copy("/usr/bin/grep", tree / "usr/bin")
    done = run(IMAGE, "grep . /proc/self/maps", tools=str(tree))
    assert done.status == 0, done.stderr
    assert {f"{first}/libpcre2-8.so.0", f"{second}/libc.so.6"} <= mapped(done.stdout)


def test_what_it_starts_is_this_machines(run: Run, tree: Path) -> None:
    done = run(IMAGE, "dash -c 'cat /proc/self/maps'", tools=str(tree))
    assert done.status == 0, done.stderr
    assert not [name for name in mapped(done.stdout) if name.startswith(str(tree))]


def test_a_program_of_this_machine_has_its_own_libc(run: Run, tree: Path) -> None:
    done = run(IMAGE, "head -c 1000000 /proc/self/maps", tools=str(tree))
    assert done.status == 0, done.stderr
    assert not [name for name in mapped(done.stdout) if name.startswith(str(tree))]


def test_a_folder_without_another_linker_has_no_libraries_of_its_own(tree: Path) -> None:
    found = own_libraries(str(tree))
    assert found is not None and found.linker == f"{tree}/{_LIBRARIES}/{_LINKER}"
    shutil.copy(f"/lib64/{_LINKER}", tree / _LIBRARIES / _LINKER)
    assert own_libraries(str(tree)) is None
    (tree / _LIBRARIES / _LINKER).unlink()
    assert own_libraries(str(tree)) is None
    assert own_libraries(None) is None


def test_the_links_of_a_folder_do_not_lead_out_of_it(tree: Path) -> None:
    (tree / "usr/lib64" / _LINKER).unlink()
    (tree / "usr/lib64" / _LINKER).symlink_to(f"../../../../../../{_LIBRARIES}/{_LINKER}")
    found = own_libraries(str(tree))
    assert found is not None and is_below(found.linker, str(tree))


def test_links_of_programs_are_followed_in_the_folder(tree: Path) -> None:
    """Debian 11 has /sbin/ip as a link to /bin/ip, and /usr/sbin/iptables as one to /etc/alternatives."""
    for name in ("bin", "sbin", "etc"):
        (tree / name).mkdir()
    shutil.copy("/usr/bin/cat", tree / "bin/uname")
    (tree / "sbin/uname").symlink_to("/bin/uname")
    (tree / "etc/many").symlink_to("/sbin/many-nft")
    (tree / "sbin/many").symlink_to("/etc/many")
    (tree / "sbin/many-nft").symlink_to("multi")
    shutil.copy("/usr/bin/cat", tree / "sbin/multi")
    (tree / "usr/bin/gone").symlink_to("/usr/bin/cat-that-is-not-here")
    (tree / "usr/bin/round").symlink_to("/usr/bin/round")
    folders = ("usr/bin", "sbin", "bin")
    found = {name: program_below(str(tree), folders, name) for name in ("uname", "many", "cat", "head")}
    assert found == {
        "uname": f"{tree}/bin/uname", "many": f"{tree}/sbin/many-nft", "cat": f"{tree}/usr/bin/cat",
        "head": None,
    }  # fmt: skip
    assert program_below(str(tree), folders, "gone") is program_below(str(tree), folders, "round") is None
    folders_of_tools = environment.tool_folders(str(tree))
    assert environment.find_program("uname", folders_of_tools, str(tree)).path == f"{tree}/bin/uname"


def test_which_programs_name_a_linker(tree: Path) -> None:
    script = tree / "usr/bin/script"
    script.write_text("#!/bin/sh\n")
    assert needs_linker(str(tree / "usr/bin/cat"))
    assert not needs_linker(str(script)) and not needs_linker(str(tree / "nothing"))
