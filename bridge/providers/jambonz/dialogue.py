"""A call over jambonz' WebSocket API: hooks as messages that are acknowledged with verbs, and commands unasked.

https://docs.jambonz.org/docs/ws/ (contract 10). A message with a `msgid` that wants an acknowledgement gets it when its
event is stored, with the consumer's verbs if it asks for any. Running out of verbs does not end such a call: it waits for
commands, so an answer without actions holds it and needs no verbs of ours. The socket carries no signature, only the
Basic auth of its hook.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime

import msgspec

from bridge.model import actions as ours
from bridge.model import events
from bridge.model.errors import Poison, Unverified
from bridge.model.validation import convert_json, decode_json
from bridge.model.words import AnyJson, JsonObject, SessionId
from bridge.providers.jambonz import statuses
from bridge.providers.jambonz.actions import Way, options_of, verbs_for
from bridge.providers.jambonz.hooks import Word
from bridge.providers.jambonz.replies import Replies
from bridge.providers.jambonz.settings import LONGEST_ACKNOWLEDGEMENT_SECONDS
from bridge.providers.jambonz.statuses import WireBody
from bridge.providers.jambonz.verbs import KNOWN, SendDtmfOptions
from bridge.providers.jambonz.webhook import call_id_of, check_utf8, heard_of
from bridge.providers.protocol import AnswersQuestions, Heard, NotThisWay, Spoken, Webhook
from bridge.runtime.secrets import Secret

LARGEST_FRAME_BYTES = 24 * 1024
"""`JAMBONES_WS_MAX_PAYLOAD`."""
_VERB_HOOK = "/verb"
_NOTHING = Spoken()
_HOOKS: dict[str, Word] = {
    "session:new": "call",
    "session:redirect": "verb",
    "verb:hook": "verb",
    "call:status": "status",
}
_ACKNOWLEDGED_AT_ONCE = frozenset({"session:reconnect", "session:adulting", "dial:confirm"})

_encoder = msgspec.json.Encoder()


class _Envelope(msgspec.Struct, frozen=True):
    """Every message; `data` is what a webhook would have as its body."""

    type: str
    call_sid: SessionId
    msgid: str | None = None
    data: AnyJson = None


_envelope = msgspec.json.Decoder(_Envelope)


class Message(Heard, frozen=True, kw_only=True):
    """Something heard, and what its acknowledgement has to name; None: it wants none."""

    msgid: str | None


class BasicAuth:
    """One user with each password that is accepted at the moment. Without any: everything is believed."""

    def __init__(self, username: str, passwords: Sequence[Secret]) -> None:
        given = (f"{username}:{password.reveal()}".encode() for password in passwords)
        self._digests = tuple(_digest(b"Basic " + base64.b64encode(pair)) for pair in given)

    def verify(self, upgrade: Webhook) -> None:
        """Check the header against each, all of them always.

        Raises:
            Unverified: it is missing, or none of ours.
        """
        given = _digest(upgrade.headers.get(b"authorization", b""))
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if self._digests and not any(matches):
            raise Unverified("the Basic auth of the WebSocket is missing or wrong")


class JambonzDialogue(AnswersQuestions):
    """One socket. Implements `Dialogue` as well."""

    subprotocol: str | None = "ws.jambonz.org"
    waits = True

    def __init__(self, replies: Replies, *, hold_seconds: int) -> None:
        self._replies = replies
        self._way = Way(_VERB_HOOK, hold_seconds)

    def read(self, frame: bytes, *, received_at: datetime) -> Sequence[Heard]:
        """The one thing that a message says."""
        del received_at
        check_utf8(frame)
        message = decode_json(frame, _Envelope, _envelope)
        data = message.data if isinstance(message.data, dict) else {}
        body = convert_json({**data, "call_sid": message.call_sid}, WireBody, path="$.data")
        word = _HOOKS.get(message.type)
        if word is not None:
            heard = heard_of(body, word, call_id=call_id_of(body.customer_data), raw=frame)
        else:
            heard = _other(message, body, frame)
        acknowledged = heard.waits or message.type in _ACKNOWLEDGED_AT_ONCE
        return (Message(**msgspec.structs.asdict(heard), msgid=message.msgid if acknowledged else None),)

    def acknowledge(self, heard: Heard) -> Spoken:
        """For what wants one and asks for nothing."""
        return _acknowledgement(heard, [])

    def answer(self, heard: Heard, actions: Sequence[ours.Action]) -> Spoken:
        """The acknowledgement with the actions' verbs; none leave the call with what it is doing."""
        if not heard.waits:
            if actions:
                allowed = f"none: jambonz takes no answer to {heard.provider_type}"
                raise Poison("$.actions", found="actions", allowed=allowed)
            return self.acknowledge(heard)
        return _acknowledgement(heard, verbs_for(actions, self._way))

    def reply_seconds(self, heard: Heard) -> float:
        """From `reply` of the settings, within what an acknowledgement may take."""
        return min(self._replies.seconds(heard), LONGEST_ACKNOWLEDGEMENT_SECONDS)

    def fallback(self, heard: Heard) -> Spoken:
        """From `reply` of the settings; without verbs where nothing is set."""
        return self.answer(heard, self._replies.fallback_actions(heard))

    def unasked(self, session: str, actions: Sequence[ours.Action]) -> Spoken:
        """Keys as commands of their own; everything else as a redirect, which replaces what the call is doing."""
        del session
        if actions and all(isinstance(action, ours.SendDtmf) for action in actions):
            return Spoken(frames=tuple(_keys(actions)))
        for index, action in enumerate(actions):
            if isinstance(action, ours.RawAction) and action.verb.get("verb") not in KNOWN:
                raise NotThisWay(f"$.actions[{index}].verb", found="no verb", allowed="a verb, over a WebSocket")
        verbs = verbs_for(actions, self._way)
        return Spoken(frames=(_command("redirect", verbs),)) if verbs else _NOTHING

    def lost(self, session: str, *, code: int) -> Heard | None:
        """Nothing: jambonz connects again, and the call's end is a status."""
        del session, code
        return None


def _other(message: _Envelope, body: WireBody, frame: bytes) -> Heard:
    if message.type == "jambonz:error":
        said = msgspec.structs.replace(body, error=body.error or _words(message.data) or "error")
        meaning = statuses.TROUBLE
        return Heard(
            session=message.call_sid,
            kind=meaning.kind,
            data=meaning.data(said),
            raw=frame,
            provider_type=message.type,
        )
    name = message.type[:128]
    return Heard(
        session=message.call_sid,
        kind=events.OtherEvent,
        data=events.Other(provider_type=name),
        raw=frame,
        provider_type=name,
    )


def _words(data: AnyJson) -> str | None:
    words = data.get("msg") if isinstance(data, dict) else None
    return words if isinstance(words, str) else None


def _acknowledgement(heard: Heard, verbs: list[JsonObject]) -> Spoken:
    msgid = heard.msgid if isinstance(heard, Message) else None
    if msgid is None:
        return _NOTHING
    ack: JsonObject = {"type": "ack", "msgid": msgid}
    return Spoken(frames=(_frame(ack | {"data": verbs} if verbs else ack),))


def _command(command: str, data: AnyJson) -> bytes:
    return _frame({"type": "command", "command": command, "queueCommand": False, "data": data})


def _keys(actions: Sequence[ours.Action]) -> list[bytes]:
    frames: list[bytes] = []
    for index, action in enumerate(actions):
        if isinstance(action, ours.SendDtmf):
            duration = options_of(action, SendDtmfOptions, f"$.actions[{index}]").duration_ms or 250
            frames += [_command("dtmf", {"digit": digit, "duration": duration}) for digit in action.digits]
    return frames


def _frame(message: JsonObject) -> bytes:
    frame = _encoder.encode(message)
    if len(frame) > LARGEST_FRAME_BYTES:
        raise Poison("$.actions", found=f"{len(frame)} bytes in all", allowed=f"at most {LARGEST_FRAME_BYTES}")
    return frame


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
