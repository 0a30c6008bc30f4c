"""`python3 -m samples` as its users meet it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samples.cli import main, parse_size
from samples.make import Spec

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`run(arguments...)`: exit status, standard output, standard error."""
    before = signal.getsignal(signal.SIGTERM)

    def ran(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    yield ran
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("text", "size"), [("256M", 256 << 20), ("4G", 4 << 30), ("4608M", 4608 << 20)])
def test_sizes_have_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "arguments",
    [
        ("--ram", "256"), ("--ram", "0M"), ("--ram", "-1M"), ("--ram", "much"), ("--cpus", "0"),
        ("--cpus", "65"), ("--cpus", "two"), ("--seed", "x"), ("--processes", "-4"), ("--processes", "40000"),
        ("--format", "vmdk"), ("--accel", "hvf"), ("--no-such-option",), ("one", "more"), ("--kernel",),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_status_2_and_says_in_one_line_what_is_wrong(
    run: Run, arguments: tuple[str, ...]
) -> None:
    status, out, err = run("--kernel", "nope", *arguments)
    assert (status, out) == (2, "")
    usage, error = err.split("python3 -m samples: error: ")
    assert usage.startswith("usage: python3 -m samples ")
    assert error.count("\n") == 1
    assert arguments[0] in error


@pytest.mark.parametrize("kernel", ["nope", "/nowhere/none.deb", ""])
def test_a_kernel_that_cannot_be_had_is_one_line_and_status_1(run: Run, kernel: str) -> None:
    status, out, err = run("--kernel", kernel)
    assert (status, out) == (1, "")
    assert err.startswith(f"samples: {kernel}")
    assert err.count("\n") == 1


def test_the_folder_of_the_image_is_all_that_is_printed(
    run: Run, keep: Callable[..., Path], package: Path
) -> None:
    folder = keep(Spec(str(package), seed=4, cpus=2))
    assert run("--kernel", package, "--seed", 4, "--cpus", 2) == (0, f"{folder}\n", "")


def test_a_link_is_left_where_it_is_asked_for_and_replaces_an_older_one(
    run: Run, keep: Callable[..., Path], package: Path, tmp_path: Path
) -> None:
    folders = [keep(Spec(str(package), seed=seed)) for seed in (1, 2)]
    link = tmp_path / "new" / "folder" / "link"
    for seed, folder in zip((1, 2), folders, strict=True):
        assert run("--kernel", package, "--seed", seed, "--out", link)[0] == 0
        assert link.readlink() == folder
    assert [path.name for path in link.parent.iterdir()] == ["link"]


@pytest.mark.parametrize("place", ["file", "folder", "file/below/it"])
def test_what_is_in_the_way_of_the_link_is_left_alone_and_told(
    run: Run, keep: Callable[..., Path], package: Path, tmp_path: Path, place: str
) -> None:
    keep(Spec(str(package)))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    status, out, err = run("--kernel", package, "--out", tmp_path / place)
    assert (status, out) == (1, "")
    assert err.startswith(f"samples: {tmp_path / place}: ")
    assert err.endswith("give another --out\n")
    assert err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_it_is_a_module_that_python_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "samples"]
    env = os.environ | {"HB_SAMPLES": str(tmp_path)}
    shown = subprocess.run(
        [*command, "--help"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert "python3 -m samples --kernel 6.1-cloud --seed 1 --ram 256M --cpus 1" in shown.stdout
    failed = subprocess.run(
        [*command, "--kernel", "nope"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("samples: nope: not a kernel")
    assert "Traceback" not in failed.stderr
