"""A program that tries to get out, and images that try to make a program reach for this machine."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from generations import Lab
from hostile_programs import attempts
from native_runs import Run

from hybridbridge_vol.native.processes import MAX_PROCESSES

IMAGE = "6.12"


def test_no_way_out(run: Run, hostile: Path) -> None:
    secret = hostile.parents[1] / "secret"
    before = set(hostile.parents[1].rglob("*")), secret.read_text()
    done = run(IMAGE, f"hostile escape {secret}", tools=str(hostile.parent))
    tried = attempts(done.stdout)
    assert done.status == 0, (done.status, done.stderr)
    assert len(tried) == 34, sorted(tried)
    for name, (result, number) in tried.items():
        if name not in ("race", "int80"):
            assert result < 0, name
            assert number in (
                errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOENT, errno.EAFNOSUPPORT,
                errno.ENETUNREACH, errno.ENOTTY, errno.ESTALE,
            ), (name, number)  # fmt: skip
    assert tried["int80"][0] == -errno.ENOSYS
    assert (set(hostile.parents[1].rglob("*")), secret.read_text()) == before
    assert not Path("/tmp/escaped").exists()


def test_a_fork_bomb_stops_and_leaves_nothing(run: Run, hostile: Path) -> None:
    done = run(IMAGE, f"hostile bomb {hostile}", tools=str(hostile.parent))
    started = attempts(done.stdout)["bomb"][0]
    assert MAX_PROCESSES // 2 < started <= MAX_PROCESSES
    assert not [
        path
        for path in Path("/proc").glob("[0-9]*/exe")
        if path.is_symlink() and _target(path) == str(hostile)
    ]


def test_memory_ends(run: Run) -> None:
    assert run(IMAGE, "busybox dd if=/dev/zero of=/dev/null bs=7G count=0").status == 0
    done = run(IMAGE, "busybox dd if=/dev/zero of=/dev/null bs=9G count=0")
    assert done.status != 0 and b"memory" in done.stderr


def test_questions_with_the_same_number_are_not_taken_for_each_other(run: Run, hostile: Path) -> None:
    done = run(IMAGE, "hostile logs -", tools=str(hostile.parent))
    found = {name: result for name, (result, _errno) in attempts(done.stdout).items()}
    assert done.status == 0 and found["size"] == found["again"] > 4096
    assert found["read"] in range(11)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def test_what_the_image_has_is_not_executed(lab: Lab, run: Run) -> None:
    """A script or a library of the image's is data."""
    for command in ("/init", "./init", "/usr/libexec/observer /srv/plan"):
        done = run(IMAGE, f"dash -c 'exec {command}'")
        assert done.status in (126, 127), (command, done)
    code = "import mmap; f = open('/usr/bin/dash', 'rb'); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_EXEC)"
    done = run(IMAGE, f'/usr/bin/python3 -c "{code}"', tools=None)
    assert b"PermissionError" in done.stderr


def test_links_and_devices_of_the_image_lead_nowhere_here(run: Run) -> None:
    done = run(IMAGE, "dash -c 'cat /dev/vda; cat /dev/loop0; cat < /dev/mem'")
    assert done.stdout == b"" and done.stderr.count(b"\n") == 3
    done = run(IMAGE, "readlink /proc/1/exe /proc/1/root /proc/self/cwd")
    assert done.stdout.split() == [b"/usr/bin/dash", b"/", b"/"]


def test_variables_and_files_of_the_examiner_are_not_there(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EXAMINERS_SECRET", "x")
    (tmp_path / "note").write_text("x")
    done = run(IMAGE, f"dash -c 'env; ls {tmp_path}; cat {tmp_path}/note; ls /root /home'")
    assert b"EXAMINERS_SECRET" not in done.stdout and b"note" not in done.stdout.split()
