"""A few real images of one kernel, a store that trusts it, and the batch as its users run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from generations import GENERATIONS, Lab

from samples.make import make_sample

ROOT = Path(__file__).resolve().parents[2]
GENERATION = "7.x"


@dataclass(frozen=True)
class Evidence:
    """`folder` holds a.raw, b.raw and sub/c.raw of one kernel (b's and c's content is the same), an image
    whose kernel is not in `store` (unknown.raw), one without its second half (cut.raw), and a text."""

    folder: Path
    store: Path


@pytest.fixture(scope="session")
def evidence(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """The evidence that these tests share; nobody changes it."""
    folder, store = tmp_path_factory.mktemp("evidence"), tmp_path_factory.mktemp("store-of-lab")
    light, unknown = lab.sample(GENERATION), make_sample(GENERATIONS["6.1 two CPUs"])
    kernel = lab.kernel(GENERATION)  # it need not be taken in once more
    (store / kernel.name).symlink_to(kernel.folder)
    (folder / "sub").mkdir()
    for name in ("a.raw", "b.raw", "sub/c.raw"):
        (folder / name).symlink_to(light.dump)
    (folder / "unknown.raw").symlink_to(unknown.dump)
    with open(light.dump, "rb") as whole, open(folder / "cut.raw", "wb") as cut:
        shutil.copyfileobj(whole, cut, 1 << 20)
        cut.truncate(light.dump.stat().st_size // 8)
    (folder / "notes.txt").write_text("Linux version 7.2 was seen on the screen\n" * 100_000)
    return Evidence(folder, store)


HbBatch = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(scope="session")
def hb_batch(evidence: Evidence) -> HbBatch:
    """`hb_batch(out, "--tools", "ps")`: a running `hb batch` over the evidence (or over `paths`)."""

    def start(out: Path, *arguments: str, paths: list[str] | None = None) -> subprocess.Popen[bytes]:
        line = [
            sys.executable, "-m", "hybridbridge_vol", "batch", *(paths or [str(evidence.folder)]),
            "--out", str(out), "--store", str(evidence.store), *arguments,
        ]  # fmt: skip
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)

    return start
