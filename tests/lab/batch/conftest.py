"""A whole batch over the evidence, shared by the tests that compare with it."""

from __future__ import annotations

from typing import Any

import pytest
from batches import Ran, ended


@pytest.fixture(scope="session")
def undisturbed(hb_batch: Any, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One whole run, which nobody disturbs or changes."""
    out = tmp_path_factory.mktemp("undisturbed")
    return ended(hb_batch(out), out)
