"""The page: whole without a network, well-formed, the same for the same dataset, and hostile text stays
text."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from datasets import BOOTED, INIT, KTHREADD, UPTIME, process, write_dataset

from hybridbridge_vol.errors import BatchError
from hybridbridge_vol.lab.batch.dataset import ToolRun, image_id, table_path
from hybridbridge_vol.lab.batch.summary import page, write_summary

EVIL = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>"
TABLES: dict[str, list[dict[str, Any]]] = {
    "ps": [
        INIT,
        KTHREADD,
        process(66, "[kworker/0:9]", COMM="kworker/0:9"),
        process(70, "[sh] <defunct>", STAT="Z", VSZ=0),
    ],
    "uptime": [UPTIME],
    "dmesg": [
        {
            "SECONDS": "1.5",
            "WHEN": BOOTED + 1.5,
            "FACILITY": "kern",
            "LEVEL": "err",
            "MESSAGE": "disk on fire",
        }
    ],
    "free": [{"KIND": "Mem", "TOTAL": 1000, "USED": 200, "FREE": 500, "BUFF/CACHE": 300}],
    "mpstat": [{"CPU": "all", "%USR": 10.0, "%SYS": 20.0, "%IDLE": 70.0}],
    "lsmod": [{"MODULE": "rk", "SIZE": 1, "STATE": "Live", "ADDRESS": 1 << 63, "TAINTS": "OE"}],
}
LOST = {
    "status": "failed",
    "error": "/e/lost.raw: no trusted kernel for 'Linux version 9'; fetch the package linux-image-9 and run "
    "'hb trust add FILE'",
    "kernel": None, "banner": "Linux version 9", "release": "9", "captured": None, "cpus": None, "tools": (),
}  # fmt: skip


VOID = ("meta", "br")
"""The elements of the page that have no end tag."""


class Parsed(HTMLParser):
    """Holds the page to HTML's rules as far as they can be held to without a browser."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute is twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in ("script", "style"))


def summary(out: Path, **images: Any) -> str:
    return write_summary(
        write_dataset(out, {f"/e/{name}.raw": tables for name, tables in images.items()}, lost=LOST)
    ).read_text("utf-8")


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    return summary(tmp_path_factory.mktemp("out"), a=TABLES, b=TABLES, c={"ps": [INIT]}, lost={})


def test_the_page_needs_nothing_but_itself(usual: str) -> None:
    for tag, attributes in Parsed(usual).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "image", "use")
        assert not {"src", "srcset", "xlink:href", "style", "background"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("href", "#").startswith("#")  # type: ignore[union-attr]
    assert not re.search(r"url\(|@import|https?:|//[a-z]", usual)


def test_all_links_lead_somewhere_and_no_id_is_twice(usual: str) -> None:
    elements = Parsed(usual).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for _, attributes in elements if attributes.get("href")} <= set(ids)  # type: ignore[index]


def test_findings_show_the_rule_and_the_row_they_rest_on(usual: str) -> None:
    shown = Parsed(usual).text()
    for words in (
        "[kworker/0:9]",
        "Process that looks like a kernel thread but is not one",
        "disk on fire",
        "rk",
        "OE",
        "[sh] <defunct>",
    ):
        assert words in shown


def test_an_unknown_kernel_is_listed_with_the_way_out(usual: str) -> None:
    assert "fetch the package linux-image-9 and run 'hb trust add FILE'" in Parsed(usual).text()


def test_the_page_says_what_it_does_not_cover(usual: str) -> None:
    shown = Parsed(usual).text()
    assert "What this page does not cover" in shown and "The kernel's views disagree" in shown
    assert "No timeline: it needs the table of uptime" in shown  # of the image c


def test_the_same_dataset_gives_the_same_page(tmp_path: Path) -> None:
    pages = [summary(tmp_path / name, b=TABLES, a=TABLES, lost={}) for name in ("one", "two")]
    assert pages[0] == pages[1]
    assert write_summary(tmp_path / "one").read_text("utf-8") == pages[0]


def test_json_lines_give_the_same_page_as_parquet(tmp_path: Path) -> None:
    pages = [
        write_summary(write_dataset(tmp_path / form, {"/e/a.raw": TABLES}, form)).read_text("utf-8")
        for form in ("jsonl", "parquet")
    ]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_damaged_table_is_reported_and_the_others_are_shown(tmp_path: Path, form: Any) -> None:
    out = write_dataset(tmp_path, {"/e/a.raw": TABLES}, form)
    table_path(out, "ps", image_id("/e/a.raw"), form).write_bytes(b"PAR1 no table\xff")
    shown = Parsed(write_summary(out).read_text("utf-8")).text()
    assert "ps: the table cannot be read" in shown and "disk on fire" in shown


def test_a_directory_without_a_manifest_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="no manifest in it; run 'hb batch"):
        write_summary(tmp_path)


def test_an_empty_batch_has_a_page(tmp_path: Path) -> None:
    Parsed(write_summary(write_dataset(tmp_path, {})).read_text("utf-8"))


def hostile(out: Path) -> str:
    """A page in which every text of a guest, and of the file's name, is hostile."""
    tables = {
        "ps": [INIT, process(66, f"[{EVIL}]", COMM=EVIL, STAT=f"S{EVIL}"),
               process(67, "[\u202egnp.exe\x1b[2J\u2066]", COMM="x")],
        "lsof": [{"PID": 66, "COMMAND": EVIL, "FD": "txt", "NAME": f"{EVIL} (deleted)"},
                 {"PID": 66, "COMMAND": EVIL, "TYPE": "IPv4", "NODE": "TCP", "NAME": f"{EVIL}:22 (LISTEN)"}],
        "dmesg": [{"LEVEL": "err", "FACILITY": EVIL, "MESSAGE": EVIL}],
        "lsmod": [{"MODULE": EVIL, "STATE": EVIL, "TAINTS": EVIL, "BY": EVIL}],
        "check": [{"WHAT": EVIL, "SYMBOL": EVIL}],
        "hidden": [{"KIND": EVIL, "NAME": EVIL}],
        "uptime": [UPTIME],
    }  # fmt: skip
    bad = {
        "banner": EVIL, "release": EVIL, "kernel": EVIL, "format": EVIL, "error": EVIL, "version": EVIL,
        "tools": (ToolRun("ps", "failed", error=EVIL),
                  *(ToolRun(tool, "ok", len(rows)) for tool, rows in tables.items() if tool != "ps")),
    }  # fmt: skip
    images = {f"/e/{name}{EVIL}.raw": tables for name in "abcd"}
    others: dict[str, Any] = {Path(path).stem: bad for path in images}
    return write_summary(write_dataset(out, images, **others)).read_text("utf-8")


def test_a_script_as_a_process_name_is_text(tmp_path: Path) -> None:
    parsed = Parsed(html := hostile(tmp_path))
    assert [tag for tag, _ in parsed.elements].count("script") == 1 and not any(
        tag == "img" for tag, _ in parsed.elements
    )
    assert EVIL in parsed.text()
    assert html.count("<script") == 1 and "onerror=" not in {
        name for _, attributes in parsed.elements for name in attributes
    }


def test_marks_that_change_the_writing_direction_are_shown_as_escapes(tmp_path: Path) -> None:
    html = hostile(tmp_path)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f\x7f-\x9f]", html)
    assert "\\u202egnp.exe\\x1b[2J" in Parsed(html).text()


def test_only_our_own_script_may_run(tmp_path: Path) -> None:
    policy = next(
        attributes["content"]
        for tag, attributes in Parsed(hostile(tmp_path)).elements
        if "http-equiv" in attributes
    )
    assert policy is not None and policy.startswith("default-src 'none'; ") and "unsafe" not in policy


def test_a_constant_that_could_end_its_element_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.js").write_text("x = '</script>'")
    monkeypatch.setattr(page, "TEMPLATES", tmp_path)
    with pytest.raises(ValueError, match="end its element"):
        page.constant("script.js")


CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine (Debian: apt install chromium)"
)


def in_browser(file: Path, profile: Path) -> str:
    """The document as Chromium has it after it ran the page's script."""
    profile.mkdir()
    switches = (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        f"user-data-dir={profile}", "dump-dom", "virtual-time-budget=2000",
    )  # fmt: skip
    line = [str(CHROMIUM), *(f"--{switch}" for switch in switches), file.as_uri()]
    return subprocess.run(line, capture_output=True, timeout=60, check=True).stdout.decode()


@needs_chromium
def test_chromium_runs_our_script_and_no_guests(tmp_path: Path) -> None:
    hostile(tmp_path)
    document = Parsed(in_browser(tmp_path / "summary.html", tmp_path / "profile"))
    titles = [text for tag, text in document.texts if tag == "title"]
    assert titles[0] == "4 memory images"
    assert ("button", {}) in document.elements, "the script has made the heads of tables buttons"
    assert [tag for tag, _ in document.elements].count("script") == 1 and EVIL in document.text()
