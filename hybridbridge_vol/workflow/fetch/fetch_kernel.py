"""The packages of a kernel, fetched by the client of its distribution if this machine has it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from hybridbridge_vol.errors import FetchError
from hybridbridge_vol.snapshot.kernel_origin import KernelOrigin
from hybridbridge_vol.units import Progress
from hybridbridge_vol.workflow.fetch.commands import Command, Plan, plan_for, where_else
from hybridbridge_vol.workflow.fetch.debian import fetch_by_apt, is_served
from hybridbridge_vol.workflow.fetch.run_client import run_client


def fetch_packages(origin: KernelOrigin, folder: Path, progress: Progress | None = None) -> list[Path]:
    """Fetch the packages of a kernel and of its modules into the empty `folder`; their paths.

    FetchError, with the commands for a machine that has the client, or with where to look for a version
    that is not served.
    """
    plan = plan_for(origin)
    program = plan.kernel[0][0]
    if shutil.which(program) is None:
        raise FetchError(f"{program} is not on this machine; {by_hand(origin)}")
    if program == "apt-get" and not is_served(origin.distribution):
        raise FetchError(f"this machine's apt sources are not {origin.distribution}'s; {by_hand(origin)}")
    if plan.needs_root and os.geteuid() != 0:
        raise FetchError(f"{program} fetches for root only; as root, {by_hand(origin)}")
    try:
        if program == "apt-get":
            return fetch_by_apt(origin, folder, progress)
        if progress:
            progress(0.1, f"{program} fetches {origin.packages[0]}")
        return _fetch(plan, folder)
    except FetchError as error:
        raise FetchError(f"{error}; {where_else(origin)}, and run 'hb trust add FILE'") from None


def by_hand(origin: KernelOrigin) -> str:
    """The commands to type on a machine of the kernel's distribution."""
    plan = plan_for(origin)
    place = f"{origin.distribution} {origin.branch}" if origin.branch else origin.distribution
    commands = "; ".join(shlex.join(command) for command in (plan.kernel[0], *plan.modules[:1]))
    older = f" (if it has another version: {where_else(origin)})" if plan.newest_only else ""
    return f"on a machine with {place} run: {commands}{older}; then 'hb trust add' what it fetched"


def _fetch(plan: Plan, folder: Path) -> list[Path]:
    if plan.settings and plan.must_be_set not in run_client(plan.settings).split():
        name = plan.settings[-1]
        raise FetchError(
            f"{plan.kernel[0][0]} would take packages without a signature: set {name} = Required"
        )
    _first_that_succeeds(plan.kernel, folder)
    for command in plan.modules:
        try:
            run_client(command, folder)
        except FetchError:
            continue  # not every release has each of these packages
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    if not found:
        raise FetchError(f"{plan.kernel[0][0]} fetched nothing")
    for path in found if plan.check else ():
        if plan.signed not in run_client([*plan.check, str(path)]):
            raise FetchError(f"{path.name}: its signature cannot be checked; import the distribution's key")
    return found


def _first_that_succeeds(commands: Sequence[Command], folder: Path) -> None:
    reasons = []
    for command in commands:
        try:
            run_client(command, folder)
            return
        except FetchError as error:
            reasons.append(str(error))
    raise FetchError(reasons[0])
