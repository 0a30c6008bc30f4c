"""The whole file system of a sample guest, as an initramfs."""

from __future__ import annotations

import fnmatch
import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hybridbridge_vol.kernel_file.module import module_name
from hybridbridge_vol.kernel_file.packages import members
from samples import cache_key
from samples.apt import cache_folder, download, own_suite, with_libraries
from samples.compiler import compile_static, sources
from samples.initramfs import Archive, userland
from samples.kernels import modules_package
from samples.modules import load_order
from samples.plan import (
    CONTAINER_COMMANDS,
    CONTAINER_COMMANDS_FILE,
    IN_CONTAINER,
    RENEWAL,
    TOOLS_ON_COPY,
    plan,
)
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
_SWAP_TOOLS = ("mkswap", "swapon")
_MODULES = ("dummy",)
_RICH_MODULES = (
    *_MODULES, "bridge", "veth", "loop", "tun", "nf_conntrack", "xt_conntrack", "nft_ct", "nls_iso8859_1",
    "virtio_net", "overlay", "fuse", "crc32c_generic", "8021q",
)  # fmt: skip
_MEMORY_MODULES = ("loop", "lzo_rle", "zram")

_DISK_PACKAGES = (
    "attr",
    "btrfs-progs",
    "dmsetup",
    "dosfstools",
    "e2fsprogs",
    "libgcc-s1",
    "squashfs-tools",
    "xfsprogs",
)
_DISK_PROGRAMS = (
    "usr/bin/(dd|setfattr|sha256sum|mksquashfs|split|umount|sync)",
    "usr/sbin/(mke2fs|chroot|dmsetup|mkfs[.](xfs|btrfs|fat))",
    "usr/lib/x86_64-linux-gnu/libgcc_s[.]so[.]1",  # glibc opens it when a thread ends
)
_DISK_MODULES = (
    "virtio_pci", "virtio_blk", "ext4", "xfs", "btrfs", "vfat", "nls_cp437", "nls_ascii", "nls_utf8",
    "nls_iso8859_1", "squashfs", "overlay", "crc32c_generic", "aes_generic", "xts", "dm_crypt",
    "cbc", "cts", "ecb", "hmac", "sha512_generic",
)  # fmt: skip
DISK_SIZES = tuple(size << 20 for size in (64, 320, 128, 64, 16, 32))
"""Bytes of the disks /dev/vda to vdf of a guest with file systems (guest/disks.sh says which is on which)."""
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
    those that a kernel package lacks are left out (see `chosen` for patterns of names).
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


def recipe(
    seed: int, light: bool, processes: int, memory: bool = False, disks: bool = False, routes: int = 0
) -> Recipe:
    """The files of a sample guest (see `samples.make.Spec` for what is chosen)."""
    made = _plain_recipe(seed, light, processes, memory, routes, plan(light, disks, routes > 0))
    if disks:
        made = replace(
            made,
            entries=(*made.entries, _text("srv/disks.sh", (GUEST / "disks.sh").read_bytes())),
            programs=(
                *made.programs,
                ("usr/libexec/inventory", GUEST / "inventory.c"),
                ("usr/libexec/encrypt", GUEST / "encrypt.c"),
            ),
            packages=(*made.packages, *_DISK_PACKAGES),
            wanted=(*made.wanted, *_DISK_PROGRAMS),
            modules=tuple(dict.fromkeys((*made.modules, *_DISK_MODULES))),
        )
    if routes:
        made = replace(
            made,
            programs=(*made.programs, (NETWORK, GUEST / "network.c")),
            packages=(*made.packages, *(name for name in _RICH_PACKAGES if name not in made.packages)),
            modules=(*made.modules, *_NETWORK_MODULES, *_DIAG_MODULES),
        )
    return made


def _plain_recipe(seed: int, light: bool, processes: int, memory: bool, routes: int, orders: str) -> Recipe:
    users = "".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in USERS.items())
    groups = "".join(f"{name}:x:{number}:\n" for name, number in USERS.items()) + "users:x:100:\n"
    sbin = (*_SBIN, *_SWAP_TOOLS) if memory else _SBIN
    modules = (*(_MODULES if light else _RICH_MODULES), *(_MEMORY_MODULES if memory else ()))
    script = workload(seed, light, processes, memory).encode("utf-8", "surrogateescape")
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
            _text("srv/plan", orders.encode()),
            _program(TOOLS_ON_COPY.removeprefix("/"), "tools_on_copy.sh"),
            *([] if light else _asked_in_container()),
            *(Entry(name, stat.S_IFLNK | 0o777, f"/{ACTOR}".encode()) for name in ACTORS),
            *(Entry(name, stat.S_IFDIR | 0o755) for name in _FOLDERS),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ),
        programs=((ACTOR, GUEST / "actor.c"), (OBSERVER, GUEST / "observer.c")),
        packages=_PACKAGES if light else (*_PACKAGES, *_RICH_PACKAGES),
        wanted=(f"usr/bin/({'|'.join(_BIN)})", f"usr/sbin/({'|'.join(sbin)})"),
        modules=modules,
    )


def _asked_in_container() -> list[Entry]:
    commands = "".join(f"{line}\n" for line in CONTAINER_COMMANDS)
    return [
        _program(IN_CONTAINER.removeprefix("/"), "in_container.sh"),
        _text(CONTAINER_COMMANDS_FILE.removeprefix("/"), commands.encode()),
    ]


def _text(name: str, data: bytes) -> Entry:
    return Entry(name, stat.S_IFREG | 0o644, data)


def _program(name: str, source: str) -> Entry:
    return Entry(name, stat.S_IFREG | 0o755, (GUEST / source).read_bytes())


def initramfs(package: Path, made_of: Recipe) -> bytes:
    """The file system for one kernel package, uncompressed."""
    archive = Archive()
    source = modules_package(package)
    modules = load_order(source, chosen(source, made_of.modules))
    for module in modules:
        archive.add(f"usr/lib/modules/{module.name}.ko", stat.S_IFREG | 0o644, module.data)
    order = "".join(f"{module.name}{'' if module.required else ' may-fail'}\n" for module in modules)
    archive.add("usr/lib/modules/order", stat.S_IFREG | 0o644, order.encode())
    for entry in made_of.entries:
        archive.add(entry.name, entry.mode, entry.data, entry.device)
    for name, source in made_of.programs:
        archive.add(name, stat.S_IFREG | 0o755, compile_static(source))
    return debian_files(made_of) + archive.finished()


def chosen(package: Path, wanted: Iterable[str]) -> list[str]:
    """The names of the modules that are `wanted`: names, shell patterns of the names that the package has,
    and behind a `!` patterns of those that are not."""
    wanted = list(wanted)
    if not any(set(pattern) & set("*?[!") for pattern in wanted):
        return wanted
    names = sorted(module_name(member.name) for member in members(package, "*/kernel/*.ko*"))
    left_out = [pattern[1:] for pattern in wanted if pattern.startswith("!")]
    found = [
        name
        for pattern in wanted
        for name in fnmatch.filter(names, pattern)
        if not any(fnmatch.fnmatch(name, other) for other in left_out)
    ]
    return list(dict.fromkeys(found))


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
