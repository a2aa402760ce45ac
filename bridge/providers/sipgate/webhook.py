"""Webhooks in: believe one by its shared secret, then read it into our words.

sipgate sends `X-API-TOKEN` and neither signs nor dates its bodies (contract 1.2): whoever knows the secret can send
anything again. The payload rides along untouched as `raw`; an event has no id, so a repeated one cannot be told.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from bridge.model.errors import Poison, Unverified
from bridge.model.validation import decode_json
from bridge.providers.protocol import Heard, Verified, Webhook
from bridge.providers.sipgate import translate
from bridge.runtime.secrets import Secret

_HEADER = b"x-api-token"

_event = msgspec.json.Decoder(translate.WireEvent)


class SharedSecrets:
    """Every secret that is accepted at the moment. None: everything is believed."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._digests = tuple(_digest(secret.reveal().encode()) for secret in secrets)

    def verify(self, webhook: Webhook) -> Verified:
        """Check the header against each secret, all of them always; digests of one length, so that time tells nothing.

        Raises:
            Unverified: the header is missing, or no secret of ours.
        """
        given = _digest(webhook.headers.get(_HEADER, b""))
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if self._digests and not any(matches):
            raise Unverified("X-API-TOKEN is missing or wrong")
        return Verified(webhook)


def parse(verified: Verified) -> Sequence[Heard]:
    """The one event that a body holds.

    Raises:
        Poison: not JSON in UTF-8, no `type`, no `session.id`, or an event without what it is about (`$.text`, `$.digit`).
    """
    body = verified.webhook.body
    _check_utf8(body)
    event = decode_json(body, translate.WireEvent, _event)
    meaning = translate.MEANINGS.get(event.type, translate.OTHER)
    data = meaning.data(event)
    heard = Heard(
        session=event.session.id,
        kind=meaning.kind,
        data=data,
        raw=body,
        provider_type=event.type,
        occurred_at=translate.occurred_at(event),
        known_by=translate.known_by(event),
        waits=meaning.waits,
        starts_session=meaning.starts_session,
        ends_session=meaning.ends_session,
    )
    return (heard,)


def _check_utf8(body: bytes) -> None:
    """The decoder does not look into fields it skips, but `raw` carries them on."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Poison("$", found=f"byte {error.start} is not UTF-8", allowed="a JSON object in UTF-8") from error


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()
