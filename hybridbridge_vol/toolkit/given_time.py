"""Times that are given as options."""

from __future__ import annotations

import datetime

from hybridbridge_vol.errors import OptionError


def given_time(option: str, text: str | None) -> float | None:
    """Seconds since the epoch; a time without a zone is UTC. OptionError."""
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise OptionError(
            f"--{option}: not a time: {text!r}; write 2026-11-23 or 2026-11-23T05:30Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
