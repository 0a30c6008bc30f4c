"""Which of Debian's suites have the kernels of a series."""

_SUITES = {"5.10": ("bullseye",), "6.1": ("bookworm",), "6.12": ("bookworm", "trixie"), "7": ("sid",)}
"""Where to look for a series first; a package's full name is looked for in all of them."""


def suites(series: str) -> tuple[str, ...]:
    """The suites of "6.1" or "7", and of a series that is not listed those of its first number, or all."""
    return _SUITES.get(series) or _SUITES.get(series.split(".")[0]) or ("bookworm", "trixie", "sid")
