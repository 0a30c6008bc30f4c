"""containers: processes in groups and on overlays as engines make them, with the engines' files
(samples/guest/people_containers.sh)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from answers import ask
from generations import Lab

from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.toolkit.cells import Unavailable, utc
from hybridbridge_vol.tools.container import metadata
from hybridbridge_vol.tools.container.groups import membership, parse_groups
from hybridbridge_vol.tools.container.search import layer_of
from hybridbridge_vol.tools.containers import TOOL, joined_mounts
from hybridbridge_vol.tools.host.places import find_places
from samples.truth import Truth

DOCKER, PODMAN, KUBE, CRIO = (
    digits * 4 for digits in ("d0c4e70000000001", "90d3a40000000001", "c0d0000000000001", "c210000000000001")
)


@pytest.fixture
def rows(people_session: Session) -> dict[str, dict[str, Any]]:
    return {row["ID"]: row for row in ask(people_session, "containers") if isinstance(row["ID"], str)}


def test_every_engines_containers_are_found(rows: dict[str, dict[str, Any]]) -> None:
    engines = {row["ID"]: row["ENGINE"] for row in rows.values() if row["STATE"] == "running"}
    (stray,) = (key for key in engines if key.startswith("overlay of process "))
    assert engines == {
        DOCKER: "docker", PODMAN: "podman", KUBE: "containerd", CRIO: "cri-o", "legacy": "lxc",
        "box": "systemd-nspawn", stray: "no engine",
    }  # fmt: skip


def test_processes_are_those_of_the_guests_control_groups(
    people_session: Session, people_truth: Truth, rows: dict[str, dict[str, Any]]
) -> None:
    native: dict[str, list[int]] = {}
    for line in people_truth.command("ps -eww -o pid,comm,cgroup:200").splitlines()[1:]:
        pid, _comm, group = line.split()
        native.setdefault(group.removeprefix("0::"), []).append(int(pid))
    found: dict[str, list[int]] = {}
    for row in ask(people_session, "containers", processes=True):
        if row["ENGINE"] is not None and row["GROUP"] is None and row["PID"] is not None:
            found.setdefault(row["ID"], []).append(row["PID"])
    for key in (DOCKER, PODMAN, KUBE, CRIO, "legacy", "box"):
        group = rows[key]["GROUP"]
        inside = [
            pid
            for path, pids in native.items()
            if path == group or path.startswith(f"{group}/")
            for pid in pids
        ]
        assert sorted(inside) == found[key] and len(inside) == rows[key]["NPROCS"] > 0, key


def test_names_images_ports_and_mounts_are_those_of_the_engines_files(
    rows: dict[str, dict[str, Any]],
) -> None:
    web = rows[DOCKER]
    assert (web["NAME"], web["IMAGE_NAME"], web["PORTS"]) == (
        "web",
        "registry.example/web:1.2",
        "0.0.0.0:8080->80/tcp",
    )
    assert "/srv/data:/data" in web["MOUNTS"] and utc(web["STARTED"], 3) == "2026-11-22 08:10:00.123Z"
    assert web["COMMAND"] == "/bin/webapp idle" and web["HOST"] == "webapp-host"
    assert (rows[PODMAN]["NAME"], rows[PODMAN]["IMAGE_NAME"]) == ("db", "docker.io/library/postgres:15")
    assert (rows[KUBE]["NAME"], rows[KUBE]["POD"]) == ("nginx", "prod/front-7d9")
    assert (rows[CRIO]["NAME"], rows[CRIO]["POD"]) == ("api", "dev/api-0")
    assert rows["box"]["STARTED"] == 1795600000 and rows["legacy"]["MOUNTS"] == "/srv/share srv none bind 0 0"
    assert "SECRET" not in str(list(rows.values()))


def test_what_gives_power_over_the_host_is_what_the_kernel_says(rows: dict[str, dict[str, Any]]) -> None:
    marks = {key: set((row["MARK"] or "").split(", ")) for key, row in rows.items()}
    assert {
        "privileged",
        "the host's root at /host",
        "the host's ipc namespace",
        "all capabilities",
    } <= marks[DOCKER]
    assert "the host's pid namespace" not in marks[DOCKER] and "the host's net namespace" not in marks[DOCKER]
    assert not any("root at" in mark for mark in marks[PODMAN])
    assert rows[DOCKER]["ROOT"] == (
        "overlay /var/lib/machines/docker/u1/diff over /var/lib/machines/docker/l1/diff"
    )  # fmt: skip


def test_what_does_not_run_and_what_is_damaged_is_shown(people_session: Session) -> None:
    rows = {row["ID"]: row for row in ask(people_session, "containers", engine="docker")}
    old, damaged = rows["d0c4e70000000002" * 4], rows["d0c4e70000000003" * 4]
    assert (old["NAME"], old["STATE"], old["NPROCS"], old["PID"]) == ("old", "not running", 0, None)
    assert isinstance(damaged["NAME"], Unavailable) and "damaged" in damaged["NAME"].reason
    assert [row["NAME"] for row in ask(people_session, "containers", id="we")] == ["web"]


@pytest.fixture
def cold_session(people_session: Session, people: str, lab: Lab) -> Iterator[Session]:
    """As a process sees the guest whose root is on a disk, of which memory holds a part."""
    (pid,) = (
        pid for pid in people_session.files.listdir("/proc")
        if pid.isdecimal() and people_session.files.read(f"/proc/{pid}/comm") == b"thawing\n"
    )  # fmt: skip
    with open_session(lab.sample(people).dump, lab.store.root, root_of=int(pid)) as session:
        yield session


def test_homes_of_which_nothing_is_known_share_a_row(cold_session: Session) -> None:
    """Of 200 accounts in the part of /etc/passwd that memory holds, most have a home below /home, which it
    does not hold; /root is known to be absent."""
    rows = ask(cold_session, "containers")
    lacks = {row["ENGINE"]: row["ID"].reason for row in rows if isinstance(row["ID"], Unavailable)}
    assert set(lacks) == {"docker", "podman", "lxc"}  # /run is known to be absent
    assert len(rows) == len({row["ID"] for row in rows if isinstance(row["ID"], str)}) + len(lacks)
    found = re.match(r"/var/lib/containers/storage/overlay-containers and (\d+) more: ", lacks["podman"])
    assert found is not None and int(found[1]) > 150
    assert all(reason.endswith("on the way: its inode is not in memory") for reason in lacks.values())


def test_a_folder_is_there_or_absent_or_unknown(cold_session: Session) -> None:
    """/home has its name in the root's block, which memory holds, and no inode there."""
    paths = ["/bin/thawing", "/root/x", "/nowhere", "/home", "/home/user0", "/var/lib/x", "/bin/thawing/x"]
    there, unknown = find_places(cold_session.files, paths)
    assert there == ["/bin/thawing", "/home"]
    (lost,) = unknown
    assert lost.paths == ("/home/user0", "/var/lib/x") and "/home/user0 and 1 more: " in lost.lack.reason


@pytest.mark.parametrize(
    ("path", "engine", "name", "pod"),
    [
        ("/docker/" + "a" * 64, "docker", "a" * 64, ""),
        ("/user.slice/user-1000.slice/libpod-" + "b" * 64 + ".scope", "podman", "b" * 64, ""),
        ("/kubepods/besteffort/pod12345678-1234-1234-1234-123456789abc/" + "c" * 64, "kubernetes", "c" * 64,
         "12345678-1234-1234-1234-123456789abc"),
        ("/kubepods.slice/kubepods-pod12345678_1234_1234_1234_123456789abc.slice/crio-" + "d" * 64 + ".scope",
         "cri-o", "d" * 64, "12345678-1234-1234-1234-123456789abc"),
        ("/lxc.payload.web/system.slice/x.service", "lxc", "web", ""),
        ("/lxc/web/init.scope", "lxc", "web", ""),
        (r"/machine.slice/machine-my\x2dbox.scope/payload", "machine", "my-box", ""),
        ("/system.slice/containerd.service/x:cri-containerd:" + "e" * 64, "containerd", "e" * 64, ""),
    ],
)  # fmt: skip
def test_a_group_is_named_by_its_engine(path: str, engine: str, name: str, pod: str) -> None:
    found = membership([path])
    assert found is not None and (found.engine, found.id, found.pod) == (engine, name, pod)


def test_groups_of_no_engine_are_none() -> None:
    hostile = (
        "/docker-" + "a" * 63 + ".scope",
        "/system.slice/docker.service",
        "/",
        "/libpod-conmon-" + "a" * 64,
    )
    assert membership(hostile) is None
    assert parse_groups(b"12:pids:/x\n0::/\nnonsense\n") == ["/x", "/"]


@pytest.mark.parametrize(
    "value", [None, [], "x", 5, {"State": 7, "Config": [], "MountPoints": {"a": 3}}, {"ID": {}}]
)
def test_metadata_of_any_form_does_no_harm(value: metadata.Json) -> None:
    made = metadata._of_docker("id", "/x", value, None, value)
    assert made.id == "id" and made.image == ""
    assert metadata._of_oci(made, "/x", value, None).hostname == ""
    assert metadata._of_storage("/x", value).engine == "podman"
    assert TOOL.name == "containers"


@pytest.mark.parametrize(("manager", "engine"), [("libpod", "podman"), ("cri-o", "cri-o"), (None, "cri-o")])
def test_podman_writes_notes_of_cri_o_too(manager: str | None, engine: str) -> None:
    """podman 4 has io.kubernetes.cri-o.Created and .TTY; who made a container says io.container.manager."""
    notes: dict[str, metadata.Json] = {
        "io.kubernetes.cri-o.Created": "2026-11-30T22:24:45Z",
        "io.kubernetes.cri-o.TTY": "false",
    }
    notes |= {} if manager is None else {"io.container.manager": manager}
    made = metadata.Metadata("podman", "a" * 64, "/x")
    assert metadata._of_oci(made, "/x", {"annotations": notes}, None).engine == engine


def test_a_mount_that_the_engine_and_the_kernel_name_is_shown_once() -> None:
    named = ["/run/containers/storage/c1/hosts:/etc/hosts", "/srv/data:/data:ro", "/srv/fine:/opt"]
    mounted = [
        "/containers/storage/c1/hosts:/etc/hosts",
        "/srv/data:/data",
        "/root/.hidden:/opt",
        "/null:/proc/kcore",
    ]
    assert joined_mounts(named, mounted) == [*named, "/root/.hidden:/opt", "/null:/proc/kcore"]


def test_a_layer_is_known_by_its_upper_directory_and_by_where_it_is_mounted() -> None:
    """As rootless podman has them: the kernel shows the first, the engine's files the second."""
    storage = "/home/dora/.local/share/containers/storage/overlay/ac9f98f0e3a1"
    assert layer_of(f"{storage}/diff") == layer_of(f"{storage}/merged") == storage
    assert not any(map(layer_of, ("", "/", "/srv/root", "/var/lib/machines/box")))
