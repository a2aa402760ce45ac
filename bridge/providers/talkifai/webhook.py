"""Webhooks in: believe one by its signature, then read it into our words.

`X-TalkifAI-Signature` is an HMAC over the raw body and nothing else (contract 2.3): it has no moment, so a captured
webhook can be sent again, and its `id`, which becomes our `event_id`, is what tells a repeated one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from bridge.model.errors import Poison, Unverified
from bridge.model.validation import decode_json
from bridge.providers.protocol import Heard, Verified, Webhook
from bridge.providers.talkifai import translate
from bridge.providers.talkifai.wire import WireEnvelope
from bridge.runtime.secrets import Secret

_HEADER = b"x-talkifai-signature"
_PREFIX = b"sha256="

_envelope = msgspec.json.Decoder(WireEnvelope)


class Signatures:
    """Every secret that is accepted at the moment. None: everything is believed."""

    def __init__(self, secrets: Sequence[Secret], *, unsigned_agent_events: bool) -> None:
        """`unsigned_agent_events`: an agent's envelope needs no signature, but one that is there must be right."""
        self._keys = tuple(secret.reveal().encode() for secret in secrets)
        self._unsigned_agent_events = unsigned_agent_events

    def verify(self, webhook: Webhook) -> Verified:
        """Check the signature under each secret, all of them always, in constant time.

        Raises:
            Unverified: the header is missing, or no secret of ours made it.
        """
        if self._keys and not self._is_proven(webhook):
            raise Unverified("X-TalkifAI-Signature is missing or wrong")
        return Verified(webhook)

    def _is_proven(self, webhook: Webhook) -> bool:
        given = webhook.headers.get(_HEADER)
        if given is None:
            return self._unsigned_agent_events and _is_of_agent(webhook.body)
        matches = [
            hmac.compare_digest(given, _PREFIX + hmac.new(key, webhook.body, hashlib.sha256).hexdigest().encode())
            for key in self._keys
        ]
        return any(matches)


def parse(verified: Verified) -> Sequence[Heard]:
    """The one event that a body holds.

    Raises:
        Poison: not JSON in UTF-8, no name of an event, no `data`, or an event of a call without `data.callId`.
    """
    body = verified.webhook.body
    _check_utf8(body)
    event = decode_json(body, WireEnvelope, _envelope)
    meaning = translate.MEANINGS.get(event.name, translate.OTHER)
    known_by = translate.known_by(event)
    return (
        Heard(
            session=event.session(required=meaning.of_call),
            kind=meaning.kind,
            data=meaning.data(event),
            raw=body,
            provider_type=event.name,
            event_id=event.event_id,
            occurred_at=translate.occurred_at(event),
            known_by=known_by,
            starts_session=meaning.starts_session or bool(known_by),
        ),
    )


def _is_of_agent(body: bytes) -> bool:
    """Whether this is an agent's envelope: looked at before it is believed, for nothing else."""
    try:
        envelope = _envelope.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return envelope.is_of_agent and envelope.event is not None


def _check_utf8(body: bytes) -> None:
    """The decoder does not look into fields it skips, but `raw` carries them on."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Poison("$", found=f"byte {error.start} is not UTF-8", allowed="a JSON object in UTF-8") from error
