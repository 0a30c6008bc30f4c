"""The kernel's own ways to hook its code: reported by their names, and nothing passes for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from victims import Victim


def test_a_traced_function_and_a_kprobe_are_told_as_such(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    image = victim()
    traced, probed = image.vaddr("__x64_sys_getpid"), image.vaddr("do_exit")
    tracer = image.vaddr("ftrace_caller")
    assert image.read(traced, 5) == b"\x0f\x1f\x44\x00\x00"
    image.write(traced, b"\xe8" + (tracer - traced - 5 & 0xFFFFFFFF).to_bytes(4, "little"))
    image.write(probed, b"\xcc")
    rows = {row["WHAT"]: row for row in checked(image)}
    assert rows.keys() == {"traced", "kprobe"}
    assert (rows["traced"]["SYMBOL"], rows["traced"]["LEADS"]) == ("__x64_sys_getpid", "ftrace_caller")
    assert rows["kprobe"]["SYMBOL"] == "do_exit"
    assert rows["kprobe"]["FOUND"].startswith("int3")


@pytest.mark.parametrize(
    ("handler", "what"),
    [
        ("function_trace_call", "traced"),
        ("kprobe_ftrace_handler", "kprobe"),
        ("klp_ftrace_handler", "livepatch"),
        ("commit_creds", "traced"),
    ],
)
def test_a_trampoline_of_the_tracer_is_told_by_who_it_calls(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]], handler: str, what: str
) -> None:
    image = victim()
    site, place = image.vaddr("__x64_sys_getpid"), image.vaddr("__log_buf")
    start, size = image.vaddr("ftrace_caller"), image.vaddr("ftrace_call") - image.vaddr("ftrace_caller")
    image.write(place, image.read(start, size))
    image.write(
        place + size, b"\xe8" + (image.vaddr(handler) - place - size - 5 & 0xFFFFFFFF).to_bytes(4, "little")
    )
    image.write(site, b"\xe8" + (place - site - 5 & 0xFFFFFFFF).to_bytes(4, "little"))
    (row,) = checked(image)
    assert (row["WHAT"], row["SYMBOL"]) == (what, "__x64_sys_getpid")
    assert row["LEADS"] == f"trampoline of the tracer, which calls {handler}"


def test_what_only_looks_like_a_trampoline_is_text(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    image = victim()
    site, place = image.vaddr("__x64_sys_getpid"), image.vaddr("__log_buf")
    start, size = image.vaddr("ftrace_caller"), image.vaddr("ftrace_call") - image.vaddr("ftrace_caller")
    code = bytearray(image.read(start, size))
    code[-1] ^= 1
    image.write(place, bytes(code) + b"\xe8" + bytes(4))
    image.write(site, b"\xe8" + (place - site - 5 & 0xFFFFFFFF).to_bytes(4, "little"))
    (row,) = checked(image)
    assert (row["WHAT"], row["LEADS"]) == ("text", "__log_buf")


def test_an_optimised_kprobe_is_told_by_its_detour(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    image = victim()
    site, place = image.vaddr("ksys_write") + 0x15, image.vaddr("__log_buf")
    start, end = image.vaddr("optprobe_template_entry"), image.vaddr("optprobe_template_val")
    code = bytearray(image.read(start, end - start))
    access = image.vaddr("optprobe_template_clac") - start
    code[access : access + 3] = b"\x0f\x01\xca"
    image.write(place, bytes(code))
    image.jump(site, place)
    (row,) = checked(image)
    assert (row["WHAT"], row["LEADS"]) == ("kprobe", "detour of an optimised kprobe")


def test_a_probe_of_a_tracepoint_is_told_as_traced(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    image = victim()
    image.set_word(image.vaddr("__SCK__tp_func_sched_switch"), image.vaddr("probe_sched_switch"))
    assert ("traced", "probe_sched_switch") in [(row["WHAT"], row["LEADS"]) for row in checked(image)]


FUNCTIONS_OF_TRACEPOINT = 64
"""Offset of `funcs` in `struct tracepoint` of the sample's kernel (include/linux/tracepoint-defs.h)."""


def test_only_a_recorder_that_its_tracepoint_lists_is_no_difference(
    victim: Callable[..., Victim], checked: Callable[[Victim], list[dict[str, Any]]]
) -> None:
    """As after `echo 1 > events/sched/sched_switch/enable`, or when a driver records its own events."""
    image = victim()
    key, functions = "__SCK__tp_func_sched_switch", image.vaddr("__log_buf")
    recorder = image.vaddr("trace_event_raw_event_sched_switch")
    image.set_word(image.vaddr(key), recorder)
    image.set_word(functions, recorder)
    image.set_word(image.vaddr("__tracepoint_sched_switch") + FUNCTIONS_OF_TRACEPOINT, functions)
    assert key not in {row["SYMBOL"] for row in checked(image)}
    image.set_word(functions, image.vaddr("commit_creds"))
    unlisted = {row["SYMBOL"]: (row["WHAT"], row["LEADS"]) for row in checked(image)}
    assert unlisted[key] == ("traced", "trace_event_raw_event_sched_switch")
    other = image.vaddr("trace_event_raw_event_sys_enter")
    image.set_word(functions, other)
    image.set_word(image.vaddr(key), other)
    wrong = {row["SYMBOL"]: (row["WHAT"], row["LEADS"]) for row in checked(image)}
    assert wrong[key] == ("traced", "trace_event_raw_event_sys_enter")
