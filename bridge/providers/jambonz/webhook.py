"""Webhooks in: believe one by its signature, find out which hook it is, and read it into our words.

`Jambonz-Signature: t=<unix seconds>,v1=<hex>` is an HMAC-SHA256 over `<t>.<body>` (contract 9). It covers neither URL
nor method, so within its 300 s a capture can be sent again, also to another path: the call id in the body, which is
signed, goes before the one in the path, and the body's shape decides where a path says nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

import msgspec

from bridge.model.errors import Poison, Unverified
from bridge.model.validation import convert_json, decode_json
from bridge.model.words import SessionId
from bridge.providers.jambonz import statuses
from bridge.providers.jambonz.body import OUR_KEY
from bridge.providers.jambonz.hooks import Word, read_path
from bridge.providers.jambonz.statuses import Meaning, WireBody
from bridge.providers.names import reference_name
from bridge.providers.protocol import Heard, Verified, Webhook
from bridge.runtime.secrets import Secret

_HEADER = b"jambonz-signature"
_TOLERANCE_SECONDS = 300
_MOMENT = re.compile(rb"t=([0-9]{1,12})")
_SIGNATURE = re.compile(rb"v1=([0-9a-f]{64})")
_MOST_PARTS = 9
"""The moment and eight signatures; more is nobody's rotation."""
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_body = msgspec.json.Decoder(WireBody)

REDIRECTED = "redirect"
"""Our name for the question of a call that a live action has sent to us."""


class _Leg(msgspec.Struct):
    parent_call_sid: SessionId


class Signatures:
    """Every secret that may sign at the moment. None: everything is believed."""

    def __init__(self, secrets: Sequence[Secret]) -> None:
        self._keys = tuple(secret.reveal().encode() for secret in secrets)

    def verify(self, webhook: Webhook) -> Verified:
        """Check each signature in the header against each secret, all of them always.

        Raises:
            Unverified: no signature, none by a secret of ours, or one of more than 300 s ago or ahead.
        """
        if self._keys and not self._is_signed(webhook):
            raise Unverified("Jambonz-Signature is missing or wrong")
        return Verified(webhook)

    def _is_signed(self, webhook: Webhook) -> bool:
        parts = [part.strip() for part in webhook.headers.get(_HEADER, b"").split(b",", _MOST_PARTS)[:_MOST_PARTS]]
        moments = [found[1] for part in parts if (found := _MOMENT.fullmatch(part))]
        given = [found[1] for part in parts if (found := _SIGNATURE.fullmatch(part))]
        if len(moments) != 1:
            return False
        signed = moments[0] + b"." + webhook.body
        expected = [hmac.new(key, signed, hashlib.sha256).hexdigest().encode() for key in self._keys]
        matches = [hmac.compare_digest(one, other) for one in given for other in expected]
        age = webhook.received_at.timestamp() - int(moments[0])
        return any(matches) and abs(age) <= _TOLERANCE_SECONDS


def parse(verified: Verified) -> Sequence[Heard]:
    """The one thing that a webhook says.

    A status, and an AMD event, is known by its call and name, so that a repeated one shows; a question is not, because
    who drops a repeated question leaves the provider without an answer.

    Raises:
        Poison: not JSON in UTF-8, or no `call_sid` that can be a session's id.
    """
    webhook = verified.webhook
    check_utf8(webhook.body)
    body = decode_json(webhook.body, WireBody, _body)
    word, call_id = read_path(webhook.path)
    return (heard_of(body, word_of(body, word), call_id=call_id_of(body.customer_data) or call_id, raw=webhook.body),)


def heard_of(body: WireBody, word: Word, *, call_id: str | None, raw: bytes) -> Heard:
    """What a hook says, by whichever transport it came.

    Raises:
        Poison: the id of its parent call cannot be a session's.
    """
    if isinstance(body.parent_call_sid, str) and body.parent_call_sid:
        if word in {"status", "amd"}:
            return _child(body, word, raw)
        call_id = None  # a leg with verbs of its own is not the call that was asked for, though it has its tag
    meaning, name = meaning_of(body, word)
    comes_once = not meaning.waits and meaning is not statuses.TROUBLE and name != "amd_stopped"
    return Heard(
        session=body.call_sid,
        kind=meaning.kind,
        data=meaning.data(body),
        raw=raw,
        provider_type=name,
        event_id=f"{body.call_sid}/{name}" if comes_once else None,
        known_by=(reference_name(call_id),) if call_id else (),
        waits=meaning.waits,
        starts_session=call_id is not None or word == "call",
        ends_session=meaning.is_final,
    )


def word_of(body: WireBody, path_word: Word | None) -> Word:
    """Which hook this is: what its path says, and where that says nothing, what the body looks like (contract 6 to 8)."""
    if isinstance(body.type, str) and body.type.startswith("amd_"):
        return "amd"
    if path_word is not None:
        return path_word
    if body.defaults is not None:
        return "call"
    own = (body.speech, body.digits, body.verb_id, body.dial_call_status, body.refer_status, body.reason)
    return "verb" if body.error is None and any(field is not None for field in own) else "status"


def meaning_of(body: WireBody, word: Word) -> tuple[Meaning, str]:
    """What it means, and the provider's name for it."""
    match word:
        case "call":
            return statuses.ANSWERED, "call_hook"
        case "status":
            return _status(body)
        case "amd":
            name = body.type if isinstance(body.type, str) and body.type else "amd"
            return (statuses.AMD, name) if name in statuses.VERDICTS else _unknown(name)
        case "verb":
            return _verb(body)
        case "redirect":
            return statuses.VERB, REDIRECTED


def call_id_of(customer_data: object) -> str | None:
    """Our call id in the tag that came back."""
    ours = customer_data.get(OUR_KEY) if isinstance(customer_data, dict) else None
    call_id = ours.get("call_id") if isinstance(ours, dict) else None
    return call_id if isinstance(call_id, str) and _CALL_ID.fullmatch(call_id) else None


def _status(body: WireBody) -> tuple[Meaning, str]:
    name = body.call_status if isinstance(body.call_status, str) and body.call_status else "status"
    if body.error is not None:
        return statuses.TROUBLE, name
    known = statuses.STATUSES.get(name)
    return (known, name) if known is not None else _unknown(name)


def _verb(body: WireBody) -> tuple[Meaning, str]:
    name = statuses.verb_of(body)[0] or "verb"
    if name == "gather" and statuses.transcript_of(body.speech):
        return statuses.SPOKE, name
    if name == "gather" and body.reason == "timeout" and not body.digits:
        return statuses.SILENT, name
    return statuses.VERB, name


def _child(body: WireBody, word: Word, raw: bytes) -> Heard:
    """A leg that a `dial` made: it belongs to its parent's session, and is not the call that was asked for."""
    meaning, name = _unknown(f"child/{meaning_of(body, word)[1]}")
    return Heard(
        session=convert_json({"parent_call_sid": body.parent_call_sid}, _Leg).parent_call_sid,
        kind=meaning.kind,
        data=meaning.data(body),
        raw=raw,
        provider_type=name,
        event_id=f"{body.call_sid}/{name}",
    )


def _unknown(name: str) -> tuple[Meaning, str]:
    cut = name[:128]
    return statuses.other(cut), cut


def check_utf8(body: bytes) -> None:
    """The decoder does not look into fields it skips, but `raw` carries them on.

    Raises:
        Poison: not UTF-8.
    """
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Poison("$", found=f"byte {error.start} is not UTF-8", allowed="a JSON object in UTF-8") from error
