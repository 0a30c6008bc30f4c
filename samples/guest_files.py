"""The whole file system of a sample guest, as an initramfs."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from samples import cache_key
from samples.apt import cache_folder, download, own_suite, with_libraries
from samples.compiler import compile_static, sources
from samples.initramfs import Archive, userland
from samples.kernels import modules_package
from samples.modules import load_order
from samples.plan import RENEWAL, TOOLS_ON_COPY, plan
from samples.workload import ACTOR, ACTORS, USERS, renewal, workload

GUEST = Path(__file__).parent / "guest"
OBSERVER = "usr/libexec/observer"
_FOLDERS = ("proc", "sys", "dev", "tmp", "run", "root", "mnt")
_PACKAGES = (
    "dash", "coreutils", "findutils", "procps", "kmod", "iproute2", "net-tools", "util-linux", "mount",
    "hostname", "libc6",
)  # fmt: skip
_RICH_PACKAGES = ("sysstat", "lsof")
_BIN = (
    "dash", "sh", "cat", "cp", "ln", "rm", "find", "mkdir", "mkfifo", "chmod", "chown", "head", "tail",
    "sleep",
    "env", "uname", "df", "ps", "free", "uptime", "pgrep", "vmstat", "pmap", "kmod", "dmesg", "mount",
    "unshare", "nsenter", "ipcs", "lsns", "hostname", "netstat", "ss", "ip", "lsof", "iostat", "mpstat",
    "pidstat", "pidstat[.]sysstat",
)  # fmt: skip
_SBIN = ("ip", "arp", "ifconfig", "route", "losetup", "lsmod", "insmod", "modprobe")
_MODULES = ("dummy",)
_RICH_MODULES = (
    *_MODULES, "bridge", "veth", "loop", "tun", "nf_conntrack", "xt_conntrack", "nft_ct", "nls_iso8859_1",
    "virtio_net", "overlay", "fuse", "crc32c_generic", "8021q",
)  # fmt: skip
_DIAG_MODULES = (
    "unix_diag", "tcp_diag", "udp_diag", "raw_diag", "mptcp_diag", "sctp_diag", "vsock_diag", "xsk_diag",
    "tipc_diag", "smc_diag", "netlink_diag", "af_packet_diag",
)  # fmt: skip
_NETWORK_MODULES = (
    "bridge", "veth", "8021q", "vxlan", "geneve", "macvlan", "macvtap", "ipvlan", "bonding", "team", "gre",
    "ip_gre", "ipip", "sit", "ip6_tunnel", "ip6_gre", "wireguard", "ip_vti", "vrf", "ifb", "tun", "nlmon",
    "macsec", "xfrm_interface", "fou", "mpls_iptunnel", "sctp", "tipc", "vsock", "vsock_loopback",
)  # fmt: skip
"""What guest/network.sh needs of a kernel."""
NETWORK = "usr/libexec/network"


@dataclass(frozen=True)
class Entry:
    """One file of ours: its path in the guest, its mode with the file type, its data or a link's target."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Recipe:
    """What a guest is made of, besides its kernel: with `dataclasses.replace`, of more.

    `entries` are files of ours; `programs` are C files by the path of the program in the guest; `packages`
    are Debian's, of which the guest gets the files whose whole path matches one of the regular expressions in
    `wanted`, and the libraries that they need; `modules` are loaded in an order in which they can be, and
    those that a kernel package lacks are left out.
    """

    entries: tuple[Entry, ...]
    programs: tuple[tuple[str, Path], ...]
    packages: tuple[str, ...]
    wanted: tuple[str, ...]
    modules: tuple[str, ...]

    def digest(self) -> str:
        """Names everything that the recipe says, the C files' text included."""
        code = [(name, [path.read_bytes() for path in sources(source)]) for name, source in self.programs]
        return cache_key.digest(replace(self, programs=()), code)


def recipe(seed: int, light: bool, processes: int, routes: int = 0) -> Recipe:
    """The files of a sample guest (see `samples.make.Spec` for what is chosen)."""
    made = _recipe(seed, light, processes, routes)
    if not routes:
        return made
    return replace(
        made,
        programs=(*made.programs, (NETWORK, GUEST / "network.c")),
        packages=(*made.packages, *(name for name in _RICH_PACKAGES if name not in made.packages)),
        modules=(*made.modules, *_NETWORK_MODULES, *_DIAG_MODULES),
    )


def _recipe(seed: int, light: bool, processes: int, routes: int) -> Recipe:
    users = "".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in USERS.items())
    groups = "".join(f"{name}:x:{number}:\n" for name, number in USERS.items()) + "users:x:100:\n"
    script = workload(seed, light, processes).encode("utf-8", "surrogateescape")
    if routes:
        script += f"routes={routes}\n".encode() + (GUEST / "network.sh").read_bytes()
    return Recipe(
        entries=(
            _text("etc/passwd", users.encode()),
            _text("etc/group", groups.encode()),
            _text("etc/hostname", f"sample-{seed}\n".encode()),
            _program("init", "init.sh"),
            _text("srv/workload.sh", script),
            _text(RENEWAL.removeprefix("/"), renewal(seed, light).encode()),
            _text("srv/plan", plan(light, routes > 0).encode()),
            _program(TOOLS_ON_COPY.removeprefix("/"), "tools_on_copy.sh"),
            *(Entry(name, stat.S_IFLNK | 0o777, f"/{ACTOR}".encode()) for name in ACTORS),
            *(Entry(name, stat.S_IFDIR | 0o755) for name in _FOLDERS),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ),
        programs=((ACTOR, GUEST / "actor.c"), (OBSERVER, GUEST / "observer.c")),
        packages=_PACKAGES if light else (*_PACKAGES, *_RICH_PACKAGES),
        wanted=(f"usr/bin/({'|'.join(_BIN)})", f"usr/sbin/({'|'.join(_SBIN)})"),
        modules=_MODULES if light else _RICH_MODULES,
    )


def _text(name: str, data: bytes) -> Entry:
    return Entry(name, stat.S_IFREG | 0o644, data)


def _program(name: str, source: str) -> Entry:
    return Entry(name, stat.S_IFREG | 0o755, (GUEST / source).read_bytes())


def initramfs(package: Path, made_of: Recipe) -> bytes:
    """The file system for one kernel package, uncompressed."""
    archive = Archive()
    modules = load_order(modules_package(package), made_of.modules)
    for module in modules:
        archive.add(f"usr/lib/modules/{module.name}.ko", stat.S_IFREG | 0o644, module.data)
    order = "".join(f"{module.name}{'' if module.required else ' may-fail'}\n" for module in modules)
    archive.add("usr/lib/modules/order", stat.S_IFREG | 0o644, order.encode())
    for entry in made_of.entries:
        archive.add(entry.name, entry.mode, entry.data, entry.device)
    for name, source in made_of.programs:
        archive.add(name, stat.S_IFREG | 0o755, compile_static(source))
    return debian_files(made_of) + archive.finished()


def debian_files(made_of: Recipe) -> bytes:
    """The part that comes from Debian packages; kept in the cache, as unpacking them takes seconds."""
    suites = (own_suite(),)
    packages = download(with_libraries(made_of.packages, suites), suites)
    key = cache_key.digest(made_of.wanted, [path.name for path in packages])
    kept = cache_folder() / "userland" / f"{key}.cpio"
    if kept.exists():
        return kept.read_bytes()
    data = userland(packages, made_of.wanted).finished()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as temporary:
        temporary.write(data)
    os.replace(temporary.name, kept)
    return data
