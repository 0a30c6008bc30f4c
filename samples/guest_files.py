"""The whole file system of a sample guest, as an initramfs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

from samples.apt import cache_folder, download, own_suite, with_libraries
from samples.compiler import compile_static
from samples.initramfs import Archive, userland
from samples.kernels import modules_package
from samples.modules import load_order
from samples.plan import STILL, plan
from samples.workload import ACTOR, ACTORS, USERS, workload

HERE = Path(__file__).parent
_PACKAGES = (
    "dash",
    "coreutils",
    "findutils",
    "procps",
    "kmod",
    "iproute2",
    "net-tools",
    "util-linux",
    "mount",
    "hostname",
    "libc6",
)
_RICH_PACKAGES = ("sysstat", "lsof")
_PROGRAMS = (
    "usr/bin/(dash|sh|cat|cp|ln|rm|find|mkdir|mkfifo|chmod|chown|head|tail|sleep|env|uname|df|ps|free|uptime|pgrep|vmstat|pmap|kmod)",
    "usr/bin/(dmesg|mount|unshare|nsenter|ipcs|lsns|hostname|netstat|ss|ip|lsof|iostat|mpstat|pidstat|pidstat[.]sysstat)",
    "usr/sbin/(ip|arp|ifconfig|route|losetup|lsmod|insmod|modprobe)",
)
_MODULES = ("dummy",)
_RICH_MODULES = (
    *_MODULES, "bridge", "veth", "loop", "tun", "nf_conntrack", "xt_conntrack", "nft_ct", "nls_iso8859_1",
    "virtio_net", "overlay", "fuse", "crc32c_generic", "8021q",
)  # fmt: skip
"""Those that a kernel package lacks are left out."""


@cache
def makers_digest() -> str:
    """Eight hex digits that name this version of the maker: images of another one are not taken for ours."""
    files = sorted(HERE.glob("*.py")) + sorted((HERE / "guest").iterdir())
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files if path.is_file())).hexdigest()[:8]


def initramfs(package: Path, seed: int, light: bool, processes: int) -> bytes:
    """The file system for one kernel package, uncompressed."""
    archive = Archive()
    modules = load_order(modules_package(package), _MODULES if light else _RICH_MODULES)
    for module in modules:
        archive.add(f"usr/lib/modules/{module.name}.ko", 0o100644, module.data)
    order = "".join(f"{module.name}{'' if module.required else ' may-fail'}\n" for module in modules)
    archive.add("usr/lib/modules/order", 0o100644, order.encode())
    archive.add(
        "etc/passwd", 0o100644, "".join(f"{u}:x:{n}:{n}::/:/bin/sh\n" for u, n in USERS.items()).encode()
    )
    archive.add(
        "etc/group", 0o100644, "".join(f"{u}:x:{n}:\n" for u, n in USERS.items()).encode() + b"users:x:100:\n"
    )
    archive.add("etc/hostname", 0o100644, f"sample-{seed}\n".encode())
    archive.add("init", 0o100755, (HERE / "guest" / "init.sh").read_bytes())
    archive.add(
        "srv/workload.sh", 0o100644, workload(seed, light, processes).encode("utf-8", "surrogateescape")
    )
    archive.add("srv/plan", 0o100644, plan(light).encode())
    archive.add(ACTOR, 0o100755, compile_static(HERE / "guest" / "actor.c"))
    archive.add("usr/libexec/observer", 0o100755, compile_static(HERE / "guest" / "observer.c"))
    archive.add(STILL.removeprefix("/"), 0o100755, (HERE / "guest" / "still.sh").read_bytes())
    for name in ACTORS:
        archive.add(name, 0o120777, f"/{ACTOR}".encode())
    for name in ("proc", "sys", "dev", "tmp", "run", "root", "mnt"):
        archive.add(name, 0o40755)
    archive.add("dev/console", 0o20600, device=(5, 1))
    return _debian(light) + archive.finished()


def _debian(light: bool) -> bytes:
    """The part that comes from Debian packages; kept in the cache, as unpacking them takes seconds."""
    suites = (own_suite(),)
    packages = download(with_libraries(_PACKAGES if light else _PACKAGES + _RICH_PACKAGES, suites), suites)
    choice = " ".join([makers_digest(), *(path.name for path in packages)])
    kept = cache_folder() / "userland" / f"{hashlib.sha256(choice.encode()).hexdigest()[:16]}.cpio"
    if kept.exists():
        return kept.read_bytes()
    data = userland(packages, _PROGRAMS).finished()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as temporary:
        temporary.write(data)
    os.replace(temporary.name, kept)
    return data
