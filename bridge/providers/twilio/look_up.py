"""How a call stands: `GET /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}.json`, one request (contract 4).

For calls whose end nobody told. A record is kept for long, but may be deleted: that there is none proves nothing.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from bridge.model.errors import Unavailable
from bridge.model.words import AnyJson
from bridge.providers.http import Answered, HttpClient
from bridge.providers.protocol import Live, NoRecord, Over, Standing
from bridge.providers.twilio import client, statuses

_OK = 200
_NOT_ANSWERED = frozenset({401, 403, 429})
"""Says something about us or the moment, and nothing about the call."""
_SERVER_ERRORS = 500


class _Record(msgspec.Struct, frozen=True):
    """As far as it is read; numbers are strings there."""

    status: AnyJson = None
    duration: AnyJson = None
    end_time: AnyJson = None


_record = msgspec.json.Decoder(_Record)


async def look_up(session: str, http: HttpClient, *, account_sid: str, credentials: client.Credentials) -> Standing:
    """Ask once.

    Raises:
        Unavailable: no answer, or one that is not about the call; the message holds no secret.
    """
    path = client.calls_path(account_sid, quote(session, safe=""))
    answer = await http.send("GET", path, headers={"accept": "application/json"})
    if not isinstance(answer, Answered):
        raise Unavailable(f"Twilio did not answer: {answer.reason}")
    if answer.status in _NOT_ANSWERED or answer.status >= _SERVER_ERRORS:
        said = client.detail_of(answer.body, credentials) or "no words"
        raise Unavailable(f"Twilio: status {answer.status}: {said}")
    return standing_of(answer.body) if answer.status == _OK else NoRecord()


def standing_of(body: bytes) -> Standing:
    """What a record says; `status` decides."""
    try:
        record = _record.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NoRecord()
    told = {"CallStatus": record.status, "CallDuration": record.duration, "Timestamp": record.end_time}
    values = {name: value for name, value in told.items() if isinstance(value, str)}
    meaning = statuses.STATUSES.get(values.get("CallStatus", ""))
    if meaning is None:
        return NoRecord()
    return Over(statuses.ended_of(values), at=statuses.sent_at(values)) if meaning.is_final else Live()
