"""Lines of trace buffers, as the kernel's tracers write them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hybridbridge_vol.procfs.trace import parse_trace

HEAD = b"# tracer: nop\n#\n# entries-in-buffer/entries-written: 1/1   #P:1\n#\n"


def one(line: bytes) -> tuple[object, ...]:
    (entry,) = parse_trace(HEAD + line + b"\n")
    assert (HEAD + line)[entry.start : entry.end] == line
    return entry[2:]


def test_an_event_has_its_parts() -> None:
    line = b"     kworker/0:1-H-23      [003] d..2.   105.660412: sched_waking: comm=a: b pid=7"
    assert one(line) == ("kworker/0:1-H", 23, 3, 105.660412, "sched_waking", "comm=a: b pid=7")


def test_a_thread_group_and_an_unknown_name_are_understood() -> None:
    line = b"           <...>-1       (-------) [000] .....     9.507915: tracing_mark_write: a note"
    assert one(line) == ("<...>", 1, 0, 9.507915, "tracing_mark_write", "a note")
    line = b"              sh-77      (     77) [001] .....     9.5: name: (__x64_sys+0x0/0x20)"
    assert one(line)[:4] == ("sh", 77, 1, 9.5)


def test_a_traced_function_is_no_event() -> None:
    line = b"            bash-2113    [001] ...1.  4041.187711: vfs_write <-ksys_write"
    assert one(line) == ("bash", 2113, 1, 4041.187711, None, "vfs_write <-ksys_write")


def test_other_lines_are_kept_as_they_are() -> None:
    assert one(b"CPU:1 [LOST 12 EVENTS]")[5:] == ("CPU:1 [LOST 12 EVENTS]",)
    assert one(b" 1)   0.312 us    |  } /* fput */")[0] is None
    assert one(b" => do_syscall_64")[5] == "=> do_syscall_64"


@given(st.binary(max_size=300))
def test_any_text_gives_a_line_for_each_line(data: bytes) -> None:
    lines = [line for line in data.split(b"\n") if line and not line.startswith(b"#")]
    assert [data[entry.start : entry.end] for entry in parse_trace(data)] == lines
