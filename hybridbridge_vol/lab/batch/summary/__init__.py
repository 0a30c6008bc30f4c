"""The HTML summary of a batch: one page that opens offline, made from the manifest and the tables only.

`data` reads them, `facts`, `findings` and `rarity` say what is in them by the `rules`, `timeline`, `bars` and
`rows` compute what is drawn, `view` puts the sections together, and `page` renders them with the templates.
The page depends only on the dataset, not on when or where it is made: the same dataset gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from hybridbridge_vol.lab.batch.dataset import write_durably
from hybridbridge_vol.lab.batch.summary.data import read_images, read_tables
from hybridbridge_vol.lab.batch.summary.facts import facts_of
from hybridbridge_vol.lab.batch.summary.page import page_of


def write_summary(out: Path) -> Path:
    """Write OUT/summary.html and return its path. The page says which tables and columns are missing.
    BatchError if the dataset has no manifest, OSError if the page cannot be written."""
    facts = [facts_of(image, read_tables(out, image)) for image in read_images(out)]
    path = out / "summary.html"
    write_durably(path, page_of(facts).encode("utf-8", "backslashreplace"))
    return path
