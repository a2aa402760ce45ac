"""Act on a live call without being asked: `POST /2010-04-01/Accounts/{AccountSid}/Calls/{CallSid}.json`, once a record.

Hanging up alone is `Status=completed`, which ends a ringing call too; everything else is TwiML that takes the place of
what the call is doing, followed by our question what next. So `interrupt` is TwiML with nothing but the question. Twilio
redirects only calls that are in progress, and TwiML in a request has at most 4,000 characters (contract 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import quote

from bridge.model import actions as ours
from bridge.model.errors import Poison, Unavailable
from bridge.providers.capabilities import one_of
from bridge.providers.http import Answered, HttpClient
from bridge.providers.protocol import Rejected
from bridge.providers.twilio import client, verbs
from bridge.providers.twilio.actions import At, Way, elements_of, options_of, tail
from bridge.providers.twilio.order import Fields
from bridge.providers.twilio.twiml import LONGEST_IN_REQUEST, document

Controllable: TypeAlias = (
    ours.Speak | ours.Play | ours.Hangup | ours.Transfer | ours.Interrupt | ours.SendDtmf | ours.RawAction
)
"""What can be done unasked."""
AVAILABLE = one_of(Controllable)

_GONE = 404
_NOT_IN_PROGRESS = 21220
_SUCCESS, _SERVER_ERRORS = range(200, 300), 500


class Control:
    """The live calls of one account."""

    def __init__(self, http: HttpClient, *, account_sid: str, credentials: client.Credentials, way: Way) -> None:
        self._http = http
        self._account_sid = account_sid
        self._credentials = credentials
        self._way = way

    async def do(self, session: str, actions: Sequence[ours.Action]) -> None:
        """All of it in one request; see `CanControl`."""
        content = client.encode(request_for(actions, self._way))
        path = client.calls_path(self._account_sid, quote(session, safe=""))
        answer = await self._http.send("POST", path, headers=client.FORM, content=content)
        if not isinstance(answer, Answered):
            raise Unavailable(f"Twilio did not answer: {answer.reason}")
        if answer.status in _SUCCESS:
            return
        detail = client.detail_of(answer.body, self._credentials) or f"status {answer.status}"
        if answer.status >= _SERVER_ERRORS:
            raise Unavailable(f"Twilio: status {answer.status}: {detail}")
        raise Rejected(_explained(answer, detail))


def request_for(actions: Sequence[ours.Action], way: Way) -> Fields:
    """The form of the request for these actions.

    Raises:
        Poison: an action that Twilio does not have, a value that it would not take, or more than fits into a request.
    """
    elements = []
    for index, action in enumerate(actions):
        path = f"$.actions[{index}]"
        if not isinstance(action, Controllable):
            raise Poison(f"{path}.type", found=f"'{ours.action_type(action)}'", allowed=AVAILABLE)
        if isinstance(action, ours.Interrupt):
            options_of(action, verbs.NoOptions, path)  # taking the place of what is said interrupts it
        else:
            elements += elements_of(action, At(path, way))
    if [type(action) for action in actions] == [ours.Hangup]:
        return [("Status", "completed")]
    twiml = document([*elements, *tail(elements, way)]).decode()
    if len(twiml) > LONGEST_IN_REQUEST:
        found = f"{len(twiml)} characters of TwiML"
        raise Poison("$.actions", found=found, allowed=f"at most {LONGEST_IN_REQUEST} in a live call")
    return [("Twiml", twiml)]


def _explained(answer: Answered, detail: str) -> str:
    if answer.status == _GONE:
        return "Twilio has no such call"
    if client.error_of(answer.body).code == _NOT_IN_PROGRESS:
        return f"the call is not in progress: {detail}"
    return f"status {answer.status}: {detail}"
