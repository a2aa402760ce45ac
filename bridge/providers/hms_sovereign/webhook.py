"""Webhooks in: believe one by its signature, then read it into our words.

`X-Webhook-Signature` is an HMAC over `X-Webhook-Timestamp`, a dot and the raw body, and counts for 300 s (contract 3.4).
The path is not signed, so the reference in it is only used where the body, which is, has none.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

import msgspec

from bridge.model.errors import Poison, Unverified
from bridge.model.validation import decode_json
from bridge.providers.hms_sovereign import translate
from bridge.providers.hms_sovereign.wire import WireBody, WireMessage
from bridge.providers.names import reference_name
from bridge.providers.protocol import Heard, Verified, Webhook
from bridge.runtime.secrets import Secret

WINDOW_SECONDS = 300
"""How far the timestamp may be from our clock, either way: as the vendor's SDK (contract 3.4)."""

_UNIX_SECONDS = re.compile(rb"[0-9]{1,12}")
_OURS = re.compile(r"call_[a-z2-7]{1,64}")
_body = msgspec.json.Decoder(WireBody)


class Signatures:
    """Every secret that is accepted at the moment. None: everything is believed."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._keys = tuple(secret.reveal().encode() for secret in secrets)

    def verify(self, webhook: Webhook) -> Verified:
        """Check the signature under each secret, all of them always, in constant time, and the timestamp's age.

        Raises:
            Unverified: a header is missing, the moment is too far from `received_at`, or no secret of ours made it.
        """
        if self._keys and not self._is_proven(webhook):
            raise Unverified("X-Webhook-Signature or X-Webhook-Timestamp is missing or wrong")
        return Verified(webhook)

    def _is_proven(self, webhook: Webhook) -> bool:
        stamp = webhook.headers.get(b"x-webhook-timestamp", b"")
        given = webhook.headers.get(b"x-webhook-signature", b"").removeprefix(b"sha256=").lower()
        signed = stamp + b"." + webhook.body
        matches = [
            hmac.compare_digest(given, hmac.new(key, signed, hashlib.sha256).hexdigest().encode()) for key in self._keys
        ]
        if not _UNIX_SECONDS.fullmatch(stamp):
            return False
        return any(matches) and abs(webhook.received_at.timestamp() - int(stamp)) <= WINDOW_SECONDS


def parse(verified: Verified) -> Sequence[Heard]:
    """The one event that a body holds.

    Raises:
        Poison: not JSON in UTF-8, no `message` with `type` and `call.id`, or tool calls that are none.
    """
    body = verified.webhook.body
    _check_utf8(body)
    message = decode_json(body, WireBody, _body).message
    meaning = translate.meaning_of(message)
    reference = _reference(message, verified.webhook.path)
    return (
        Heard(
            session=message.call.id,
            kind=meaning.kind,
            data=meaning.data(message),
            raw=body,
            provider_type=message.type,
            event_id=translate.event_id(message),
            occurred_at=translate.occurred_at(message),
            known_by=_known_by(message, reference),
            waits=meaning.waits,
            starts_session=meaning.starts_session or reference is not None,
            ends_session=meaning.ends_session,
        ),
    )


def _known_by(message: WireMessage, reference: str | None) -> tuple[str, ...]:
    """Our own reference first; the vendor's id may be another than the answer to the dial gave (contract 3.1)."""
    by_id = translate.provider_name(message.call.id)
    return (by_id,) if reference is None else (reference_name(reference), by_id)


def _reference(message: WireMessage, path: str) -> str | None:
    """Our `call_id`, from the assistant's metadata, else from the end of the path."""
    assistant = message.assistant if isinstance(message.assistant, dict) else {}
    metadata = assistant.get("metadata")
    echoed = metadata.get("call_id") if isinstance(metadata, dict) else None
    for candidate in (echoed, path.removeprefix("/")):
        if isinstance(candidate, str) and _OURS.fullmatch(candidate):
            return candidate
    return None


def _check_utf8(body: bytes) -> None:
    """The decoder does not look into fields it skips, but `raw` carries them on."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Poison("$", found=f"byte {error.start} is not UTF-8", allowed="a JSON object in UTF-8") from error
