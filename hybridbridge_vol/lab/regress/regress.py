"""Running cases: record their answers, or compare new answers with the recorded ones."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hybridbridge_vol.errors import CallRolledBack, HybridBridgeError, error_text
from hybridbridge_vol.guest.session import open_session
from hybridbridge_vol.lab.regress import golden
from hybridbridge_vol.lab.regress.cases import Case, Run
from hybridbridge_vol.toolkit.limits import limited_rows
from hybridbridge_vol.trust.files import write_atomically
from hybridbridge_vol.units import Progress

_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Result:
    """One run of a case. `error`: one line about why it could not be answered; `lines`: what differs."""

    case: Case
    run: Run
    seconds: float
    lines: tuple[str, ...] = ()
    error: str | None = None


def answers(
    case: Case, runs: Sequence[Run], store: Path | None, progress: Progress | None = None
) -> Iterator[tuple[Run, golden.Answer | str]]:
    """The answer of each run, or one line about why there is none. The image is opened once for each process
    whose namespaces or root are asked for (`--ns-of`, `--root-of`), and each kernel (`--kernel-at`)."""
    try:
        image = case.found_image()
    except HybridBridgeError as error:
        yield from ((run, str(error)) for run in runs)
        return
    for view in dict.fromkeys(map(_view, runs)):
        wanted = [run for run in runs if _view(run) == view]
        ns_of, root_of, kernel_at = view
        try:
            session = open_session(
                image, store or case.store, progress, ns_of=ns_of, root_of=root_of, kernel_at=kernel_at
            )
        except (HybridBridgeError, OSError) as error:
            yield from ((run, error_text(error, str(image))) for run in wanted)
            continue
        with session:
            for run in wanted:
                try:
                    rows = list(limited_rows(run.tool, session, run.options))
                    yield run, golden.canonical(case, run, run.tool.columns_for(run.options), rows)
                except (HybridBridgeError, OSError, CallRolledBack) as error:
                    yield run, error_text(error, str(image))


def _view(run: Run) -> tuple[int | None, int | None, int | None]:
    return run.ns_of, run.root_of, run.kernel_at


def verify(
    case: Case, runs: Sequence[Run], store: Path | None = None, progress: Progress | None = None
) -> Iterator[Result]:
    """Answer each run and compare the answer with the recorded one."""
    started = time.monotonic()
    for run, answer in answers(case, runs, store, progress):
        lines: list[str] = []
        error = answer if isinstance(answer, str) else None
        if not isinstance(answer, str):
            try:
                lines = golden.differences(golden.load(case.golden(run)), answer)
            except HybridBridgeError as wrong:
                error = str(wrong)
        yield Result(case, run, time.monotonic() - started, tuple(lines), error)
        started = time.monotonic()


def record(case: Case, store: Path | None = None, progress: Progress | None = None) -> Iterator[Result]:
    """Answer each run and record the answer; the lines of the result say what differs from the previous
    recording."""
    started = time.monotonic()
    for run, answer in answers(case, case.runs, store, progress):
        if isinstance(answer, str):
            yield Result(case, run, time.monotonic() - started, error=answer)
            continue
        path = case.golden(run)
        try:
            lines = golden.differences(golden.load(path), answer)
        except HybridBridgeError:
            lines = [f"{len(answer.rows)} rows"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, answer.dump().encode())
        yield Result(case, run, time.monotonic() - started, tuple(lines))
        started = time.monotonic()


def junit(path: Path, name: str, results: Sequence[Result]) -> None:
    """Write results as JUnit XML: a test for each run, a failure for a difference, an error for no answer."""
    failures = sum(bool(item.lines) for item in results)
    errors = sum(item.error is not None for item in results)
    seconds = f"{sum(item.seconds for item in results):.3f}"
    counts = {"tests": str(len(results)), "failures": str(failures), "errors": str(errors), "time": seconds}
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", {"name": name, **counts})
    for item in results:
        test = ET.SubElement(
            suite, "testcase", classname=item.case.name, name=item.run.text, time=f"{item.seconds:.3f}"
        )
        if item.error is not None:
            ET.SubElement(test, "error", message=_xml(item.error))
        elif item.lines:
            ET.SubElement(test, "failure", message=f"{len(item.lines)} differences").text = _xml(
                "\n".join(item.lines)
            )
    ET.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)


def _xml(text: str) -> str:
    """The text with `?` for what XML 1.0 cannot hold (2.2, Char); `printable` has escaped characters of
    guests."""
    return _NOT_XML.sub("?", text)
