"""Values of webhooks and answers, read without trust: what is not as it is documented counts as not given."""

from __future__ import annotations

from datetime import UTC, datetime

from bridge.model.phone import e164_from_wire


def text_of(value: object) -> str | None:
    """A string with something in it."""
    return value if isinstance(value, str) and value else None


def float_of(value: object) -> float | None:
    """A number; true and false are none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def iso_moment(value: object) -> datetime | None:
    """A time as ISO 8601 writes it; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text_of(value) or "")
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def number_of(value: object) -> str | None:
    """A phone number: as E.164 where it can be read so, else as the provider wrote it."""
    text = text_of(value)
    return (e164_from_wire(text) or text) if text else None
