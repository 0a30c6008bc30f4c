"""Build a kernel that Debian does not build, from Debian's source: `python3 -m samples.kernel_builds NAME`.

It prints a `.deb` with the kernel and its few modules, which `hb trust add` takes, and `--kernel` of
`python3 -m samples`, which also knows it as `built-NAME`; beside it lie `vmlinux`, `System.map` and `config`.
It is kept in the cache and built only once for the same choice, in 15 to 40 minutes on two processors.
`kernel_configs/builds.toml` says which there are.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from hybridbridge_vol.kernel_file.packages import members
from samples.apt import AptError, cache_folder, download
from samples.series import suites

CONFIGS = Path(__file__).parent / "kernel_configs"
_LLVM = "19"
_TOOLS = {
    "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "perl": "perl", "python3": "python3",
    "xz": "xz-utils", "cpio": "cpio", "dpkg-deb": "dpkg", "pahole": "dwarves",
}  # fmt: skip
"""Programs that a kernel's build calls, and Debian's packages with them."""
_HEADERS = {"/usr/include/gelf.h": "libelf-dev", "/usr/include/openssl/ssl.h": "libssl-dev"}
_COMPILERS: dict[str, dict[str, str]] = {
    "clang": {f"{name}-{_LLVM}": f"{package}-{_LLVM}" for name, package in (
        ("clang", "clang"), ("ld.lld", "lld"), ("llvm-ar", "llvm"),
    )},
    "gcc": {"gcc": "gcc"},
}  # fmt: skip
_BEFORE_THE_BUILD = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 2026",
    "KBUILD_BUILD_USER": "samples",
    "KBUILD_BUILD_HOST": "hybridbridge",
}
_INSTALLING = ("INSTALL_MOD_STRIP=1", "DEPMOD=true", "modules_install")
_RECIPE = 1
"""Changes with what this file makes of the same inputs, so that it is made anew."""
_FAILED = re.compile(r"^.*\berror:.*$|^make.*\*\*\*.*$", re.MULTILINE)
_KEPT = ("vmlinux", "System.map")


@dataclass(frozen=True)
class Build:
    """One kernel: the series of Debian's source, the compiler, the names of fragments, and the options for
    whose sake it is built: they must stand when the source's own rules have been applied."""

    name: str
    source: str
    compiler: str
    fragments: tuple[str, ...]
    must_have: tuple[str, ...]

    def configuration(self) -> str:
        """All options, each once: of a fragment that comes later rather than of an earlier one."""
        options: dict[str, str] = {}
        for fragment in self.fragments:
            text = (CONFIGS / f"{fragment}.config").read_text()
            for line in text.splitlines():
                if match := re.fullmatch(r"(?:# )?(CONFIG_\w+)(?:=.+| is not set)", line):
                    options[match[1]] = line
        return "".join(f"{line}\n" for line in options.values())

    def wanted(self) -> list[str]:
        """The lines of `configuration` that `must_have` names."""
        names = {f"CONFIG_{name}" for name in self.must_have}
        lines = self.configuration().splitlines()
        return [line for line in lines if names & set(re.findall(r"\w+", line))]


@cache
def builds() -> dict[str, Build]:
    """What kernel_configs/builds.toml offers."""
    table = tomllib.loads((CONFIGS / "builds.toml").read_text())
    return {
        name: Build(
            name, item["source"], item["compiler"], tuple(item["fragments"]), tuple(item["must-have"])
        )
        for name, item in table.items()
    }


def package_of(name: str) -> Path:
    """The `.deb` of a built kernel, from the cache or freshly built. AptError says in one line what is
    missing, or where the build failed."""
    build = builds().get(name)
    if build is None:
        raise AptError(f"{name}: no such kernel to build; there are {', '.join(builds())}")
    folder = cache_folder() / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    source = download([f"linux-source-{build.source}"], suites(build.source))[0]
    inputs = (build.name, build.configuration(), source.name, _compiler_version(build.compiler), _RECIPE)
    kept = folder / f"{name}-{hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]}"
    with _locked(folder / f".{name}.lock"):
        if not kept.exists():
            check_tools(build)
            _build(build, _unpacked(source), kept)
    return next(kept.glob("*.deb"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compiler_version(compiler: str) -> str:
    """The first line that the compiler says of itself; the empty string where there is none."""
    program = shutil.which(next(iter(_COMPILERS[compiler])))
    if program is None:
        return ""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0]


def check_tools(build: Build) -> None:
    """AptError with the command that installs what this machine lacks."""
    programs = {**_TOOLS, **_COMPILERS[build.compiler]}
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    missing += [package for header, package in _HEADERS.items() if not Path(header).exists()]
    if "plugins" in build.fragments:
        version = re.search(r" (\d+)\.\d+", _compiler_version("gcc"))
        number = version[1] if version else ""
        if not Path(f"/usr/lib/gcc/x86_64-linux-gnu/{number}/plugin/include/gcc-plugin.h").exists():
            missing.append(f"gcc-{number}-plugin-dev")
    if missing:
        raise AptError(f"{build.name} cannot be built here: apt-get install {' '.join(missing)}")


def _unpacked(package: Path) -> Path:
    """The source tree in Debian's package."""
    folder = cache_folder() / "kernels" / package.name.removesuffix(".deb")
    if not folder.exists():
        (archive,) = members(package, "usr/src/linux-source-*.tar.xz")
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            tree = Path(scratch) / "tree"
            tree.mkdir()
            subprocess.run(["tar", "-xJ", "--strip-components=1", "-C", tree], input=archive.data, check=True)
            os.rename(tree, folder)
    return folder


def _build(build: Build, source: Path, kept: Path) -> None:
    """Configure and compile in a folder of its own; what is kept of it becomes `kept` in one step."""
    log = kept.with_name(f"{build.name}.log")
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=f".{build.name}.") as scratch:
        tree, result = Path(scratch) / "tree", Path(scratch) / "result"
        tree.mkdir()
        result.mkdir()
        (tree / "fragment").write_text(build.configuration())
        make = [
            "nice", "-n", "10", "make", "-C", str(source), f"O={tree}", f"-j{os.cpu_count() or 1}",
            *([f"LLVM=-{_LLVM}"] if build.compiler == "clang" else []),
            f"KCONFIG_ALLCONFIG={tree / 'fragment'}", f"LOCALVERSION=-{build.name}",
        ]  # fmt: skip
        with open(log, "wb") as output:
            _run([*make, "allnoconfig"], output, log)
            configured = set((tree / ".config").read_text().splitlines())
            if lost := [line for line in build.wanted() if line not in configured]:
                raise AptError(f"{build.name}: this source and compiler have no {', '.join(lost)}")
            has_modules = "CONFIG_MODULES=y" in configured
            _run([*make, "bzImage", *(["modules"] if has_modules else [])], output, log)
            if has_modules:
                _run([*make, f"INSTALL_MOD_PATH={result / 'package'}", *_INSTALLING], output, log)
        for name in _KEPT:
            shutil.copyfile(tree / name, result / name)
        shutil.copyfile(tree / ".config", result / "config")
        _package(build, tree, result)
        os.rename(result, kept)


def _run(command: list[str], output: IO[bytes], log: Path) -> None:
    environment = {**os.environ, **_BEFORE_THE_BUILD}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
        check=False,
    )  # fmt: skip
    if done.returncode:
        errors = _FAILED.findall(log.read_text(errors="replace"))
        raise AptError(
            f"{log} tells why the build failed: {errors[0][:200] if errors else 'no reason given'}"
        )


def _package(build: Build, tree: Path, result: Path) -> None:
    """A `.deb` of what is installed in `result/package` and of the kernel in `tree`."""
    release = (tree / "include/config/kernel.release").read_text().strip()
    root = result / "package"
    (root / "boot").mkdir(parents=True, exist_ok=True)
    (root / "DEBIAN").mkdir()
    shutil.copyfile(tree / "arch/x86/boot/bzImage", root / "boot" / f"vmlinuz-{release}")
    for link in ("build", "source"):
        (root / "lib/modules" / release / link).unlink(missing_ok=True)
    package = f"linux-image-{release.lower()}"
    (root / "DEBIAN/control").write_text(
        f"Package: {package}\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <nobody@localhost>\n"
        f"Description: sample kernel {build.name}\n"
    )
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", root, result / f"{package}_1_amd64.deb"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    shutil.rmtree(root)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m samples.kernel_builds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(builds()), help="which kernel")
    args = parser.parse_args(arguments)
    try:
        print(package_of(args.name))
    except (AptError, OSError, subprocess.CalledProcessError) as error:
        print(f"samples: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
