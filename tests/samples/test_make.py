"""The cache of sample images: what makes an image another one, and what is taken for one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samples import (
    attack_guest,
    cache_key,
    compiler,
    filters_guest,
    guest_files,
    hunt_guest,
    module_guest,
    people_guest,
    pseudo_guest,
)
from samples.make import SampleError, Spec, make_sample

Keep = Callable[..., Path]


@pytest.fixture
def spec(package: Path) -> Spec:
    """A sample of `package`."""
    return Spec(str(package))


def test_a_finished_image_is_taken_from_the_cache(spec: Spec, keep: Keep, package: Path) -> None:
    folder = keep(spec)
    sample = make_sample(spec)
    assert (sample.folder, sample.kernel_package) == (folder, package)
    assert sample.raw.read_bytes() == b"memory"
    assert sample.truth.command("hostname") == "sample-1\n"


def test_an_image_of_another_version_of_the_maker_is_not(spec: Spec, keep: Keep) -> None:
    old = keep(spec, version="0123abcd")
    with pytest.raises(SampleError, match="a package without a kernel"):  # it went to work
        make_sample(spec)
    assert [path for path in old.parent.iterdir() if path.is_dir()] == [old]


def test_an_image_that_was_not_finished_is_not(spec: Spec, keep: Keep) -> None:
    folder = keep(spec)
    (folder / "meta.json").unlink()
    with pytest.raises(SampleError):
        make_sample(spec)


def test_an_image_of_another_package_of_the_same_name_is_not(spec: Spec, keep: Keep, package: Path) -> None:
    keep(spec)
    with open(package, "ab") as stream:
        stream.write(b"\n")
    with pytest.raises(SampleError):
        make_sample(spec)


def test_whatever_makes_a_difference_is_in_the_name(package: Path) -> None:
    spec = Spec("6.6-mini")
    changes: dict[str, Any] = {
        "seed": 2, "ram": 512 << 20, "cpus": 2, "kaslr": False, "light": True, "append": "quiet",
        "format": "elf", "processes": 7, "la57": True, "accel": "kvm",
        "modules": "server",
    }  # fmt: skip
    others = [replace(spec, **{field: value}) for field, value in changes.items()]
    names = {other.name(package) for other in (spec, *others)}
    assert len(names) == 1 + len(others)
    assert all(name.startswith("6.6.6-mini-") and "/" not in name for name in names)


def test_lime_is_made_of_the_raw_image_and_needs_no_other(package: Path) -> None:
    assert Spec("6.6-mini", format="lime").name(package) == Spec("6.6-mini").name(package)


def test_whatever_goes_into_the_guest_makes_another_name(tmp_path: Path) -> None:
    recipe = guest_files.recipe(1, True, 0)
    sources = tmp_path / "guest"
    shutil.copytree(guest_files.GUEST, sources)
    copied = replace(recipe, programs=tuple((name, sources / path.name) for name, path in recipe.programs))
    assert copied.digest() == recipe.digest()
    changes: list[dict[str, Any]] = [
        {"entries": recipe.entries[:-1]},
        {"packages": (*recipe.packages, "lsof")},
        {"wanted": ("usr/bin/sh",)},
        {"modules": ()},
        {"programs": ()},
    ]
    digests = {recipe.digest(), *(replace(recipe, **change).digest() for change in changes)}
    assert len(digests) == 1 + len(changes)
    for name in ("actor.c", "observer.c", "records.h", "sockets.h"):
        before = (sources / name).read_text()
        (sources / name).write_text(before + "int x;\n")
        assert copied.digest() != recipe.digest(), name
        (sources / name).write_text(before)


def test_every_file_of_the_guest_is_in_its_recipe() -> None:
    recipes = [
        guest_files.recipe(1, True, 0, disks=True, routes=1),
        guest_files.recipe(1, False, 0),
        module_guest.recipe("all"),
        pseudo_guest.recipe(),
        attack_guest.recipe("all"),
        people_guest.recipe(),
        filters_guest.recipe(),
        hunt_guest.recipe(),
    ]
    programs = [program for recipe in recipes for _, program in recipe.programs]
    programs += [hunt_guest.LIBRARY, attack_guest.ROOTKIT]
    files = {path for program in programs for path in compiler.sources(program)}
    contents = {entry.data for recipe in recipes for entry in recipe.entries}
    assert [
        path.name
        for path in guest_files.GUEST.rglob("*")
        if path.is_file() and path not in files and not any(path.read_bytes() in data for data in contents)
    ] == []


def test_the_maker_s_code_counts_and_its_words_do_not() -> None:
    code = "def f(a: int) -> int:\n    return a + 1\n"
    words = '"""A module."""\nimport a.b\n# why\ndef f(\n    a: int,\n) -> int:\n'
    words += '    """A function."""\n    return a + 1\n'
    assert cache_key.code_of(code) == cache_key.code_of(words)
    assert cache_key.code_of(code) != cache_key.code_of(code.replace("1", "2"))
    assert cache_key.code_of('class E(Exception):\n    """Only text."""\n') == "class E(Exception):\n    pass"


def test_a_maker_that_fails_leaves_nothing_half_made(spec: Spec, cache: Path) -> None:
    with pytest.raises(SampleError):
        make_sample(spec)
    assert [path for path in (cache / "images").iterdir() if path.is_dir()] == []


def test_an_error_is_one_line_that_names_the_kernel_once(spec: Spec, cache: Path) -> None:
    assert not cache.exists()
    for kernel in (spec.kernel, "nope", "two\nlines", "/nowhere/none.deb"):
        with pytest.raises(SampleError) as caught:
            make_sample(replace(spec, kernel=kernel))
        text = str(caught.value)
        assert "\n" not in text
        assert text.count(" ".join(kernel.split())) == 1


def test_a_cache_that_cannot_be_written_is_named(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HB_SAMPLES", spec.kernel)
    with pytest.raises(SampleError, match=f"Not a directory: '{spec.kernel}"):
        make_sample(spec)
