"""Points in time: written with their zone, compared as instants."""

from __future__ import annotations

from datetime import datetime, timezone

UNKNOWN = datetime.min.replace(tzinfo=timezone.utc)  # before all others


def now() -> datetime:
    """The time here, with its zone."""
    return datetime.now(timezone.utc).astimezone()


def as_text(when: datetime) -> str:
    """ISO 8601 with milliseconds and the zone, that of this machine if it has none."""
    return _zoned(when).isoformat(timespec="milliseconds")


def instant(text: object) -> datetime:
    """The point in time of such a text; one without a zone, as in older results, is of here.

    Raises ValueError.
    """
    try:
        return _zoned(datetime.fromisoformat(str(text)))
    except (OverflowError, OSError) as error:  # the year 1, say
        raise ValueError(f"{text!r:.60} is out of range") from error


def instant_or_unknown(text: object) -> datetime:
    """The same, and UNKNOWN for what is none."""
    try:
        return instant(text)
    except ValueError:
        return UNKNOWN


def _zoned(when: datetime) -> datetime:
    return when if when.tzinfo else when.astimezone()
