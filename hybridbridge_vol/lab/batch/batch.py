"""A batch: many images, one dataset. It can be ended at any moment and run again: an image with a record is
done."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from hybridbridge_vol.errors import BatchError
from hybridbridge_vol.lab.batch import dataset
from hybridbridge_vol.lab.batch.assembly import Examination, unexamined
from hybridbridge_vol.lab.batch.dataset import Record
from hybridbridge_vol.lab.batch.discover import Candidate, discover
from hybridbridge_vol.lab.batch.engines.engine import Engine, ReportStep
from hybridbridge_vol.lab.batch.engines.local import LocalEngine
from hybridbridge_vol.lab.batch.events import Facts
from hybridbridge_vol.lab.batch.hashing import sha256_of
from hybridbridge_vol.lab.batch.identify import Identity, claims_to_be_image
from hybridbridge_vol.lab.batch.manifest import write_manifest
from hybridbridge_vol.lab.batch.request import Request, fingerprint
from hybridbridge_vol.lab.batch.schedule import Schedule
from hybridbridge_vol.lab.batch.summary import write_summary
from hybridbridge_vol.trust.store import Store
from hybridbridge_vol.units import Progress

E = TypeVar("E", bound=Engine)
MakeEngine = Callable[[int, ReportStep], Engine]
Report = Callable[[Record], None]


@dataclass(frozen=True)
class Options:
    """What is asked of every image (`request`, whose id, path and staging are filled in for each), and how:
    `jobs` processes, and what makes the batch's engine (None: this machine's)."""

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
    report: Report = lambda _record: None,
) -> Outcome:
    """Examine all images that `paths` mean (see `discover`) into the dataset `out`; call `report` for each as
    it is finished.

    BatchError if `out` or a list cannot be used. KeyboardInterrupt ends everything under way; manifest and
    summary are written then too.
    """
    store = Store(Path(options.request.store) if options.request.store else None).root
    with _claimed(out) as staging:
        progress(0.0, "looking for images")
        candidates = discover(paths, left_out=(out, store))
        batch = _Batch(out, staging, options, _Display(progress), report)
        try:
            batch.work(candidates)
        finally:
            progress(1.0, "")
            finish(out)
        ids = {dataset.image_id(candidate.path) for candidate in candidates}
        found = tuple(record for record in dataset.records(out) if record.id in ids)
        return Outcome(tuple(sorted(found, key=lambda record: record.path)), batch.before)


def finish(out: Path) -> None:
    """Make the files that are made from all records: manifest and summary."""
    write_manifest(out)
    write_summary(out)


@contextlib.contextmanager
def _claimed(out: Path) -> Iterator[Path]:
    """Hold the dataset's directory for one batch; yields a directory for unfinished work, empty at first and
    removed at the end."""
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


class _Display:
    """What the progress bar shows: how many images are done, and what is being done on which."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = self._total = 0
        self._steps: dict[str, str] = {}
        """The current step by the image's id."""

    def begin(self, total: int, done: int) -> None:
        """So many images there are, and so many are done before."""
        self._total, self._done = total, done

    def identifying(self, fraction: float, path: str) -> None:
        """One file is being identified."""
        self._progress(fraction, f"identifying {path}")

    def step(self, image: str, name: str) -> None:
        """Work on a step of an image begins."""
        self._steps[image] = name
        self._show()

    def done(self, image: str) -> None:
        """An image is done."""
        self._done += 1
        self._steps.pop(image, None)
        self._show()

    def not_an_image(self) -> None:
        """A file turned out not to be counted."""
        self._total -= 1

    def _show(self) -> None:
        steps = ", ".join(f"{image}: {name}" for image, name in self._steps.items())
        fraction = min(self._done / max(self._total, 1), 0.999)  # 1 would end the bar
        self._progress(fraction, f"{self._done} of {self._total} images; {steps}")


class _Batch:
    """One run of a batch."""

    def __init__(self, out: Path, staging: Path, options: Options, display: _Display, report: Report) -> None:
        self._out, self._staging, self._options = out, staging, options
        self._display, self._report = display, report
        self.before = 0
        """Images that were done before this run."""

    def work(self, candidates: Sequence[Candidate]) -> None:
        """Identify the candidates, and examine the images among them that are not done."""
        asked = [(candidate, self._request(candidate)) for candidate in candidates]
        left = [(candidate, request) for candidate, request in asked if not self._is_done(request)]
        self.before = len(asked) - len(left)
        self._display.begin(len(asked), self.before)
        if not left:
            return
        with _ended(LocalEngine(self._options.jobs, self._display.step)) as local:
            by_kernel = self._by_kernel(left, local)
            if self._options.engine is None:
                self._examine(by_kernel, local)
            else:
                with _ended(self._options.engine(self._options.jobs, self._display.step)) as engine:
                    self._examine(by_kernel, engine)

    def _request(self, candidate: Candidate) -> Request:
        image = dataset.image_id(candidate.path)
        return replace(
            self._options.request, id=image, path=candidate.path, staging=str(self._staging / image)
        )

    def _is_done(self, request: Request) -> bool:
        """Whether the image's record answers this request. An image that could not be read at all is tried
        again: its kernel may be trusted by now."""
        record = dataset.read_record(self._out, request.id)
        return record is not None and record.status != "failed" and record.asked == fingerprint(request)

    def _by_kernel(
        self, left: list[tuple[Candidate, Request]], local: LocalEngine
    ) -> dict[str, list[Request]]:
        """The images by their trusted kernel. Those without one get their record at once, if they are to have
        one."""
        groups: dict[str, list[Request]] = {}
        asked = self._options.request
        paths = [request.path for _, request in left]
        known = local.identify(paths, asked.store, asked.tool_seconds, asked.kernel_at)
        for number, ((candidate, request), identity) in enumerate(zip(left, known, strict=True)):
            self._display.identifying(number / len(left), candidate.path)
            if identity.kernel is not None:
                groups.setdefault(identity.kernel, []).append(replace(request, kernel=identity.kernel))
            elif candidate.named or identity.is_image or claims_to_be_image(candidate.path):
                self._commit(_without_kernel(request, identity))
            else:
                self._display.not_an_image()
                dataset.forget(self._out, request.id)
        return groups

    def _examine(self, by_kernel: dict[str, list[Request]], engine: Engine) -> None:
        trained = {record.kernel for record in dataset.records(self._out) if record.status != "failed"}
        schedule = Schedule(by_kernel, trained)
        for request in schedule.first():
            engine.submit(request)
        for examination in engine.finished():
            self._commit(examination)
            for request in schedule.after(examination.record):
                engine.submit(request)

    def _commit(self, examination: Examination) -> None:
        record = examination.record
        dataset.commit(self._out, record, {tool: Path(path) for tool, path in examination.tables.items()})
        shutil.rmtree(self._staging / record.id, ignore_errors=True)
        self._report(record)
        self._display.done(record.id)


@contextlib.contextmanager
def _ended(engine: E) -> Iterator[E]:
    """The engine, closed at the end, and with everything under way cancelled if that is an error."""
    try:
        yield engine
    except BaseException:
        engine.cancel()
        raise
    finally:
        engine.close()


def _without_kernel(request: Request, identity: Identity) -> Examination:
    """The record of a file whose kernel is not known."""
    sha256 = None
    if request.sha256:
        with contextlib.suppress(OSError):
            sha256 = sha256_of(request.path)
    facts = Facts(format=identity.format, banner=identity.banner, release=identity.release, sha256=sha256)
    return unexamined(request, identity.error or f"{request.path}: not a memory image", facts)
