"""A process of a sample guest with memory of every kind, as lines of a shell script (see guest/memory.h)."""

from __future__ import annotations

_MM = "/sys/kernel/mm"
_NODES = "$([ -d /sys/devices/system/node/node1 ] && echo nodes)"
_KINDS = (
    "transparent", "zeros", "hugetlb", "shared", "merged", "locked", "swapped", "copied", _NODES,
)  # fmt: skip


def memory_of_every_kind(actor: str) -> list[str]:
    """Huge pages of every kind, merged, locked and bound ones, and two swap devices, the first of which
    compresses. What a guest does not have (nodes of memory, say) is left out. `actor` is the path of
    guest/actor.c's program, without its first slash."""
    return [
        "echo 48 > /proc/sys/vm/nr_hugepages",
        f"echo advise > {_MM}/transparent_hugepage/shmem_enabled",
        f"echo 0 > {_MM}/ksm/sleep_millisecs; echo 1000 > {_MM}/ksm/pages_to_scan; echo 1 > {_MM}/ksm/run",
        "echo 8M > /sys/block/zram0/disksize; mkswap /dev/zram0; swapon -p 9 /dev/zram0",
        "head -c 64M /dev/zero > /srv/swap.img; losetup /dev/loop1 /srv/swap.img",
        "mkswap /dev/loop1; swapon -p 1 /dev/loop1",
        f"/{actor} run -r -a 'java -Xmx1g' heap memory 16 {' '.join(_KINDS)}",
        f"until [ $(cat {_MM}/ksm/full_scans) -gt 3 ]; do sleep 0.1; done; echo 0 > {_MM}/ksm/run",
    ]
