"""How a call stands: `GET /calls/{id}`, one request, for calls whose end nobody told (delivery is not promised, 3.4).

A status that is not listed, and a call that is not known, prove nothing: the vendor's list is explicitly open (3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from bridge.model.errors import Unavailable
from bridge.model.words import JsonObject
from bridge.providers.hms_sovereign import translate
from bridge.providers.hms_sovereign.client import detail_of
from bridge.providers.hms_sovereign.wire import WireCall, WireMessage
from bridge.providers.http import Answered, HttpClient
from bridge.providers.protocol import Live, NoRecord, Over, Standing
from bridge.providers.values import iso_moment, text_of
from bridge.runtime.secrets import Secret

LIVE = frozenset({"dialing", "connecting", "ringing", "in-progress"})
"""Statuses of a call that goes on (contract 3.2)."""
_NOT_ANSWERED = frozenset({401, 403, translate.TOO_MANY_REQUESTS})
"""Says something about us or the moment, and nothing about the call."""


async def look_up(session: str, http: HttpClient, *, secrets: Sequence[Secret]) -> Standing:
    """Ask once.

    Raises:
        Unavailable: no answer, or one that is not about the call; the message holds no secret.
    """
    answer = await http.send("GET", f"/calls/{quote(session, safe='')}")
    if not isinstance(answer, Answered):
        raise Unavailable(f"HMS Sovereign did not answer: {answer.reason}")
    if answer.status in _NOT_ANSWERED or answer.status >= translate.SERVER_ERRORS:
        raise Unavailable(f"HMS Sovereign: status {answer.status}: {detail_of(answer, secrets) or 'no words'}")
    return standing_of(translate.fields_of(answer.body)) if answer.status in translate.SUCCESS else NoRecord()


def standing_of(fields: JsonObject) -> Standing:
    """What a call's record says; `status` decides."""
    status = text_of(fields.get("status")) or ""
    if status in LIVE:
        return Live()
    if status not in translate.END_STATUSES:
        return NoRecord()
    call = WireCall(id="-", type=f"{fields.get('direction')}_phone_call", status=status)
    message = WireMessage(
        type="status-update",
        call=call,
        error=fields.get("error"),
        end_reason=fields.get("end_reason"),
        duration_seconds=fields.get("duration_seconds"),
    )
    return Over(translate.ended_of(message), at=iso_moment(fields.get("ended_at")))
