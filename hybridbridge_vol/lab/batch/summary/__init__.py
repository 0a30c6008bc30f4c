"""The HTML summary of a batch: one page that opens offline, made from the manifest and the tables only.

`data` reads them, `facts` and `findings` say what is in them, `timeline` and `bars` draw, `page` lays it all
out. Nothing of the page depends on when or where it is made: the same dataset gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from hybridbridge_vol.lab.batch.dataset import write_durably
from hybridbridge_vol.lab.batch.summary.data import read_images, read_tables
from hybridbridge_vol.lab.batch.summary.facts import facts_of
from hybridbridge_vol.lab.batch.summary.page import page_of


def write_summary(out: Path) -> Path:
    """Write OUT/summary.html; its path. Missing tables and columns are told in the page. BatchError if the
    dataset has no manifest, OSError if the page cannot be written."""
    facts = [facts_of(image, read_tables(out, image)) for image in read_images(out)]
    path = out / "summary.html"
    write_durably(path, page_of(facts).encode("utf-8", "backslashreplace"))
    return path
