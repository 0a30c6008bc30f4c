"""The program that tries to get out of the sandbox, and what it says of its attempts."""

from __future__ import annotations

from pathlib import Path

from samples.compiler import compile_static

_SOURCE = Path(__file__).parent / "hostile_program.c"


def hostile_program(folder: Path) -> Path:
    """The program, compiled, in a folder of its own beside `secret`, a file that it must not read."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "hostile"
    program.write_bytes(compile_static(_SOURCE))
    program.chmod(0o755)
    (folder / "secret").write_text("the examiner's own words\n".ljust(4242))
    return program


def attempts(output: bytes) -> dict[str, tuple[int, int]]:
    """`(result, errno)` of each attempt."""
    found = {}
    for line in output.decode().splitlines():
        assert not line.startswith("ESCAPED"), line
        name, result, number = line.rsplit(" ", 2)
        found[name] = int(result), int(number)
    return found
