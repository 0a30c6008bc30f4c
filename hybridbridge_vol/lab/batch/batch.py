"""A batch: many images, one dataset. It can be ended at any moment and run again.

What is done is what has a record. The first image of each kernel goes before the others of that kernel,
because what SLOW-BRIDGE proves on it the others need not prove again; different kernels do not wait for each
other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hybridbridge_vol.errors import BatchError
from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.dataset import Record
from hybridbridge_vol.lab.batch.discover import Candidate, discover
from hybridbridge_vol.lab.batch.engines.engine import Engine, Step
from hybridbridge_vol.lab.batch.engines.local import LocalEngine
from hybridbridge_vol.lab.batch.examine import Examination, Gathered, Request, fingerprint, sha256_of
from hybridbridge_vol.lab.batch.identify import Identity, claims_to_be_image
from hybridbridge_vol.lab.batch.manifest import write_manifest
from hybridbridge_vol.lab.batch.summary import write_summary
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import Progress

MakeEngine = Callable[[int, Step], Engine]


@dataclass(frozen=True)
class Options:
    """What is asked of every image: the fields of `Request`; and how: `jobs` processes, `engine` made anew
    for a batch (None: this machine)."""

    request: Request
    jobs: int = 1
    engine: MakeEngine | None = None


@dataclass(frozen=True)
class Outcome:
    """The records of the images that were asked for, by path; how many of them were done before."""

    records: tuple[Record, ...]
    before: int


def run(
    paths: Sequence[str],
    out: Path,
    options: Options,
    progress: Progress = lambda _fraction, _text: None,
    error_text: Callable[[Record], None] = lambda _record: None,
) -> Outcome:
    """Examine all images that `paths` mean (see `discover`) into the dataset `out`; `error_text` of each as
    it is finished.

    BatchError if `out` or a list cannot be used. KeyboardInterrupt ends everything under way; the manifest is
    written then too.
    """
    store = Store(Path(options.request.store) if options.request.store else None).root
    with _claimed(out) as staging:
        progress(0.0, "looking for images")
        candidates = discover(paths, left_out=(out, store))
        batch = _Batch(out, staging, options, progress, error_text)
        try:
            batch.work(candidates)
        finally:
            progress(1.0, "")
            finish(out)
        ids = {dataset.image_id(candidate.path) for candidate in candidates}
        found = tuple(record for record in dataset.records(out) if record.id in ids)
        return Outcome(tuple(sorted(found, key=lambda record: record.path)), batch.before)


def finish(out: Path) -> None:
    """Make from the records what is made of all of them."""
    write_manifest(out)
    write_summary(out)


@contextlib.contextmanager
def _claimed(out: Path) -> Iterator[Path]:
    """The dataset's folder, for one batch at a time; a folder for what is under way, empty at first and gone
    at last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BatchError(
            f"{out}: cannot be written ({error.strerror}); choose another with --out DIR"
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BatchError(
                f"{out}: another batch is at work there; wait for it, or choose another with --out DIR"
            ) from None
        shutil.rmtree(dataset.staging_root(out), ignore_errors=True)
        staging = dataset.staging_root(out) / secrets.token_hex(4)
        staging.mkdir(parents=True)
        try:
            yield staging
        finally:
            shutil.rmtree(dataset.staging_root(out), ignore_errors=True)
    finally:
        os.close(handle)


class _Batch:
    def __init__(
        self,
        out: Path,
        staging: Path,
        options: Options,
        progress: Progress,
        error_text: Callable[[Record], None],
    ) -> None:
        self.out, self.staging, self.options = out, staging, options
        self.progress, self.error_text = progress, error_text
        self.before = self.done = self.total = 0
        self.at: dict[str, str] = {}
        """What is being done on which image."""

    def work(self, candidates: Sequence[Candidate]) -> None:
        requests = [self.request(candidate) for candidate in candidates]
        left = [
            (candidate, request)
            for candidate, request in zip(candidates, requests, strict=True)
            if not self.is_done(request)
        ]
        self.total, self.before = len(requests), len(requests) - len(left)
        self.done = self.before
        if not left:
            return
        local = LocalEngine(self.options.jobs, self.step)
        try:
            by_kernel = self.by_kernel(left, local)
            engine = self.options.engine(self.options.jobs, self.step) if self.options.engine else local
            try:
                self.examine(by_kernel, engine)
            except BaseException:
                engine.cancel()
                raise
            finally:
                if engine is not local:
                    engine.close()
        except BaseException:
            local.cancel()
            raise
        finally:
            local.close()

    def request(self, candidate: Candidate) -> Request:
        image = dataset.image_id(candidate.path)
        return replace(self.options.request, id=image, path=candidate.path, staging=str(self.staging / image))

    def is_done(self, request: Request) -> bool:
        """Whether the image's record answers this request. One that could not be read at all is tried again:
        its kernel may be trusted by now."""
        record = dataset.read_record(self.out, request.id)
        return record is not None and record.status != "failed" and record.asked == fingerprint(request)

    def by_kernel(
        self, left: list[tuple[Candidate, Request]], local: LocalEngine
    ) -> dict[str, list[Request]]:
        """The images by their kernel, those without one being told at once."""
        groups: dict[str, list[Request]] = {}
        limit = self.options.request.tool_seconds
        known = local.identify([request.path for _, request in left], self.options.request.store, limit)
        for number, ((candidate, request), identity) in enumerate(zip(left, known, strict=True)):
            self.progress(number / len(left), f"identifying {candidate.path}")
            if identity.kernel is not None:
                groups.setdefault(identity.kernel, []).append(replace(request, kernel=identity.kernel))
            elif candidate.named or identity.is_image or claims_to_be_image(candidate.path):
                self.commit(_unexamined(request, identity))
            else:
                self.total -= 1
                dataset.forget(self.out, request.id)
        return groups

    def examine(self, groups: dict[str, list[Request]], engine: Engine) -> None:
        trained = {record.kernel for record in dataset.records(self.out) if record.status != "failed"}
        waiting: dict[str, tuple[str, list[Request]]] = {}
        for kernel, requests in groups.items():
            self.release(kernel, requests, kernel in trained, waiting, engine)
        for examination in engine.finished():
            self.commit(examination)
            kernel, rest = waiting.pop(examination.record.id, ("", []))
            self.release(kernel, rest, examination.record.status != "failed", waiting, engine)

    @staticmethod
    def release(
        kernel: str,
        requests: list[Request],
        trained: bool,
        waiting: dict[str, tuple[str, list[Request]]],
        engine: Engine,
    ) -> None:
        """Let all images of a kernel start, or, where nothing is proven of it yet, the first of them."""
        if trained or len(requests) < 2:
            for request in requests:
                engine.submit(request)
        else:
            first, *rest = requests
            waiting[first.id] = kernel, rest
            engine.submit(first)

    def commit(self, examination: Examination) -> None:
        record = examination.record
        dataset.commit(self.out, record, {tool: Path(path) for tool, path in examination.tables.items()})
        shutil.rmtree(self.staging / record.id, ignore_errors=True)
        self.done += 1
        self.at.pop(record.id, None)
        self.error_text(record)
        self.show()

    def step(self, image: str, name: str) -> None:
        self.at[image] = name
        self.show()

    def show(self) -> None:
        at = ", ".join(f"{image}: {name}" for image, name in self.at.items())
        self.progress(min(self.done / max(self.total, 1), 0.999), f"{self.done} of {self.total} images; {at}")


def _unexamined(request: Request, identity: Identity) -> Examination:
    """The record of a file in which there is nothing to examine."""
    gathered = Gathered(request)
    gathered.cpu_seconds, gathered.peak_rss = 0.0, 0
    gathered.facts = {"format": identity.format, "banner": identity.banner, "release": identity.release}
    gathered.error = identity.error or f"{request.path}: not a memory image"
    if request.sha256:
        with contextlib.suppress(OSError):
            gathered.facts["sha256"] = sha256_of(request.path)
    return gathered.examination()
