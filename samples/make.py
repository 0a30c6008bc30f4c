"""Make a sample image: an unmodified Debian kernel with a workload, frozen, with what it said of itself.

    python3 -m samples.make --kernel 6.1-cloud --seed 1 --ram 256M --cpus 1

The folder it prints holds dump.raw (physical memory), truth.json and meta.json. It is kept in the cache and made
only once for the same choice.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hybridbridge_vol.errors import HybridBridgeError
from hybridbridge_vol.image.packages import read_vmlinuz
from samples import qemu
from samples.apt import AptError, cache_folder, closure, download, own_suite
from samples.initramfs import Archive, add_programs
from samples.kernels import fetch
from samples.lime import write_lime
from samples.modules import load_order
from samples.truth import Truth, parse

HERE = Path(__file__).parent
FREEZE_SECONDS = 240.0
"""A guest has this long to boot, work and freeze under software emulation; it takes 10 to 40 s."""

PACKAGES = ("busybox-static", "python3-minimal", "procps", "kmod", "iproute2", "net-tools", "util-linux", "mount", "coreutils", "hostname", "libc6", "libpython3-stdlib")
WITHOUT = frozenset((
    "debconf", "debconf-2.0", "dpkg", "perl-base", "perl", "tar", "adduser", "passwd", "init-system-helpers", "install-info",
    "media-types", "libpam0g", "libpam-modules", "libpam-runtime", "lsb-base", "sysvinit-utils", "login",
    "util-linux-extra", "libdebconfclient0", "gcc-12-base", "libgcc-s1", "python3-venv",
))  # fmt: skip
"""Packages that only installing needs."""
PROGRAMS = (
    "usr/bin/busybox", r"usr/bin/python3[\d.]*", r"usr/lib/python3[\d.]*/[^/]+\.py",
    r"usr/lib/python3[\d.]*/(collections|ctypes|encodings|importlib|re)/.*\.py",
    r"usr/lib/python3[\d.]*/lib-dynload/(mmap|_ctypes)\..*", "usr/bin/ps", "usr/bin/free", "usr/bin/uptime", "usr/bin/kmod",
    "usr/bin/lsmod", "usr/sbin/lsmod", "usr/sbin/ip", "usr/bin/ip", "bin/ip", "sbin/ip", "usr/bin/ss", "usr/bin/netstat", "usr/sbin/arp",
    "usr/bin/dmesg", "usr/bin/hostname", "usr/bin/sleep", "usr/bin/uname", "usr/bin/unshare", "usr/bin/mount",
)  # fmt: skip
APPLETS = ("sh", "cat")
MODULES = ("dummy", "bridge", "loop", "nf_conntrack", "xt_conntrack", "veth", "tun", "e1000", "nls_iso8859_1")
USERS = ("root:0", "daemon:1", "www-data:33", "postgres:101", "alice:1000", "bob:1001")


class SampleError(Exception):
    """A sample image could not be made; one line says why."""


@dataclass(frozen=True)
class Spec:
    """What to make. `kernel` as `samples.kernels.fetch` takes it; `ram` in bytes; `append` goes to the kernel's
    command line."""

    kernel: str
    seed: int = 1
    ram: int = 256 << 20
    cpus: int = 1
    kaslr: bool = True
    light: bool = False
    append: str = ""
    accel: str = "tcg"


@dataclass(frozen=True)
class Sample:
    """A finished image: its folder, the raw dump in it, and what the guest said."""

    folder: Path
    kernel_package: Path

    @property
    def dump(self) -> Path:
        """The raw image."""
        return self.folder / "dump.raw"

    @property
    def truth(self) -> Truth:
        """What the guest said of itself (read from disk at each access)."""
        return Truth.load(self.folder / "truth.json")

    def lime(self) -> Path:
        """The same memory as LiME, with the hole that PCs have below 1 MiB; made on first use."""
        target = self.folder / "dump.lime"
        if not target.exists():
            size = self.dump.stat().st_size
            with _atomic(target) as temporary:
                write_lime(self.dump, [(0, 0x9F000), (0x100000, size - 0x100000)], temporary)
        return target


@contextlib.contextmanager
def _atomic(target: Path) -> Iterator[Path]:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def makers_digest() -> str:
    """Names this version of the maker: images of another one are not taken for ours."""
    files = sorted(HERE.glob("**/*.py")) + sorted(HERE.glob("**/*.sh"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def make_sample(spec: Spec, tell: bool = True) -> Sample:
    """The image for `spec`, from the cache or freshly made. SampleError says in one line what is missing."""
    try:
        package = fetch(spec.kernel)
        flags = [f"{spec.ram >> 20}M", f"{spec.cpus}cpu", "light" if spec.light else "rich", f"seed{spec.seed}"]
        if not spec.kaslr:
            flags.append("nokaslr")
        if spec.append:
            flags.append(hashlib.sha256(spec.append.encode()).hexdigest()[:6])
        name = "-".join([re.sub(r"^linux-(image|binary)-", "", package.name.split("_")[0]), *flags, makers_digest()])
        folder = cache_folder() / "images" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.parent / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "meta.json").exists():
                _make(spec, package, folder, tell)
        return Sample(folder, package)
    except (AptError, qemu.GuestError, HybridBridgeError, OSError) as error:
        raise SampleError(f"{spec.kernel}: {error}") from None


def _make(spec: Spec, package: Path, folder: Path, tell: bool) -> None:
    started = time.monotonic()

    def phase(text: str) -> None:
        if tell:
            print(f"  {time.monotonic() - started:5.1f} s  {text}", file=sys.stderr, flush=True)

    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    try:
        phase("reading packages")
        (temporary / "vmlinuz").write_bytes(read_vmlinuz(package))
        (temporary / "initrd").write_bytes(build_initramfs(spec, package))
        phase("booting the guest")
        # ttyS0 is the console; its time stamps stay out of the way of the serial line's speed
        line = f"console=ttyS0 quiet rdinit=/init panic=1 {'' if spec.kaslr else 'nokaslr '}{spec.append}".strip()
        with qemu.running(
            temporary, temporary / "vmlinuz", temporary / "initrd", line, spec.ram, spec.cpus, spec.accel
        ) as guest:
            guest.wait_for_freeze(FREEZE_SECONDS, phase)
        truth = parse(qemu.shared_memory(temporary))
        phase("saving memory")
        truth.save(temporary / "truth.json")
        qemu.save_raw(temporary / "ram", spec.ram, temporary / "dump.raw")
        meta = {
            **asdict(spec),
            "package": package.name,
            "command_line": line,
            "seconds": round(time.monotonic() - started, 1),
            "sha256": sha256_of(temporary / "dump.raw"),
            "files": len(truth.late),
        }
        for name in ("ram", "shared", "initrd", "vmlinuz", "qmp", "qemu.log"):
            (temporary / name).unlink(missing_ok=True)
        (temporary / "meta.json").write_text(json.dumps(meta, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(temporary, folder)
        phase(f"done: {folder}")
    except ValueError as error:
        raise qemu.GuestError(str(error)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def build_initramfs(spec: Spec, package: Path) -> bytes:
    """The guest's whole file system."""
    suites = (own_suite(),)
    archive = Archive()
    add_programs(archive, download(closure(PACKAGES, suites, WITHOUT), suites), PROGRAMS)
    for name in APPLETS:
        archive.add(f"usr/bin/{name}", 0o120777, b"busybox")
    archive.add("usr/bin/insmod", 0o120777, b"kmod")
    modules = load_order(package, MODULES[:2] if spec.light else MODULES)
    for name, data in modules:
        archive.add(f"usr/lib/modules/{name}.ko", 0o100644, data)
    archive.add("usr/lib/modules/order", 0o100644, "\n".join(name for name, _data in modules).encode())
    passwd = "".join(f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in (user.split(":") for user in USERS))
    group = "".join(f"{name}:x:{uid}:\n" for name, uid in (user.split(":") for user in USERS))
    archive.add("etc/passwd", 0o100644, passwd.encode())
    archive.add("etc/group", 0o100644, group.encode())
    archive.add("etc/hostname", 0o100644, f"sample-{spec.seed}\n".encode())
    archive.add("init", 0o100755, (HERE / "guest" / "init.sh").read_bytes())
    for name in ("workload.py", "observer.py"):
        archive.add(f"srv/{name}", 0o100644, (HERE / "guest" / name).read_bytes())
    archive.add("srv/workload.conf", 0o100644, f"{spec.seed} {'light' if spec.light else 'rich'}".encode())
    for name in ("proc", "sys", "dev", "tmp", "run"):
        archive.add(name, 0o40755)
    archive.add("dev/console", 0o20600, device=(5, 1))
    return archive.compressed()


def parse_size(text: str) -> int:
    """Bytes of "256M" or "4608M" or "4G"."""
    match = re.fullmatch(r"(\d+)([MG])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text}: a size is a number with M or G, as 256M")
    return int(match[1]) << (20 if match[2] == "M" else 30)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m samples.make", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", default="6.1-cloud", help="a .deb, a package's name, or a short name as 6.1-cloud")
    parser.add_argument("--seed", type=int, default=1, help="what the workload draws from (KASLR draws its own)")
    parser.add_argument("--ram", type=parse_size, default=256 << 20, help="memory of the guest, as 256M (the default)")
    parser.add_argument("--cpus", type=int, default=1, help="processors of the guest")
    parser.add_argument("--nokaslr", action="store_true", help="boot at the linked address")
    parser.add_argument("--light", action="store_true", help="a dozen processes instead of many")
    parser.add_argument("--append", default="", help="more for the kernel's command line")
    parser.add_argument("--accel", default="tcg", choices=("tcg", "kvm"), help="how QEMU runs the guest")
    parser.add_argument("--link", type=Path, help="also point this symbolic link to the folder")
    args = parser.parse_args()
    spec = Spec(args.kernel, args.seed, args.ram, args.cpus, not args.nokaslr, args.light, args.append, args.accel)
    try:
        sample = make_sample(spec)
    except SampleError as error:
        print(f"samples: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if args.link:
        args.link.unlink(missing_ok=True)
        args.link.symlink_to(sample.folder)
    print(sample.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
