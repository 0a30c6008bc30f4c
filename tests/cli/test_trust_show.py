"""`hb trust show`: what is known of a stored kernel, and what the redirection policy finds in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridbridge_vol.bridge.text.kernel_tables import text_functions
from hybridbridge_vol.bridge.text.policy import ACTIONS, load_policy, resolve
from hybridbridge_vol.cli import main as cli
from hybridbridge_vol.kernel_file.symbols import plain_name
from hybridbridge_vol.trust import files
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.trust.stored_kernel import StoredKernel

Lab = Any
Show = Callable[..., tuple[int, str, str]]


@pytest.fixture
def show(capfd: pytest.CaptureFixture[str]) -> Show:
    """`show(store, name, options...)`: exit status, standard output, standard error."""

    def shown(store: Path, name: str, *options: str) -> tuple[int, str, str]:
        status = cli.main(["trust", "show", name, "--store", str(store), *options])
        out, err = capfd.readouterr()
        return status, out, err

    return shown


@pytest.fixture
def kernel(lab: Lab) -> StoredKernel:
    """A real kernel in a real store."""
    found: StoredKernel = lab.kernel("6.1 two CPUs")
    return found


def test_the_facts_are_followed_by_what_the_policy_does(lab: Lab, kernel: StoredKernel, show: Show) -> None:
    status, out, err = show(lab.store.root, kernel.name)
    assert (status, err) == (0, "")
    labels = [line.partition(":")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert labels == [
        "Name", "Release", "Banner", "Build ID", "Size", "Created", "Boots", "Features",
        "Will not work", "Redirected functions", "Unmatched names",
    ]  # fmt: skip
    counted = re.search(r"^Redirected functions: +(.*)$", out, re.MULTILINE)
    assert counted is not None
    counts = dict(item.split("=") for item in counted[1].split(", "))
    assert int(counts["home"]) > 100
    assert int(counts["return"]) > 100
    listed = out[out.index("Unmatched names:") :].removeprefix("Unmatched names:").splitlines()
    facts = json.loads(show(lab.store.root, kernel.name, "--format", "json")[1])
    assert [line.strip() for line in listed] == facts["unmatched_names"]
    assert counts == {action: str(count) for action, count in facts["redirected_functions"].items()}


def test_json_has_the_fields_of_list_and_more(lab: Lab, kernel: StoredKernel, show: Show) -> None:
    facts = json.loads(show(lab.store.root, kernel.name, "--format", "json")[1])
    (entry,) = [entry for entry in lab.store.entries() if entry.name == kernel.name]
    assert {name: facts[name] for name in vars(entry)} == vars(entry)
    assert facts.keys() - vars(entry).keys() == {
        "features", "will_not_work", "redirected_functions", "unmatched_names",
    }  # fmt: skip


def test_a_distribution_s_kernel_has_all_that_answers_need(
    lab: Lab, kernel: StoredKernel, show: Show
) -> None:
    facts = json.loads(show(lab.store.root, kernel.name, "--format", "json")[1])
    assert {"eBPF", "type information", "nftables (module)", "security modules"} <= set(facts["features"])
    assert facts["will_not_work"] == []
    assert re.search("^Will not work: +-$", show(lab.store.root, kernel.name)[1], re.MULTILINE)


def test_a_name_is_unmatched_if_no_function_of_the_kernel_has_it(
    lab: Lab, kernel: StoredKernel, show: Show
) -> None:
    facts = json.loads(show(lab.store.root, kernel.name, "--format", "json")[1])
    functions = sorted({plain_name(name) for *_, name in text_functions(kernel) if ".cold" not in name})
    everything = "\n".join(functions)
    patterns = list(dict.fromkeys(name for rule in load_policy().rules for name in rule.names))
    unmatched = [name for name in patterns if not re.search(f"^(?:{name})$", everything, re.MULTILINE)]
    assert facts["unmatched_names"] == unmatched
    # of kernels before and after this one
    assert {"del_timer.*", "security_getselfattr"} <= set(unmatched)


def test_the_counts_are_of_the_functions_that_the_policy_covers(
    lab: Lab, kernel: StoredKernel, show: Show
) -> None:
    facts = json.loads(show(lab.store.root, kernel.name, "--format", "json")[1])
    trampolines = resolve(load_policy(), text_functions(kernel)).trampolines
    counts = facts["redirected_functions"]
    assert sum(counts.values()) == len(trampolines)
    assert counts["halt"] == sum(trampoline.action == "halt" for trampoline in trampolines)
    assert list(counts) == [action for action in ACTIONS if action in counts]


def test_a_kernel_without_a_boot_is_reported_in_one_line(tmp_path: Path, show: Show) -> None:
    record = {
        "format": files.FORMAT, "release": "6.6.6", "banner": "Linux version 6.6.6", "build_id": "ab",
        "created": 0.0, "text": 0, "end": 0, "banner_vaddr": 0, "probes": [], "symbols_checksum": 0,
    }  # fmt: skip
    (tmp_path / "6.6.6-ab").mkdir()
    (tmp_path / "6.6.6-ab" / "kernel.json").write_bytes(files.manifest(record))
    assert [entry.boots for entry in Store(tmp_path).entries()] == [0]
    status, out, err = show(tmp_path, "6.6.6")
    assert (status, out) == (1, "")
    assert err.startswith("hb: 6.6.6-ab: holds no booted kernel; ")
    assert err.count("\n") == 1


def test_a_name_that_no_stored_kernel_has_is_an_error(tmp_path: Path, show: Show) -> None:
    status, out, err = show(tmp_path, "6.6")
    assert (status, out) == (1, "")
    assert "no stored kernel named '6.6'" in err
