"""`hb info` and `hb trust`: facts and lists as people and programs read them."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hybridbridge_vol.errors import KernelFileError, StoreError

Hb = Callable[..., tuple[int, str, str]]


@dataclasses.dataclass(frozen=True)
class Layout:
    text_vaddr: int
    levels: int


@dataclasses.dataclass(frozen=True)
class Facts:
    format: str
    size_bytes: int
    banner: str
    layout: Layout
    captured_at: float
    uptime: float
    cpus: int
    load_addresses_paddr: tuple[int, ...]
    missing: str | None


FACTS = Facts(
    "raw", 268435456, "Linux\x1b", Layout(0xFFFFFFFF81000000, 4), 0.0, 86419.611, 2,
    (0x1000000, 0x2000000), None,
)  # fmt: skip


def test_info_writes_labelled_facts(hb: Hb, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("hybridbridge_vol.workflow.describe_image")
    module.describe = lambda dump, store, progress, kernel_at: FACTS
    monkeypatch.setitem(sys.modules, module.__name__, module)
    status, out, _ = hb("info", "dump.raw")
    assert status == 0
    lines = {
        label.strip(): value.strip() for label, _, value in (line.partition(":") for line in out.splitlines())
    }
    assert lines["Size"] == "256.0 MiB (268435456 bytes)"
    assert lines["Banner"] == r"Linux\x1b"
    assert lines["Text (virtual)"] == "0xffffffff81000000"
    assert lines["Captured at"] == "1970-01-01 00:00:00Z"
    assert lines["Uptime"] == "1-00:00:19 (86419.611 s)"
    assert lines["CPUs"] == "2"
    assert lines["Missing"] == "-"
    assert "0x2000000" in out
    _, out, _ = hb("info", "dump.raw", "--format", "json")
    assert json.loads(out)["layout"] == {"text_vaddr": 0xFFFFFFFF81000000, "levels": 4}


@dataclasses.dataclass(frozen=True)
class Entry:
    name: str
    release: str
    size_bytes: int
    created: float


class Store:
    """As `trust.store.Store`, over a list."""

    def __init__(self, root: Path | None) -> None:
        self.root = root

    def entries(self) -> list[Entry]:
        return [Entry("debian-6.1", "6.1.0-40", 4096, 0.0)] if self.root is None else []

    def remove(self, name: str) -> None:
        raise StoreError(f"{name}: no such kernel")


def enroll(_store: Store, path: Path, progress: Any, training: bool, _symbols: Path | None = None) -> Entry:
    progress(0.5, "booting")
    if path.name == "bad":
        raise KernelFileError("not a kernel")
    return Entry(f"{path.name}, trained" if training else path.name, "6.1", 4096, 0.0)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("hybridbridge_vol.trust.store")
    module.Store = Store
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module = ModuleType("hybridbridge_vol.workflow.trust_kernel")
    module.enroll = enroll
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("store")
def test_trust_add_goes_on_after_a_bad_file(hb: Hb) -> None:
    status, out, err = hb("trust", "add", "bad", "good")
    assert (status, out, err) == (1, "good: trusted\n", "hb: bad: not a kernel\n")
    assert hb("trust", "add", "--train", "good") == (0, "good, trained: trusted\n", "")


@pytest.mark.usefixtures("store")
def test_trust_list_and_rm(hb: Hb) -> None:
    _, out, _ = hb("trust", "list")
    assert out.splitlines()[1].split() == ["debian-6.1", "6.1.0-40", "4.0", "KiB", "1970-01-01", "00:00:00Z"]
    _, out, _ = hb("trust", "list", "--format", "json")
    assert json.loads(out)[0]["name"] == "debian-6.1"
    _, out, _ = hb("trust", "list", "--format", "csv")
    assert out.startswith("name,release,size_bytes,created")
    assert hb("trust", "rm", "nope") == (1, "", "hb: nope: no such kernel\n")


@pytest.mark.usefixtures("store")
def test_an_empty_store_says_how_to_fill_it(hb: Hb) -> None:
    status, out, err = hb("trust", "list", "--store", "/elsewhere")
    assert (status, out) == (0, "")
    assert "hb trust add" in err
    assert hb("trust", "list", "--store", "/elsewhere", "--format", "json") == (0, "[]\n", "")
