"""A pytest plugin: each run of each case of `--hb-cases CASES.toml` is a test.

pytest loads this module in every project of the environment, so the engine is imported only when cases are
collected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hybridbridge_vol.lab.regress.cases import Case, Run
    from hybridbridge_vol.lab.regress.regress import Result


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("hybridbridge")
    group.addoption(
        "--hb-cases",
        metavar="FILE",
        help="a file of cases of 'hb regress': each run is a test; if no other path is given, only these",
    )
    group.addoption("--hb-store", metavar="DIR", help="directory of the trusted kernels of the cases")


def pytest_configure(config: pytest.Config) -> None:
    """Collect the file of cases, and nothing else if no path was given."""
    cases = config.getoption("--hb-cases")
    if cases is None:
        return
    path = str(Path(cases).absolute())
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        config.args.append(path)
    else:
        config.args[:] = [path]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the file of cases."""
    cases = parent.config.getoption("--hb-cases")
    if cases is not None and file_path == Path(cases).absolute():
        return CasesFile.from_parent(parent, path=file_path)
    return None


class CasesFile(pytest.File):
    """A file of cases. The runs of a case are answered together, when the first of them is tested."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._results: dict[tuple[str, str], Result] = {}
        """By the names of the case and the run."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item for each run."""
        from hybridbridge_vol.cli.regress import parse_run
        from hybridbridge_vol.errors import HybridBridgeError
        from hybridbridge_vol.lab.regress.cases import read_cases

        try:
            cases = read_cases(self.path, parse_run)
        except HybridBridgeError as error:
            raise self.CollectError(str(error)) from None
        for case in cases:
            for run in case.runs:
                yield CaseRun.from_parent(self, name=f"{case.name}: {run.text}", case=case, run=run)

    def result_of(self, case: Case, run: Run) -> Result:
        """The result of a run. All selected runs of its case are made at the first call, so that the image is
        opened once."""
        from hybridbridge_vol.lab.regress import regress

        if (case.name, run.text) not in self._results:
            chosen = [
                item.run for item in self.session.items if isinstance(item, CaseRun) and item.case is case
            ]
            store = self.config.getoption("--hb-store")
            for result in regress.verify(case, chosen, Path(store) if store else None):
                self._results[case.name, result.run.text] = result
        return self._results[case.name, run.text]


class CaseRun(pytest.Item):
    """One run of a case."""

    parent: CasesFile

    def __init__(self, *, case: Case, run: Run, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.case = case
        self.run = run

    def runtest(self) -> None:
        """Compare the answer with the recorded one."""
        from hybridbridge_vol.errors import CasesError

        result = self.parent.result_of(self.case, self.run)
        if result.error is not None:
            raise CasesError(result.error)
        if result.lines:
            raise Different("\n".join(result.lines))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The difference, without a traceback through this module."""
        from hybridbridge_vol.errors import HybridBridgeError

        if isinstance(excinfo.value, (Different, HybridBridgeError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The file of cases, and the name."""
        return self.path, None, self.name


class Different(Exception):
    """The answer differs from the recorded one."""
