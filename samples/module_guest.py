"""Guests that load modules, and do nothing else: those of a server, or every one that the kernel package
has."""

from __future__ import annotations

import stat

from samples.guest_files import GUEST, OBSERVER, Entry, Recipe

_SERVER = (
    "xfs", "btrfs", "ext4", "nfsd", "cifs", "overlay", "dm_crypt", "raid456", "drm", "virtio_gpu",
    "wireguard", "vxlan", "openvswitch", "bonding", "8021q", "sctp", "tipc", "smc", "ib_core", "rdma_cm",
    "mlx5_core", "nf_tables", "nft_ct", "xt_conntrack", "kvm", "kvm_amd", "aesni_intel", "virtio_net",
    "virtio_blk", "nvme", "snd_hda_intel", "mac80211",
)  # fmt: skip
SETS = {"server": _SERVER, "all": (*_SERVER, "*")}
"""Names or shell patterns, by the name of the set. A module that the package lacks is left out, and if time
runs out, the last ones."""
_LEFT_OUT = (
    "!pvpanic*",  # the machine is stopped by writing to this device
)
_LOADER = "usr/libexec/load_modules"
_PLAN = ("command uname -a", "last /run/refused", "last /proc/modules", "settle comm")


def recipe(modules: str) -> Recipe:
    """The files of a guest that loads the modules of one of `SETS`."""
    return Recipe(
        entries=(
            _program("init", "modules_init.sh"),
            Entry("srv/plan", stat.S_IFREG | 0o644, "".join(f"{line}\n" for line in _PLAN).encode()),
            *(Entry(name, stat.S_IFDIR | 0o755) for name in ("proc", "sys", "dev", "run")),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        ),
        programs=((_LOADER, GUEST / "load_modules.c"), (OBSERVER, GUEST / "observer.c")),
        packages=("dash", "coreutils", "mount", "libc6"),
        wanted=("usr/bin/(dash|sh|sleep|uname|mount)",),
        modules=(*SETS[modules], *_LEFT_OUT),
    )


def _program(name: str, source: str) -> Entry:
    return Entry(name, stat.S_IFREG | 0o755, (GUEST / source).read_bytes())
