"""Kernels are carried from store to store in one file; a damaged or hostile file adds nothing."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol.errors import StoreError
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.kernel_file.kallsyms import find_symbols
from hybridbridge_vol.kernel_file.symbols import Symbols
from hybridbridge_vol.trust import modules
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.workflow.carry_kernels import export_kernels, import_kernels
from hybridbridge_vol.workflow.memos import summarise
from hybridbridge_vol.workflow.trust_kernel import enroll

Lab = Any
GENERATION = "6.1 two CPUs"
Parts = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture(scope="module")
def exported(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("carried") / "kernels.tar"
    kernel = lab.kernel(GENERATION)
    assert export_kernels(lab.store, [kernel.release], path) == [kernel.name]
    return path


def test_the_file_holds_the_kernel_and_its_modules_with_their_sums(lab: Lab, exported: Path) -> None:
    kernel = lab.kernel(GENERATION)
    parts = {header.name: data for header, data in read(exported)}
    (record,) = json.loads(parts.pop("hybridbridge-kernels.json"))["kernels"]
    assert parts[f"{kernel.name}/vmlinuz"] == (kernel.folder / "vmlinuz").read_bytes()
    assert parts[f"{kernel.name}/modules.zip"] == (kernel.folder / "modules.zip").read_bytes()
    assert {name.partition("/")[2]: sizes_and_sum(data) for name, data in parts.items()} == record["files"]
    assert not any("boot" in name for name in parts), "layouts are secret"


def test_a_kernel_that_is_not_stored_is_not_exported(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no stored kernel named '9.9'"):
        export_kernels(lab.store, [lab.kernel(GENERATION).release, "9.9"], tmp_path / "kernels.tar")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_reported(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        export_kernels(lab.store, [lab.kernel(GENERATION).release], tmp_path / "none" / "kernels.tar")


@pytest.mark.slow
def test_an_imported_kernel_answers(lab: Lab, exported: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kernel = lab.kernel(GENERATION)
    assert import_kernels(store, exported) == [kernel.name]
    with open_session(lab.sample(GENERATION).dump, store.root) as session:
        assert session.system.uname().release == kernel.release
    assert modules.names(store.find(kernel.name).folder) == modules.names(kernel.folder)
    proven = [entry.code_bytes for entry in summarise(lab.store, kernel.name)]
    again = tmp_path / "again.tar"
    export_kernels(store, [kernel.name], again)
    assert import_kernels(store, again) == [kernel.name], "what is stored already stays"
    assert (proven[0] == 0) or summarise(store, kernel.name)[0].code_bytes > 0
    assert sorted(item.name for item in store.root.iterdir()) == [kernel.name]


@pytest.mark.slow
def test_the_symbols_that_a_kernel_was_given_are_carried_with_it(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kernel without CONFIG_KALLSYMS_ALL: its own table has functions only."""

    def functions(*arguments: Any) -> Symbols:
        return Symbols.build(each for each in find_symbols(*arguments) if each[1] in "tTwW")

    for module in ("kernel_file.kernel", "workflow.carry_kernels"):
        monkeypatch.setattr(f"hybridbridge_vol.{module}.find_symbols", functions)
    sample, whole = lab.sample(GENERATION), lab.kernel(GENERATION)
    given = tmp_path / "System.map"
    lines = (f"{vaddr:016x} {kind} {name}" for vaddr, kind, name in whole.symbols)
    given.write_text("\n".join(lines) + "\n", "latin-1")
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    enroll(here, sample.kernel_package, symbols=given)
    path = tmp_path / "kernels.tar"
    export_kernels(here, [whole.release], path)
    assert import_kernels(there, path) == [whole.name]
    with open_session(sample.dump, there.root) as session:
        assert session.system.uname().release == whole.release


def flipped(parts: Parts) -> Parts:
    header, data = parts[1]
    return [parts[0], (header, data[:-1] + bytes([data[-1] ^ 1])), *parts[2:]]


def truncated_member(parts: Parts) -> Parts:
    return parts[:2]


def with_a_link(parts: Parts) -> Parts:
    link = tarfile.TarInfo(parts[1][0].name)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
    return [parts[0], (link, b""), *parts[2:]]


def with_a_hard_link(parts: Parts) -> Parts:
    link = tarfile.TarInfo(parts[1][0].name)
    link.type, link.linkname = tarfile.LNKTYPE, "../../x"
    return [parts[0], (link, b""), *parts[2:]]


def with_a_device(parts: Parts) -> Parts:
    device = tarfile.TarInfo("zero")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 5
    return [*parts, (device, b"")]


def with_a_folder(parts: Parts) -> Parts:
    folder = tarfile.TarInfo("x")
    folder.type = tarfile.DIRTYPE
    return [*parts, (folder, b"")]


def with_a_file_above(parts: Parts) -> Parts:
    return [*parts, (tarfile.TarInfo("../../outside"), b"")]


def with_an_absolute_path(parts: Parts) -> Parts:
    return [*parts, (tarfile.TarInfo("/tmp/outside"), b"")]


def with_a_file_twice(parts: Parts) -> Parts:
    return [*parts, parts[1]]


def with_two_manifests(parts: Parts) -> Parts:
    return [*parts, parts[0]]


def named(name: str) -> Callable[[Parts], Parts]:
    """The manifest gives the kernel another name."""

    def change(parts: Parts) -> Parts:
        record = json.loads(parts[0][1])
        record["kernels"][0]["name"] = name
        return [(parts[0][0], json.dumps(record).encode()), *parts[1:]]

    return change


def with_another_file(parts: Parts) -> Parts:
    record = json.loads(parts[0][1])
    record["kernels"][0]["files"]["../../outside"] = [1, "00"]
    return [(parts[0][0], json.dumps(record).encode()), *parts[1:]]


def of_another_format(parts: Parts) -> Parts:
    return [(parts[0][0], b'{"format": 99}'), *parts[1:]]


def huge(parts: Parts) -> Parts:
    record = json.loads(parts[0][1])
    record["kernels"][0]["files"]["vmlinuz"][0] = 1 << 60
    return [(parts[0][0], json.dumps(record).encode()), *parts[1:]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flipped, "the sum of .* differs"),
        (truncated_member, "is missing"),
        (with_a_link, "not a plain file"),
        (with_a_hard_link, "not a plain file"),
        (with_a_device, "not a plain file"),
        (with_a_folder, "not a plain file"),
        (with_a_file_above, "its manifest does not name"),
        (with_an_absolute_path, "its manifest does not name"),
        (with_a_file_twice, "its manifest does not name"),
        (with_two_manifests, "a second manifest"),
        (named("../../outside"), "its manifest makes no sense"),
        (named("another"), "its manifest does not name"),
        (with_another_file, "its manifest makes no sense"),
        (of_another_format, "written in format 99"),
        (huge, "its manifest makes no sense"),
    ],
)
def test_a_hostile_file_adds_nothing(
    exported: Path, tmp_path: Path, change: Callable[[Parts], Parts], reason: str
) -> None:
    path = tmp_path / "kernels.tar"
    with tarfile.open(path, "w") as archive:
        for header, data in change(read(exported)):
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    store = Store(tmp_path / "store")
    with pytest.raises(StoreError, match=reason) as caught:
        import_kernels(store, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(store.root.iterdir()) == []
    assert sorted(item.name for item in tmp_path.iterdir()) == ["kernels.tar", "store"]


@pytest.mark.parametrize("size", [0, 100, 512, 600, 100_000])
def test_a_truncated_file_adds_nothing(exported: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "kernels.tar"
    path.write_bytes(exported.read_bytes()[:size])
    store = Store(tmp_path / "store")
    with pytest.raises(StoreError, match=r"kernels\.tar"):
        import_kernels(store, path)
    assert list(store.root.iterdir()) == []


def test_a_size_that_the_header_only_claims_is_not_believed(exported: Path, tmp_path: Path) -> None:
    data = bytearray(exported.read_bytes())
    at = data.index(b"/vmlinuz\0") // 512 * 512
    header = tarfile.TarInfo.frombuf(bytes(data[at : at + 512]), "utf-8", "strict")
    header.size = 1 << 40
    data[at : at + 512] = header.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "kernels.tar"
    path.write_bytes(data)
    with pytest.raises(StoreError, match="an absurd size"):
        import_kernels(Store(tmp_path / "store"), path)


def read(path: Path) -> Parts:
    parts = []
    with tarfile.open(path) as archive:
        for header in archive:
            stream = archive.extractfile(header)
            assert stream is not None
            parts.append((header, stream.read()))
    return parts


def sizes_and_sum(data: bytes) -> list[Any]:
    return [len(data), hashlib.sha256(data).hexdigest()]
