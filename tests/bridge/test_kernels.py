"""Kernels and shapes beyond the default samples: flavours, page tables, processors, memory above 4 GiB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fidelity import assert_faithful
from generations import trust

from benchmarks.fidelity import compare
from hybridbridge_vol import tools
from hybridbridge_vol.bridge.run.fast_with_fallback import Mode
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable
from hybridbridge_vol.toolkit.tool import Tool
from hybridbridge_vol.trust.store import Store
from samples.make import Sample, Spec, make_sample, sha256_of

pytestmark = pytest.mark.slow

BEYOND_4_GIB = 4608 << 20
"""With a hole below 4 GiB."""
SHAPES = {
    "5.10 four CPUs": Spec("5.10-cloud", seed=15, light=True, cpus=4),
    "5.10 PTI": Spec("5.10-cloud", seed=16, light=True, append="pti=on"),
    "5.10 amd64, nokaslr": Spec("5.10-amd64", seed=20, light=True, kaslr=False, cpus=2),
    "6.1 PTI, 5 levels": Spec("6.1-cloud", seed=15, light=True, la57=True, append="pti=on"),
    "6.1 amd64, PTI": Spec("6.1-amd64", seed=16, light=True, append="pti=on"),
    "6.1 amd64, rich, two CPUs": Spec("6.1-amd64", seed=7, cpus=2),
    "6.1 rt, two CPUs": Spec("6.1-rt", seed=16, light=True, cpus=2),
    "6.12 5 levels": Spec("6.12-cloud", seed=15, light=True, la57=True),
    "6.12 amd64, four CPUs": Spec("6.12-amd64", seed=16, light=True, cpus=4, ram=512 << 20),
    "6.12 PTI, beyond 4 GiB": Spec("6.12-cloud", seed=17, light=True, append="pti=on", ram=BEYOND_4_GIB),
    "6.12 rt, two CPUs": Spec("6.12-rt", seed=20, light=True, cpus=2, ram=512 << 20),
    "7.x two CPUs": Spec("7-cloud", seed=24, cpus=2),
    "7.x 5 levels": Spec("7-cloud", seed=14, light=True, la57=True),
    "7.x PTI, four CPUs": Spec("7-cloud", seed=15, light=True, append="pti=on", cpus=4),
    "7.x nokaslr, beyond 4 GiB": Spec("7-cloud", seed=17, light=True, kaslr=False, ram=BEYOND_4_GIB),
    "7.x HPET, three CPUs": Spec("7-cloud", seed=20, light=True, cpus=3, append="clocksource=hpet"),
    "7.x amd64": Spec("7-amd64", seed=18, light=True, ram=512 << 20),
    "7.x rt, two CPUs": Spec("7-rt", seed=19, light=True, cpus=2, ram=512 << 20),
    "kCFI, RANDSTRUCT": Spec("built-cfi", seed=21, light=True),
    "gcc's plugins": Spec("built-hardened", seed=21, light=True),
    "ThinLTO, kCFI": Spec("built-thinlto", seed=21, light=True),
    "ThinLTO, FineIBT": Spec("built-thinlto", seed=24, light=True, append="cfi=fineibt"),
    "7.x, ThinLTO, kCFI": Spec("built-fineibt", seed=21, light=True),
    "7.x, ThinLTO, paranoid FineIBT": Spec(
        "built-fineibt", seed=26, light=True, append="cfi=fineibt,paranoid"
    ),
    "8192 CPUs, NUMA, two CPUs": Spec("built-fedora", seed=21, light=True, cpus=2, ram=512 << 20),
    "lockdep": Spec("built-lockdep", seed=21, light=True, ram=512 << 20),
    "microVM, two CPUs": Spec("built-microvm", seed=24, light=True, cpus=2),
    "one processor": Spec("built-single", seed=23, light=True),
}


LACKS_FOLDER = re.compile(
    "there is no such folder|no package manager's lists"
    "|not mounted, and the kernel keeps nothing of one that is not"
)
"""These guests have no database of packages, and have not mounted some pseudo file systems."""
LACKS = re.compile(
    LACKS_FOLDER.pattern + "|carries no type information|this kernel has no (symbol|struct) "
    "|Function not implemented|Operation not supported"
    "|Connection refused|No such file or directory"
)
"""What is said of kernels that are built without type information, eBPF, tracing, block devices and so on."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store to which kernels are added when they are needed."""
    return Store(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=SHAPES, scope="module")
def shape(request: pytest.FixtureRequest, store: Store) -> Iterator[Sample]:
    """An image of each shape, whose kernel is trusted; it does not change by a byte."""
    sample = make_sample(SHAPES[request.param])
    trust(store, sample)
    before = sha256_of(sample.raw)
    yield sample
    assert sha256_of(sample.raw) == before


def opened(sample: Sample, store: Store, mode: Mode) -> Session:
    """A session on the image."""
    return open_session(Path(sample.raw), store.root, mode=mode)


def test_files_are_equal_to_the_byte(shape: Sample, store: Store) -> None:
    with opened(shape, store, Mode.AUTO) as session:
        assert_faithful(compare(shape.truth, session))


def test_files_are_equal_under_taint_without_unattributed_accesses(shape: Sample, store: Store) -> None:
    paths = [path for pid in shape.truth.processes for path in (f"/proc/{pid}/stat", f"/proc/{pid}/status")]
    paths += ["/proc/stat", "/proc/meminfo", "/proc/net/tcp", "/proc/1/maps", "/proc/1/smaps"]
    if not shape.truth.late["/proc/modules"].errno:
        paths.append("/proc/modules")
    with opened(shape, store, Mode.AUTO) as fast:
        expected = [fast.files.read(path) for path in paths]
    with opened(shape, store, Mode.SLOW) as slow:
        assert [slow.files.read(path) for path in paths] == expected
        assert slow.statistics.unattributed == {}
        assert slow.statistics.unknown_instructions == {}


def unexplained(
    tool: Tool, session: Session, options: dict[str, Any], lacks: re.Pattern[str]
) -> Iterator[object]:
    """The cells that could not be read for another reason than that the guest lacks something; all cells of a
    tool whose rows say that something is wrong."""
    try:
        for row in tool.rows(session, options):
            is_said = [isinstance(cell, Unavailable) and lacks.search(cell.reason) for cell in row.cells]
            for cell, said in zip(row.cells, is_said, strict=True):
                is_finding = tool.name in ("check", "hidden") and not any(is_said)
                if is_finding or (isinstance(cell, Unavailable) and not said):
                    yield cell
    except OSError as error:
        if not lacks.search(str(error)):
            raise


def test_every_tool_answers_and_reports_nothing_unusual(shape: Sample, store: Store) -> None:
    with opened(shape, store, Mode.AUTO) as session:
        for tool in map(tools.load, tools.NAMES):
            if any(option.positional for option in tool.options):
                continue
            plain = tool.defaults()
            flags = [option.name for option in tool.options if option.type is bool]
            for options in [plain, *(plain | {name: True} for name in flags)]:
                lacks = LACKS if shape.meta["kernel"].startswith("built-") else LACKS_FOLDER
                found = list(unexplained(tool, session, options, lacks))
                assert found == [], (tool.name, options)
        assert session.statistics.unattributed == {}


def test_a_session_is_put_into_the_namespaces_of_a_process(shape: Sample, store: Store) -> None:
    pid = next(pid for pid in shape.truth.processes if pid > 2 and shape.truth.file(f"/proc/{pid}/cmdline"))
    stat = shape.truth.file(f"/proc/{pid}/stat").split(b")")[0]
    with open_session(shape.raw, store.root, ns_of=pid) as session:
        assert session.files.read("/proc/self/stat").split(b")")[0] == stat
        assert session.files.read("/proc/sys/kernel/hostname") == shape.truth.file(
            "/proc/sys/kernel/hostname"
        )


def test_the_shape_is_what_it_says(shape: Sample, store: Store) -> None:
    meta = shape.meta
    with opened(shape, store, Mode.AUTO) as session:
        layout = session.bridge.layout
        assert layout.levels == session.bridge.boot.layout.levels == (5 if meta["la57"] else 4)
        assert layout.cpus == meta["cpus"]
        assert meta["kaslr"] or layout.shift == 0
        assert session.clocks.monotonic() == pytest.approx(shape.truth.times["monotonic"], abs=0.1)
        assert ("pti" in session.files.read("/proc/cpuinfo").decode().split()) == ("pti=on" in meta["append"])
        kilobytes = int(session.files.read("/proc/meminfo").split()[1])
        assert meta["ram"] * 0.8 < kilobytes << 10 < meta["ram"]
