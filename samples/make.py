"""Make a sample image: an unmodified Debian kernel with a workload, and what it reported of itself.

    python3 -m samples --kernel 6.1-cloud --seed 1 --ram 256M --cpus 1

The folder it prints holds dump.raw (physical memory), truth.json and meta.json. It is kept in the cache and
made only once for the same choice. workload.py and guest/init.sh are what the guest runs; samples/README.md
says more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.kernel_file.packages import read_vmlinuz
from samples import (
    attack_guest,
    filters_guest,
    guest_files,
    hunt_guest,
    module_guest,
    people_guest,
    pseudo_guest,
    qemu,
)
from samples.apt import AptError, cache_folder
from samples.kernels import fetch
from samples.lime import system_ram, write_lime
from samples.phases import Phases
from samples.stale import stale
from samples.truth import Truth, read_records

FORMATS = {"raw": "dump.raw", "elf": "dump.elf", "lime": "dump.lime"}
GUEST_SECONDS = 1200.0
"""A guest is ended after so long; under software emulation it needs 10 to 60 s, on a busy host many times
that."""
MAX_GUESTS = 3
"""Guests that are run for one image, as long as what they report is out of date."""
_COMMAND_LINE = "console=ttyS0 quiet rdinit=/init panic=1 no_timer_check"
"""On a busy host a timer may miss the moment at which the kernel checks that it ticks; the kernel would then
panic."""
_SCRATCH = ("ram", "shared", "initrd", "vmlinuz", "qemu.log")


class SampleError(Exception):
    """A sample image could not be made; one line says why."""


@dataclass(frozen=True)
class Spec:
    """What to make.

    `kernel` as `samples.kernels.fetch` takes it; `ram` in bytes; `append` goes to the kernel's command line;
    `processes` is how many sleeping ones to add; `la57` gives 5-level page tables; `memory` adds a
    process with memory of every kind; `nodes` is how many NUMA nodes share the memory; `disks` adds disks
    with file systems of every kind; with `routes` the guest has so many of them, and links, rules and sockets
    of every kind. With `modules`, one of `samples.module_guest.SETS`, the guest loads these modules instead
    of doing the workload; with `pseudo` it mounts pseudo file systems instead; with `attacks`,
    one of `samples.attack_guest.SETS`, a rootkit of ours is loaded, or not; with `people` it has accounts,
    logins, containers, and all that starts by itself; with `filters` packet filters, tunnels and eBPF
    programs; with `hunt` it attacks its own processes. The seed governs the workload; KASLR draws anew for
    every image.
    """

    kernel: str
    seed: int = 1
    ram: int = 256 << 20
    cpus: int = 1
    kaslr: bool = True
    light: bool = False
    append: str = ""
    format: str = "raw"
    processes: int = 0
    la57: bool = False
    accel: str = "tcg"
    memory: bool = False
    nodes: int = 1
    disks: bool = False
    modules: str = ""
    routes: int = 0
    pseudo: bool = False
    attacks: str = ""
    people: bool = False
    filters: bool = False
    hunt: bool = False

    def recipe(self) -> guest_files.Recipe:
        """What is put into the guest."""
        if self.modules:
            return module_guest.recipe(self.modules)
        if self.pseudo:
            return pseudo_guest.recipe()
        if self.attacks:
            return attack_guest.recipe(self.attacks)
        if self.people:
            return people_guest.recipe()
        if self.filters:
            return filters_guest.recipe()
        if self.hunt:
            return hunt_guest.recipe()
        return guest_files.recipe(self.seed, self.light, self.processes, self.memory, self.disks, self.routes)

    def command_line(self) -> str:
        """The kernel's."""
        return " ".join([_COMMAND_LINE, *([] if self.kaslr else ["nokaslr"]), self.append]).strip()

    def name(self, package: Path) -> str:
        """The name of its folder: everything that makes a difference to the image.

        The package counts by its contents: files with different kernels may have the same name.
        """
        kernel = re.sub(r"^linux-(image|binary)-", "", package.name.split("_")[0].removesuffix(".deb"))
        extra = hashlib.sha256(f"{sha256_of(package)} {self.command_line()}".encode()).hexdigest()[:6]
        flags = {
            f"{self.processes}procs": self.processes, "nokaslr": not self.kaslr, "la57": self.la57,
            self.accel: self.accel != "tcg", "elf": self.format == "elf", "memory": self.memory,
            f"{self.nodes}nodes": self.nodes > 1, "disks": self.disks,
            f"{self.modules}-modules": self.modules, f"{self.routes}routes": self.routes,
            "pseudo": self.pseudo, f"{self.attacks}-attacks": self.attacks, "people": self.people,
            "filters": self.filters, "hunt": self.hunt,
        }  # fmt: skip
        return "-".join([
            kernel, f"{self.ram >> 20}M", f"{self.cpus}cpu", "light" if self.light else "rich",
            f"seed{self.seed}", *(flag for flag, given in flags.items() if given), extra,
            self.recipe().digest()[:8],
        ])  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """A finished image: its folder, the image in the format asked for, and the kernel package it ran."""

    folder: Path
    dump: Path
    kernel_package: Path

    @property
    def raw(self) -> Path:
        """The raw image; there is always one."""
        return self.folder / FORMATS["raw"]

    def lime(self) -> Path:
        """The same memory as LiME, without the firmware's part below 1 MiB; made on first use."""
        target = self.folder / FORMATS["lime"]
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                write_lime(self.raw, system_ram(self.meta["ram"]), Path(scratch) / "new")
                os.replace(Path(scratch) / "new", target)
        return target

    @cached_property
    def meta(self) -> dict[str, Any]:
        """meta.json: the choices, the kernel's version, the SHA-256 of the raw image, seconds taken."""
        meta: dict[str, Any] = json.loads((self.folder / "meta.json").read_text())
        return meta

    @cached_property
    def truth(self) -> Truth:
        """What the guest reported of itself."""
        return Truth.load(self.folder / "truth.json")


def make_sample(spec: Spec, progress: bool = True) -> Sample:
    """The image for `spec`, from the cache or freshly made. SampleError says in one line what is missing.

    Two makers of the same image wait for each other; an unfinished image is never seen.
    """
    phases = Phases(f"sample {spec.kernel.rsplit('/', 1)[-1]}", progress)
    try:
        phases.begin("looking for packages")
        package = fetch(spec.kernel)
        folder = cache_folder() / "images" / spec.name(package)
        with _locked(folder):
            if not (folder / "meta.json").exists():
                _make(spec, package, folder, phases)
        sample = Sample(folder, folder / FORMATS[spec.format], package)
        if spec.format == "lime":
            sample.lime()
        return sample
    except (AptError, qemu.GuestError, HybridBridgeError, OSError, ValueError) as error:
        text = str(error) if str(error).startswith(spec.kernel) else f"{spec.kernel}: {error}"
        raise SampleError(" ".join(text.split())) from None
    finally:
        phases.done()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(spec: Spec, package: Path, folder: Path, phases: Phases) -> None:
    work = folder.parent / f".{folder.name}.new"
    shutil.rmtree(work, ignore_errors=True)  # of a maker that was killed
    work.mkdir()
    try:
        phases.begin("reading packages")
        (work / "vmlinuz").write_bytes(read_vmlinuz(package))
        initrd = guest_files.initramfs(package, spec.recipe())
        if spec.attacks == "all":
            initrd += attack_guest.rootkit(package)
        (work / "initrd").write_bytes(initrd)
        begun = phases.seconds
        truth = _run_until_current(spec, work, phases)
        guest_seconds = phases.seconds - begun
        digest = qemu.save_raw(work / "ram", spec.ram, work / FORMATS["raw"])
        meta = {
            **asdict(spec),
            "package": package.name,
            "version": truth["commands"].get("uname -a", "").strip(),
            "command_line": spec.command_line(),
            "sha256": digest,
            "processes_at_capture": len(truth["pids"]),
            "settled": truth["settled"],
            "rounds": truth["rounds"],
            "files_read": len(truth["files"]),
            "seconds": round(phases.seconds, 1),
            "guest_seconds": round(guest_seconds, 1),
            "qemu": qemu.version(),
        }
        (work / "truth.json").write_text(json.dumps({"meta": meta, **truth}))
        for name in _SCRATCH:
            (work / name).unlink(missing_ok=True)
        (work / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run_until_current(spec: Spec, work: Path, phases: Phases) -> dict[str, Any]:
    """Run the guest in `work`, and again until what it reported holds at its capture; what it reported.

    GuestError if that never comes.
    """
    outdated: list[str] = []
    for _ in range(MAX_GUESTS):
        phases.begin("the guest boots and works")
        sizes = guest_files.DISK_SIZES if spec.disks else ()
        machine = qemu.Machine(spec.ram, spec.cpus, spec.accel, spec.la57, spec.nodes, sizes)
        with qemu.running(work, machine, "vmlinuz", "initrd", spec.command_line(), GUEST_SECONDS) as guest:
            guest.wait_for_capture()
            phases.begin("saving its memory")
            if spec.format == "elf":
                target = {"paging": False, "protocol": f"file:{FORMATS['elf']}"}
                guest.command("dump-guest-memory", target)
        truth = read_records(work / "shared")
        outdated = stale(truth)
        if not outdated:
            return truth
        phases.begin(f"out of date at the capture: {outdated[0]}")
        for name in ("ram", "shared", "console", FORMATS["elf"]):
            (work / name).unlink(missing_ok=True)
    raise qemu.GuestError(
        f"what {MAX_GUESTS} guests reported was out of date at their capture: {outdated[0]}"
    )


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
