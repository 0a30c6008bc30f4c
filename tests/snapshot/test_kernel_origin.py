"""Which distribution and package a banner names. Each banner has the form that the distribution's builds
write."""

from __future__ import annotations

import pytest

from hybridbridge_vol.snapshot.kernel_origin import KernelOrigin, origin_of, package_of

DEBIAN = (
    "Linux version 6.1.0-18-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, "
    "GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)\n"
)
BACKPORT = (
    "Linux version 6.12.43+deb12-cloud-amd64 (debian-kernel@lists.debian.org) (x86_64-linux-gnu-gcc-12 "
    "(Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian "
    "6.12.43-1~bpo12+1 (2025-09-06)\n"
)
KALI = (
    "Linux version 6.6.9-amd64 (devel@kali.org) (gcc-13 (Debian 13.2.0-9) 13.2.0, GNU ld (GNU Binutils for "
    "Debian) 2.41.50.20231227) #1 SMP PREEMPT_DYNAMIC Kali 6.6.9-1kali1 (2024-01-08)\n"
)
PROXMOX = (
    "Linux version 6.8.4-2-pve (build@proxmox) (gcc (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for "
    "Debian) 2.40) #1 SMP PREEMPT_DYNAMIC PMX 6.8.4-2 (2024-04-10T17:36Z)\n"
)
UBUNTU = (
    "Linux version 5.15.0-91-generic (buildd@lcy02-amd64-045) (gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0, "
    "GNU ld (GNU Binutils for Ubuntu) 2.38) #101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023\n"
)
UBUNTU_AWS = (
    "Linux version 5.15.0-1051-aws (buildd@lcy02-amd64-040) (gcc (Ubuntu 9.4.0-1ubuntu1~20.04.2) 9.4.0, GNU "
    "ld (GNU Binutils for Ubuntu) 2.34) #56~20.04.1-Ubuntu SMP Tue Nov 28 15:43:31 UTC 2023\n"
)
FEDORA = (
    "Linux version 6.5.6-300.fc39.x86_64 (mockbuild@b0d8a9bc2a4b4a6f8ff4d3a1b3ad9fe8) (gcc (GCC) 13.2.1 "
    "20230918 (Red Hat 13.2.1-3), GNU ld version 2.40-13.fc39) #1 SMP PREEMPT_DYNAMIC Fri Oct  6 19:57:21 "
    "UTC 2023\n"
)
RHEL = (
    "Linux version 5.14.0-362.8.1.el9_3.x86_64 (mockbuild@x86-vm-07.build.eng.bos.redhat.com) (gcc (GCC) "
    "11.4.1 20230605 (Red Hat 11.4.1-2), GNU ld version 2.35.2-42.el9) #1 SMP PREEMPT_DYNAMIC Tue Oct 3 "
    "11:12:36 EDT 2023\n"
)
CENTOS_7 = (
    "Linux version 3.10.0-1160.105.1.el7.x86_64 (mockbuild@kbuilder.bsys.centos.org) (gcc version 4.8.5 "
    "20150623 (Red Hat 4.8.5-44) (GCC) ) #1 SMP Thu Dec 7 15:39:45 UTC 2023\n"
)
ORACLE = (
    "Linux version 5.15.0-200.131.27.el9uek.x86_64 (mockbuild@host-100-100-224-60) (gcc (GCC) 11.4.1) #2 SMP "
    "Tue Nov 14 18:36:31 PST 2023\n"
)
RHEL_REAL_TIME = RHEL.replace(".x86_64 ", ".x86_64+rt ")
AMAZON_2 = (
    "Linux version 5.10.215-203.850.amzn2.x86_64 (mockbuild@ip-10-0-44-115) (gcc10-gcc (GCC) 10.5.0 20230707 "
    "(Red Hat 10.5.0-1), GNU ld version 2.35.2-9.amzn2.0.1) #1 SMP Tue Apr 23 20:32:19 UTC 2024\n"
)
AMAZON_2023 = (
    "Linux version 6.12.20-23.97.amzn2023.x86_64 (mockbuild@ip-10-0-43-174) (gcc (GCC) 11.4.1 20230605 (Red "
    "Hat 11.4.1-2), GNU ld version 2.39-6.amzn2023.0.10) #1 SMP PREEMPT_DYNAMIC Wed Dec 13 04:50:24 2023\n"
)
SUSE = (
    "Linux version 5.14.21-150500.55.39-default (geeko@buildhost) (gcc (SUSE Linux) 7.5.0, GNU ld (GNU "
    "Binutils; SUSE Linux Enterprise 15) 2.41.0.20230908-150100.7.46) #1 SMP PREEMPT_DYNAMIC Tue Dec 5 "
    "10:06:35 UTC 2023 (2e4092e)\n"
)
TUMBLEWEED = SUSE.replace("5.14.21-150500.55.39", "6.6.7-1").replace("Linux Enterprise 15", "Tumbleweed")
ARCH = (
    "Linux version 6.6.8-arch1-1 (linux@archlinux) (gcc (GCC) 13.2.1 20230801, GNU ld (GNU Binutils) 2.41.0) "
    "#1 SMP PREEMPT_DYNAMIC Thu, 21 Dec 2023 19:01:01 +0000\n"
)
ARCH_ZEN = ARCH.replace("6.6.8-arch1-1 (linux@", "6.7.0-zen3-1-zen (linux-zen@")
ARCH_LTS = ARCH.replace("6.6.8-arch1-1 (linux@", "6.6.8-1-lts (linux-lts@")
ALPINE = (
    "Linux version 6.1.70-0-virt (buildozer@build-3-18-x86_64) (gcc (Alpine 12.2.1_git20220924-r10) 12.2.1 "
    "20220924, GNU ld (GNU Binutils) 2.40) #1-Alpine SMP PREEMPT_DYNAMIC Mon, 01 Jan 2024 13:13:44 +0000\n"
)


@pytest.mark.parametrize(
    ("banner", "distribution", "client", "package", "version"),
    [
        (DEBIAN, "Debian", "apt", "linux-image-6.1.0-18-cloud-amd64", "6.1.76-1"),
        (BACKPORT, "Debian", "apt", "linux-image-6.12.43+deb12-cloud-amd64", "6.12.43-1~bpo12+1"),
        (KALI, "Kali", "apt", "linux-image-6.6.9-amd64", "6.6.9-1kali1"),
        (PROXMOX, "Proxmox", "apt", "proxmox-kernel-6.8.4-2-pve-signed", None),
        (UBUNTU, "Ubuntu", "apt", "linux-image-5.15.0-91-generic", "5.15.0-91.101"),
        (UBUNTU_AWS, "Ubuntu", "apt", "linux-image-5.15.0-1051-aws", "5.15.0-1051.56~20.04.1"),
        (FEDORA, "Fedora", "dnf", "kernel-core-6.5.6-300.fc39.x86_64", None),
        (
            RHEL,
            "Red Hat Enterprise Linux or its like",
            "dnf",
            "kernel-core-5.14.0-362.8.1.el9_3.x86_64",
            None,
        ),
        (
            RHEL_REAL_TIME,
            "Red Hat Enterprise Linux or its like",
            "dnf",
            "kernel-rt-core-5.14.0-362.8.1.el9_3.x86_64",
            None,
        ),
        (
            ORACLE,
            "Red Hat Enterprise Linux or its like",
            "dnf",
            "kernel-uek-core-5.15.0-200.131.27.el9uek.x86_64",
            None,
        ),
        (AMAZON_2, "Amazon Linux", "dnf", "kernel-5.10.215-203.850.amzn2.x86_64", None),
        (AMAZON_2023, "Amazon Linux", "dnf", "kernel-6.12.20-23.97.amzn2023.x86_64", None),
        (SUSE, "SUSE", "zypper", "kernel-default", "5.14.21-150500.55.39"),
        (TUMBLEWEED, "SUSE", "zypper", "kernel-default", "6.6.7-1"),
        (ARCH, "Arch Linux", "pacman", "linux", "6.6.8.arch1-1"),
        (ARCH_ZEN, "Arch Linux", "pacman", "linux-zen", "6.7.zen3-1"),
        (ARCH_LTS, "Arch Linux", "pacman", "linux-lts", "6.6.8-1"),
        (ALPINE, "Alpine", "apk", "linux-virt", "6.1.70-r0"),
    ],
)
def test_a_banner_names_the_distribution_and_its_package(
    banner: str, distribution: str, client: str, package: str, version: str | None
) -> None:
    origin = origin_of(banner)
    assert origin is not None
    assert (origin.distribution, origin.client, origin.packages[0]) == (distribution, client, package)
    assert origin.version == version
    assert origin.release == banner.split()[2]


def test_a_package_may_have_several_names() -> None:
    names = (_origin(CENTOS_7).packages, _origin(AMAZON_2023).packages, _origin(DEBIAN).packages[1:3])
    assert names == (
        ("kernel-core-3.10.0-1160.105.1.el7.x86_64", "kernel-3.10.0-1160.105.1.el7.x86_64"),
        ("kernel-6.12.20-23.97.amzn2023.x86_64", "kernel6.12-6.12.20-23.97.amzn2023.x86_64"),
        ("linux-image-6.1.0-18-cloud-amd64-unsigned", "linux-binary-6.1.0-18-cloud-amd64"),
    )


def test_the_release_of_the_distribution_is_told_where_the_banner_has_it() -> None:
    assert [_origin(banner).branch for banner in (FEDORA, ALPINE, DEBIAN)] == ["39", "v3.18", None]


@pytest.mark.parametrize(
    "banner",
    [
        (
            "Linux version 6.9.1 (me@home) (gcc (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils) 2.40) "
            "#1 SMP PREEMPT_DYNAMIC Fri May 17 10:00:00 CEST 2024"
        ),
        "Linux version 6.9.1;reboot.fc39.x86_64 (mockbuild@x) (gcc) #1 SMP",
        "Linux version $(reboot)-0-virt (buildozer@build-3-18-x86_64) (gcc) #1-Alpine SMP",
        "Linux version 6.9.1 (linux-$(reboot)@archlinux) (gcc) #1 SMP",
        "nonsense",
        "",
    ],
)
def test_a_kernel_of_somebodys_own_and_a_hostile_banner_name_no_package(banner: str) -> None:
    assert origin_of(banner) is None
    assert package_of(banner) is None


def test_the_version_is_shown_where_the_banner_states_it() -> None:
    assert package_of(DEBIAN) == "linux-image-6.1.0-18-cloud-amd64 (version 6.1.76-1)"
    assert package_of(UBUNTU) == "linux-image-5.15.0-91-generic"
    assert package_of(SUSE) == "kernel-default (version 5.14.21-150500.55.39)"


def _origin(banner: str) -> KernelOrigin:
    origin = origin_of(banner)
    assert origin is not None
    return origin
