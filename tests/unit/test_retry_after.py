"""`Retry-After` as servers write it: seconds, a date in one of three forms, or something else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bridge.providers.http import retry_after_seconds

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
DAY = 86_400
HUGE = [
    "Sat, 31 Jan 99999999999999999999 09:30:30 GMT",
    "Sat, 31 Jan 2026 09:30:30 +99999999999999999999",
    "Sat, 31 Jan 2026 09:30 3333333333330 GMT",
]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("999999999", DAY),
        ("Sat, 31 Jan 2026 09:30:30 GMT", 30),
        ("Sat, 31 Jan 2026 10:30:30 +0100", 30),
        ("Sat, 31 Jan 2026 09:30:30 -0000", 30),
        ("Saturday, 31-Jan-26 09:30:30 GMT", 30),
        ("Sat Jan 31 09:30:30 2026", 30),
        ("Sat, 31 Jan 2026 09:29:00 GMT", 0),
        ("Wed, 31 Jan 2035 09:30:00 GMT", DAY),
    ],
)
def test_what_can_be_read(value: str, seconds: float) -> None:
    """Never below 0, never more than a day."""
    assert retry_after_seconds(value, now=NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "-1",
        "1.5",
        "1e3",
        "٣",
        "9" * 5000,
        "Sat, 99 Jan 2026 09:30:30 GMT",
        "31 Jan",
        "inf",
        "\x00",
        *HUGE,
    ],
)
def test_what_cannot_be_read(value: str | None) -> None:
    """None, so that the caller's own back-off decides; never an error."""
    assert retry_after_seconds(value, now=NOW) is None
