"""Actions in a live call: `POST /calls/{id}/control`, one command each, in order.

Everything is rendered, and the vendor's limit of 10 commands a minute and call is looked at, before the first byte
leaves; what failed on the way says how many were done before it. With xAI realtime `say` and `inject-context` are
weak (seed 003); the answer does not tell.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import TypeAlias, TypeVar, assert_never
from urllib.parse import quote

import msgspec

from bridge.model import actions as ours
from bridge.model.errors import Poison, Unavailable
from bridge.model.phone import parse_callee
from bridge.model.scrub import describe
from bridge.model.validation import convert_json
from bridge.model.words import JsonObject
from bridge.providers.capabilities import not_offered, one_of
from bridge.providers.hms_sovereign import translate
from bridge.providers.hms_sovereign.client import JSON_HEADERS, detail_of
from bridge.providers.hms_sovereign.options import InjectOptions, LastWords, NoOptions, SpeakOptions
from bridge.providers.http import Answered, HttpClient
from bridge.providers.protocol import NotThisWay, Rejected
from bridge.runtime.clock import Clock
from bridge.runtime.secrets import Secret

COMMANDS_A_MINUTE = 10
"""For each active call (https://doc.hmsovereign.com/docs/reference/rate-limits; contract 3.1)."""
WINDOW_SECONDS = 60.0
Controllable: TypeAlias = ours.Speak | ours.InjectContext | ours.Hangup | ours.Transfer | ours.RawAction
"""What can be done in a live call."""
AVAILABLE = one_of(Controllable)
_MOST_CALLS = 10_000
_FIRST_REFUSAL = 400

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


class Control:
    """Commands to live calls of one connection."""

    def __init__(self, http: HttpClient, *, secrets: Sequence[Secret], clock: Clock) -> None:
        self._http = http
        self._secrets = secrets
        self._limit = CallLimit(clock)

    async def do(self, session: str, actions: Sequence[ours.Action]) -> None:
        """Have the actions done; returns when HMS Sovereign has taken all of them.

        Raises:
            Poison: an action it does not have, or with fields it would not take. Nothing was sent.
            Rejected: it refused one, or the minute's commands are used up.
            Unavailable: it did not answer; that action may or may not have been done.
        """
        commands = [render(action, f"$.actions[{index}]") for index, action in enumerate(actions)]
        self._limit.take(session, len(commands))
        path = f"/calls/{quote(session, safe='')}/control"
        for done, command in enumerate(commands):
            answer = await self._http.send("POST", path, headers=JSON_HEADERS, content=msgspec.json.encode(command))
            if isinstance(answer, Answered):
                self._check(answer, done, len(commands))
            else:
                raise Unavailable(f"{answer.reason}{_after(done, len(commands))}")

    def _check(self, answer: Answered, done: int, count: int) -> None:
        status = answer.status
        if status in translate.SUCCESS and translate.fields_of(answer.body).get("success") is not False:
            return
        detail = detail_of(answer, self._secrets)
        said = f"{status}{f': {detail}' if detail else ''}{_after(done, count)}"
        if status >= translate.SERVER_ERRORS or translate.SUCCESS.stop <= status < _FIRST_REFUSAL:
            raise Unavailable(said)
        raise Rejected(said)


class CallLimit:
    """How many commands each call was sent in the last minute; of at most 10 000 calls, the oldest is forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, session: str, count: int) -> None:
        """Count so many commands as sent now.

        Raises:
            Rejected: that would be too many; none is counted.
        """
        now = self._clock.monotonic()
        sent = self._sent.pop(session, deque())
        while sent and sent[0] <= now - WINDOW_SECONDS:
            sent.popleft()
        if fits := len(sent) + count <= COMMANDS_A_MINUTE:
            sent.extend([now] * count)
        if sent:
            self._sent[session] = sent
        if len(self._sent) > _MOST_CALLS:
            self._sent.popitem(last=False)
        if not fits:
            left = COMMANDS_A_MINUTE - len(sent)
            raise Rejected(
                f"{count} commands, {left} left of {COMMANDS_A_MINUTE} a minute for this call; none was sent"
            )


def render(action: ours.Action, path: str) -> JsonObject:
    """A command as it stands on the wire (contract 3.3).

    Raises:
        NotThisWay: it is the answer to a question, and nothing else.
        Poison: names `path` and the field.
    """
    if not isinstance(action, Controllable):
        poison = not_offered(action, path, provider="HMS Sovereign", allowed=f"{AVAILABLE}: of a live call")
        if isinstance(action, ours.ToolResult | ours.Configure):
            raise NotThisWay(poison.field, found=poison.found, allowed=poison.allowed)
        raise poison
    match action:
        case ours.Speak():
            return _say(action, path)
        case ours.InjectContext():
            inject = _options(action, InjectOptions, path)
            return {"type": "inject-context", "content": action.text, "trigger_response": inject.trigger_response}
        case ours.Hangup():
            return {"type": "end-call", **msgspec.to_builtins(_options(action, LastWords, path))}
        case ours.Transfer():
            return _transfer(action, path)
        case ours.RawAction():
            return _raw(action, path)
        case _:
            assert_never(action)


def _say(action: ours.Speak, path: str) -> JsonObject:
    if action.text is None or action.ssml is not None:
        raise Poison(path, found="no text" if action.text is None else "ssml", allowed="text alone")
    if action.user_input_timeout_seconds is not None:
        field = f"{path}.user_input_timeout_seconds"
        raise Poison(field, found=describe(action.user_input_timeout_seconds), allowed="nothing")
    return {"type": "say", "content": action.text, "end_after": _options(action, SpeakOptions, path).end_after}


def _transfer(action: ours.Transfer, path: str) -> JsonObject:
    for name in ("caller_id_name", "caller_id_number", "timeout_seconds"):
        if getattr(action, name) is not None:
            raise Poison(f"{path}.{name}", found="a value", allowed="nothing: HMS Sovereign takes none")
    words = _options(action, LastWords, path)
    destination = parse_callee(action.to, field=f"{path}.to")
    return {"type": "transfer", "destination": destination, **msgspec.to_builtins(words)}


def _raw(action: ours.RawAction, path: str) -> JsonObject:
    _options(action, NoOptions, path)
    kind = action.verb.get("type")
    if not isinstance(kind, str) or not kind:
        allowed = "the type of one of HMS Sovereign's commands"
        raise Poison(f"{path}.verb.type", found=describe(kind), allowed=allowed)
    return action.verb


def _options(action: ours.Action, shape: type[OptionsT], path: str) -> OptionsT:
    return convert_json(action.options, shape, path=f"{path}.options")


def _after(done: int, count: int) -> str:
    return "" if count == 1 else f" (after {done} of {count} were done)"
