"""The paper's own figures: Saberi, Fu, Lin: HYBRID-BRIDGE (NDSS 2014), the tables of the authors' slides.

Its guest was Ubuntu 12.04 with Linux 2.6.37, in KVM and QEMU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Figures(NamedTuple):
    """`vm_exits`: how often FAST-BRIDGE left its virtual machine. `slower_than_kvm`: against the same tool in
    a guest on KVM. `faster_than_vmst`: against VMST, which tracks taint all the time. Seconds without any
    memo, and with a full one, where FAST-BRIDGE does all."""

    vm_exits: int
    slower_than_kvm: float
    faster_than_vmst: float
    without_memo: float
    with_memo: float


class AgainstVirtuoso(NamedTuple):
    """x86 instructions of VIRTUOSO's tool, seconds on FAST-BRIDGE, and how much faster that was."""

    instructions: int
    seconds: float
    faster: float


PAPER: Mapping[str, Figures] = {
    "getpid": Figures(2, 1.25, 84.60, 1.976, 0.005),
    "gettime": Figures(4, 1.25, 78.40, 1.985, 0.005),
    "hostname": Figures(10, 1.25, 97.60, 2.199, 0.005),
    "uname": Figures(10, 1.66, 77.80, 2.211, 0.005),
    "arp": Figures(1852, 1.09, 7.86, 2.360, 0.094),
    "uptime": Figures(1892, 2.40, 49.25, 1.810, 0.012),
    "free": Figures(3927, 2.42, 36.88, 2.755, 0.017),
    "lsmod": Figures(11875, 2.66, 21.54, 2.329, 0.048),
    "netstat": Figures(23165, 7.64, 13.59, 1.719, 0.107),
    "vmstat": Figures(86578, 15.57, 20.13, 4.186, 0.109),
    "iostat": Figures(97390, 12.00, 19.35, 5.047, 0.120),
    "dmesg": Figures(11663, 1.90, 29.22, 4.845, 0.295),
    "mpstat": Figures(124525, 19.12, 10.68, 4.460, 0.153),
    "ps": Figures(418124, 53.44, 13.76, 10.047, 0.481),
    "pidstat": Figures(490713, 37.37, 13.53, 12.585, 0.598),
}
"""The 15 tools, in the paper's order."""

VIRTUOSO: Mapping[str, AgainstVirtuoso] = {
    "gettime": AgainstVirtuoso(482, 0.005, 4.60),
    "getpid": AgainstVirtuoso(516, 0.005, 4.80),
    "tinyps": AgainstVirtuoso(140843, 0.064, 23.45),
    "getprocname": AgainstVirtuoso(294797, 0.132, 20.57),
}
"""The four that VIRTUOSO has, too."""

TOOLS = (*PAPER, *(name for name in VIRTUOSO if name not in PAPER))
"""All 17."""
