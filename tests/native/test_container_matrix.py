"""What Debian's own programs print inside of a container (`--ns-of`), they printed in the guest's."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest
from generations import NEWEST_RICH, RICH, Lab
from native_runs import GUESTS_LOCALE
from native_truth import container_differences, container_of, in_container

from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.native.capture import Completed, capture
from hybridbridge_vol.native.run import Options
from samples.native_programs import tools_folder
from samples.plan import CONTAINER_COMMANDS

IMAGE = "6.12"
EMPTY = ("ip -6 neigh",)
"""What has nothing to say there."""
QUICK = (
    "hostname", "ps -ef", "lsns", "mount", "ip addr", "netstat -tulpan", "lsof -n -P -w",
    "find /proc/1/fd /proc/1/ns /proc/1/task /proc/1/root /proc/1/exe -printf %p=%l\\n",
)  # fmt: skip


@pytest.fixture(scope="module")
def containers(lab: Lab) -> Iterator[dict[str, Session]]:
    """Sessions inside of the container of images, by the image's name."""
    found: dict[str, Session] = {}
    yield found
    for session in found.values():
        session.close()


def run(lab: Lab, containers: dict[str, Session], image: str, command: str) -> Completed:
    sample = lab.sample(image)
    if image not in containers:
        containers[image] = open_session(sample.dump, lab.store.root, ns_of=container_of(sample.truth))
    options = Options(str(tools_folder()), GUESTS_LOCALE, 120.0)
    return capture(containers[image], shlex.split(command.replace("\\n", "\\\\n")), b"", options)


def check(lab: Lab, containers: dict[str, Session], image: str, command: str) -> None:
    said = in_container(lab.sample(image).truth)[command]
    assert bool(said.strip()) == (command not in EMPTY)
    done = run(lab, containers, image, command)
    assert not done.failures, (done.stderr, done.failures)
    assert container_differences(command, done.stdout.decode("utf-8", "surrogateescape"), said) == []


@pytest.mark.parametrize("command", QUICK)
def test_a_native_tool_prints_what_it_printed_in_the_container(
    lab: Lab, containers: dict[str, Session], command: str
) -> None:
    check(lab, containers, IMAGE, command)


@pytest.mark.slow
@pytest.mark.parametrize("image", [*RICH, *NEWEST_RICH])
@pytest.mark.parametrize("command", CONTAINER_COMMANDS)
def test_every_native_tool_prints_what_it_printed_in_the_container(
    lab: Lab, containers: dict[str, Session], image: str, command: str
) -> None:
    check(lab, containers, image, command)
