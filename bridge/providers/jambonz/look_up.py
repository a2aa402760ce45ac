"""How a call stands: `GET /v1/Accounts/{account_sid}/Calls/{call_sid}`, one request, for calls whose end nobody told.

A record holds neither our tag nor any time (contract 4), and lives an hour after the call was answered, also while it
goes on: that there is none proves nothing.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from bridge.model.errors import Unavailable
from bridge.providers.http import Answered, HttpClient
from bridge.providers.jambonz import client, statuses
from bridge.providers.protocol import Live, NoRecord, Over, Standing
from bridge.runtime.secrets import Secret

_OK = 200
_NOT_ANSWERED = frozenset({401, 403, 429, 480})
"""Says something about us or the moment, and nothing about the call."""
_SERVER_ERRORS = 500
_QUEUED = "queued"
"""In records only (contract 7): not begun yet."""
_record = msgspec.json.Decoder(statuses.WireBody)


async def look_up(session: str, http: HttpClient, *, account_sid: str, token: Secret) -> Standing:
    """Ask once.

    Raises:
        Unavailable: no answer, or one that is not about the call; the message holds no secret.
    """
    path = f"{client.calls_path(account_sid)}/{quote(session, safe='')}"
    answer = await http.send("GET", path, headers={"accept": "application/json"})
    if not isinstance(answer, Answered):
        raise Unavailable(f"jambonz did not answer: {answer.reason}")
    if answer.status in _NOT_ANSWERED or answer.status >= _SERVER_ERRORS:
        raise Unavailable(f"jambonz: status {answer.status}: {client.detail_of(answer.body, token) or 'no words'}")
    return standing_of(answer.body) if answer.status == _OK else NoRecord()


def standing_of(body: bytes) -> Standing:
    """What a record says; `call_status` decides."""
    try:
        record = _record.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return NoRecord()
    status = record.call_status if isinstance(record.call_status, str) else ""
    meaning = statuses.STATUSES.get(status)
    if meaning is not None and meaning.is_final:
        return Over(statuses.ended_of(record))
    return NoRecord() if meaning is None and status != _QUEUED else Live()
