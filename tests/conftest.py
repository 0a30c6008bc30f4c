"""Real guests and real trusted kernels, made once per run and shared.

Images come from the cache of sample images (made there on first use, under software emulation); the store of
trusted kernels is made fresh for each run. Every image's SHA-256 is compared at the end of the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hybridbridge_vol.guest.enroll import enroll
from hybridbridge_vol.guest.session import Session, open_session
from hybridbridge_vol.trust.store import Store
from samples.kernels import modules_package
from samples.make import Sample, Spec, make_sample, sha256_of

GENERATIONS = {
    "5.10 nokaslr": Spec("5.10-cloud", seed=11, kaslr=False),
    "6.1 two CPUs": Spec("6.1-cloud", seed=12, cpus=2),
    "6.12": Spec("6.12-cloud", seed=13),
    "7.x": Spec("7-cloud", seed=14, light=True),
}
"""One real image of each kernel generation; between them KASLR on and off, one CPU and two. More shapes are in
bridge/test_kernels.py."""


def trust(store: Store, sample: Sample) -> None:
    """Add a sample's kernel to a store, and its modules where they are in a package of their own."""
    for package in dict.fromkeys((sample.kernel_package, modules_package(sample.kernel_package))):
        enroll(store, package)


class Lab:
    """Samples by name, the store that trusts their kernels, and one open session for each."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.samples: dict[str, Sample] = {}
        self._sessions: dict[str, Session] = {}
        self._sums: dict[Path, str] = {}

    def sample(self, name: str) -> Sample:
        """The image of one generation; its kernel is trusted from then on."""
        if name not in self.samples:
            sample = make_sample(GENERATIONS[name])
            self._sums[sample.dump] = sha256_of(sample.dump)
            trust(self.store, sample)
            self.samples[name] = sample
        return self.samples[name]

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


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab; at its end no image may have changed by a byte."""
    lab = Lab(tmp_path_factory.mktemp("store"))
    yield lab
    assert lab.close() == []


@pytest.fixture
def kernel_packages(lab: Lab) -> list[Path]:
    """The kernel package of each generation."""
    return [lab.sample(name).kernel_package for name in GENERATIONS]


@pytest.fixture(params=sorted(GENERATIONS))
def generation(request: pytest.FixtureRequest) -> str:
    """Each kernel generation in turn."""
    return str(request.param)
