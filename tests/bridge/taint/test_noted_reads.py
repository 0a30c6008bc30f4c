"""Which words of the snapshot's memory were read."""

from __future__ import annotations

from small_machine import BEYOND, OURS, PAGE, SNAPSHOT, SNAPSHOT_PADDR, SNAPSHOT_SIZE, SmallMachine

from hybridbridge_vol.machine.paging import WRITABLE

LOAD = "488b06 mov rax, qword ptr [rsi]"


def test_each_word_is_named_once_in_the_order_of_the_first_reads(small: SmallMachine) -> None:
    small.engine.watch_reads(SNAPSHOT_SIZE)
    small.run(LOAD, rsi=SNAPSHOT + 0x40)
    small.run(LOAD, rsi=SNAPSHOT + 0x13)  # parts of two words
    small.run(LOAD, rsi=SNAPSHOT + 0x40)
    assert list(small.engine.take_reads()) == [8, 2, 3]
    assert list(small.engine.take_reads()) == []
    small.run(LOAD, rsi=SNAPSHOT + 0x40)
    assert list(small.engine.take_reads()) == [8]


def test_what_is_written_or_is_not_the_snapshots_is_not_read(small: SmallMachine) -> None:
    small.engine.watch_reads(SNAPSHOT_SIZE)
    small.run("488907 mov qword ptr [rdi], rax", rdi=SNAPSHOT + 0x40)
    small.run(LOAD, rsi=OURS)
    assert list(small.engine.take_reads()) == []


def test_a_word_across_two_pages_is_read_where_its_parts_lie(small: SmallMachine) -> None:
    small.tables.map_page(BEYOND, SNAPSHOT_PADDR, WRITABLE)
    small.tables.map_page(BEYOND + PAGE, SNAPSHOT_PADDR + 3 * PAGE, WRITABLE)
    small.machine.flush_translations()
    small.engine.watch_reads(SNAPSHOT_SIZE)
    small.run(LOAD, rsi=BEYOND + PAGE - 3)
    assert list(small.engine.take_reads()) == [PAGE // 8 - 1, 3 * PAGE // 8]


def test_nothing_is_noted_unless_it_is_asked_for_and_nothing_beyond_that(small: SmallMachine) -> None:
    small.run(LOAD, rsi=SNAPSHOT)
    assert list(small.engine.take_reads()) == []
    small.engine.watch_reads(PAGE)
    small.run(LOAD, rsi=SNAPSHOT + PAGE)
    small.run(LOAD, rsi=SNAPSHOT + PAGE - 8)
    assert list(small.engine.take_reads()) == [PAGE // 8 - 1]
