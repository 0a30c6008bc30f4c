"""The real guests that tests share: one of each kernel generation, and the store that trusts their
kernels."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
from collections.abc import Iterator
from pathlib import Path

from disks import DISKS
from filters import FILTERS

from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.trust.stored_kernel import StoredKernel
from hybridbridge_vol.workflow.trust_kernel import enroll
from samples.kernels import modules_package
from samples.make import Sample, Spec, make_sample, sha256_of

GENERATIONS = {
    "5.10 nokaslr": Spec("5.10-cloud", seed=11, kaslr=False),
    "6.1 two CPUs": Spec("6.1-cloud", seed=12, cpus=2),
    "6.12": Spec("6.12-cloud", seed=13),
    "7.x": Spec("7-cloud", seed=14, light=True),
}
"""One real image of each kernel generation; between them KASLR on and off, one CPU and two. More shapes are
in bridge/test_kernels.py."""


SERVERS = {
    "5.10 server": Spec("5.10-cloud", ram=512 << 20, modules="server"),
    "6.1 server": Spec("6.1-amd64", ram=512 << 20, modules="server"),
    "6.12 server": Spec("6.12-cloud", ram=512 << 20, modules="server"),
    "7.x server": Spec("7-cloud", ram=512 << 20, modules="server"),
}
"""Guests that only load the modules of a server."""

ALL_MODULES = {
    f"{kernel} all modules": Spec(kernel, ram=2 << 30, modules="all", append="module_seconds=400")
    for kernel in ("5.10-cloud", "6.1-amd64", "6.1-rt", "6.12-amd64", "7-amd64")
}
"""Guests that load every module of their package that loads, as far as they get in so many seconds."""
NETWORK = {
    "6.12 network": Spec("6.12-cloud", seed=22, light=True, routes=4000),
}
"""Guests with links, rules, routes and sockets of every kind, and what their own tools say of them."""

SLOW_NETWORK = {
    "6.1 network": Spec("6.1-cloud", seed=21, light=True, routes=400),
    "5.10 network": Spec("5.10-cloud", seed=23, light=True, routes=300),
    "7.x network": Spec("7-cloud", seed=24, light=True, routes=300),
}
"""The same of the other kernel generations."""

PEOPLE = {
    "5.10 people": Spec("5.10-cloud", light=True, people=True),
    "6.1 people": Spec("6.1-cloud", light=True, people=True),
    "6.12 people": Spec("6.12-cloud", light=True, people=True),
    "7.x people": Spec("7-cloud", light=True, people=True),
}
"""Guests with accounts, logins, containers, and all that starts by itself (samples/people_guest.py)."""

RICH = sorted(name for name, spec in GENERATIONS.items() if not spec.light)
"""Those whose image has the whole workload and the words of every native tool."""


NEWEST_RICH = {"7.x rich": Spec("7-cloud", seed=24, cpus=2)}
"""The newest kernel with the whole workload, for slow tests."""

ALL = GENERATIONS | NEWEST_RICH | SERVERS | ALL_MODULES | NETWORK | SLOW_NETWORK | DISKS | FILTERS | PEOPLE
"""Every guest that tests share, by its name."""


def trust(store: Store, sample: Sample) -> None:
    """Add a sample's kernel to a store, with the symbols beside it where it was built here, and its modules
    where they are in a package of their own."""
    beside = sample.kernel_package.with_name("System.map")
    symbols = beside if beside.exists() else None
    for package in dict.fromkeys((sample.kernel_package, modules_package(sample.kernel_package))):
        enroll(store, package, symbols=symbols)


@contextlib.contextmanager
def locked(path: Path, waits: bool = True) -> Iterator[bool]:
    """Hold the lock of that name among all processes of a test run; False if another one holds it, and this
    one is not to wait."""
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


class Lab:
    """Samples by name, the store that trusts their kernels, and one open session for each.

    The processes of a test run share the store: a kernel is trusted by the first that needs it.
    """

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.samples: dict[str, Sample] = {}
        self._sessions: dict[str, Session] = {}
        self._sums: dict[Path, str] = {}

    def sample(self, name: str) -> Sample:
        """The image of one generation; its kernel is trusted from then on. While another process of the test
        run makes it, this one makes another of the generations."""
        if name not in self.samples and not self._make(name, waits=False):
            missing = (other for other in GENERATIONS if not self._done(other).exists())
            next((other for other in missing if self._make(other, waits=False)), None)
            self._make(name, waits=True)
        return self.samples[name]

    def _done(self, name: str) -> Path:
        """The file that says that an image was made, and its kernel is trusted."""
        return self.store.root.with_name(f"{self.store.root.name} trusts {name}")

    def _make(self, name: str, waits: bool) -> bool:
        """Make an image and trust its kernel, unless that was done. False if another process makes it."""
        done = self._done(name)
        with locked(done.with_name(f"{done.name}.lock"), waits) as held:
            if held:
                sample = make_sample(ALL[name])
                self._sums[sample.dump] = sha256_of(sample.dump)
                if not done.exists():
                    trust(self.store, sample)
                    done.touch()
                self.samples[name] = sample
            return held

    def kernel(self, name: str) -> StoredKernel:
        """The trusted kernel of one image."""
        release = self.sample(name).meta["version"].split()[2]  # uname -a: Linux HOST RELEASE ...
        return self.store.find(release)

    def copy_store(self, target: Path) -> None:
        """A store with what is trusted now. Other processes work in the shared one: what they have not
        finished, whose name begins with a dot, stays there."""
        for kernel in self.store.kernels():
            copy = target / kernel.folder.name
            copy.mkdir(parents=True)
            finished = [path for path in kernel.folder.iterdir() if not path.name.startswith(".")]
            subprocess.run(["cp", "-a", "--sparse=always", *finished, copy], check=True)

    def session(self, name: str) -> Session:
        """A session on that image, shared by the tests: they only look."""
        if name not in self._sessions:
            self._sessions[name] = open_session(self.sample(name).dump, self.store.root)
        return self._sessions[name]

    def close(self) -> list[Path]:
        """Let everything go; the images that are not what they were."""
        for session in self._sessions.values():
            session.close()
        return [path for path, digest in self._sums.items() if sha256_of(path) != digest]
