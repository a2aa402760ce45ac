"""Where Twilio is told to ask us: the URLs of one call's webhooks, and what a path that was asked says.

Six words follow `/webhooks/NAME`: `call` (TwiML when the call is answered), `gather` and `verb` (what next), `status`,
`amd` and `recording`, each alone or with our call id behind it. Twilio echoes nothing of ours in a body, so the path is
our reference; its signature covers the URL, so the path is proven with it (contract 5, 6).
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias, cast

Word: TypeAlias = Literal["call", "gather", "verb", "status", "amd", "recording"]

RETRIED = "#rc=3&rp=ct,5xx"
"""Twilio repeats a webhook once, and only when it could not connect; this asks for three more tries, also after a 5xx,
which is how we say that Kafka is away (contract 6). Not after a time-out: the question would be asked twice."""

_PATH = re.compile(r"/(?P<word>call|gather|verb|status|amd|recording)(?:/(?P<call_id>[A-Za-z0-9_-]{1,64}))?/?")


class Hooks:
    """The webhooks of one connection, under its public URL."""

    def __init__(self, public_url: str) -> None:
        self._base = public_url.rstrip("/")

    def url(self, word: Word, call_id: str | None) -> str:
        """The absolute URL of a webhook; without a call id that of calls which are not ours (inbound)."""
        return f"{self._base}/{word}{f'/{call_id}' if call_id else ''}{RETRIED}"


def read_path(path: str) -> tuple[Word | None, str | None]:
    """The word and the call id of a path behind `/webhooks/NAME`; None for what it does not say."""
    found = _PATH.fullmatch(path)
    return (cast("Word", found["word"]), found["call_id"]) if found else (None, None)
