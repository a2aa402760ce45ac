"""Webhooks in: believe one by its signature, find out what it is, and read it into our words.

`X-Twilio-Signature` is an HMAC-SHA1 under an auth token over the URL that Twilio was given and the parameters of the
form, sorted (contract 5). It has no time in it: a captured webhook can be sent again for ever, to the same URL, and is
then told from a new one only by its event id. The URL is the configured one; no header of a proxy is looked at.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import msgspec

from bridge.model.errors import Unverified
from bridge.model.validation import convert_json
from bridge.providers.names import reference_name
from bridge.providers.protocol import Heard, Verified, Webhook
from bridge.providers.twilio import form, statuses
from bridge.providers.twilio.hooks import RETRIED, Word, read_path
from bridge.providers.twilio.statuses import Meaning, Values
from bridge.runtime.secrets import Secret

_HEADER = b"x-twilio-signature"
_FORM = b"application/x-www-form-urlencoded"
_PORTS = {"https": 443, "http": 80}
_PORT = re.compile(r":[0-9]+$")
_LONGEST_NAME = 128

CallSid = Annotated[str, msgspec.Meta(pattern=r"^CA[0-9a-fA-F]{32}$")]


class _Call(msgspec.Struct):
    call_sid: CallSid = msgspec.field(name="CallSid")


class _Leg(msgspec.Struct):
    parent_call_sid: CallSid = msgspec.field(name="ParentCallSid")


class Signatures:
    """Every auth token that may sign at the moment. None: everything is believed."""

    def __init__(self, secrets: Sequence[Secret], *, public_url: str) -> None:
        self._keys = tuple(secret.reveal().encode() for secret in secrets)
        self._bases = tuple(url_variants(public_url.rstrip("/")))

    def verify(self, webhook: Webhook) -> Verified:
        """Check the signature against each token and each way to write our URL, all of them always.

        Raises:
            Unverified: no signature, or none by a token of ours over this URL and these parameters.
        """
        if self._keys and not self._is_signed(webhook):
            raise Unverified("X-Twilio-Signature is missing or wrong for the configured public_webhook_url")
        return Verified(webhook)

    def _is_signed(self, webhook: Webhook) -> bool:
        if webhook.body.count(b"&") >= form.MOST_PARAMETERS:
            return False
        given = webhook.headers.get(_HEADER, b"")
        body_hash = None if _is_form(webhook) else _body_hash(webhook)
        is_whole = body_hash is None or hmac.compare_digest(
            hashlib.sha256(webhook.body).hexdigest().encode(), body_hash
        )
        parameters = _sorted(webhook.body) if body_hash is None else b""
        query = b"?" + webhook.query if webhook.query else b""
        tail = webhook.path.encode("utf-8", "replace") + query
        matches = [
            hmac.compare_digest(signature(key, base.encode() + tail + fragment, parameters), given)
            for key in self._keys
            for base in self._bases
            for fragment in (b"", RETRIED.encode())
        ]
        return any(matches) and is_whole


def signature(key: bytes, url: bytes, parameters: bytes) -> bytes:
    """What stands in the header."""
    return base64.b64encode(hmac.new(key, url + parameters, hashlib.sha1).digest())


def url_variants(url: str) -> Iterable[str]:
    """The URL as it is configured, without its port, and where it has none with its scheme's usual one (contract 5)."""
    parts = urlsplit(url)
    bare = _PORT.sub("", parts.netloc)
    others = bare if bare != parts.netloc else f"{bare}:{_PORTS[parts.scheme]}"
    return (url, parts._replace(netloc=others).geturl())


def _is_form(webhook: Webhook) -> bool:
    return webhook.headers.get(b"content-type", _FORM).split(b";")[0].strip().lower() == _FORM


def _body_hash(webhook: Webhook) -> bytes | None:
    """What the (signed) query says that a body which is no form hashes to."""
    found = parse_qs(webhook.query.decode("latin-1")).get("bodySHA256")
    return found[0].encode() if found else None


def _sorted(body: bytes) -> bytes:
    """Names and values of the parameters, sorted; of equal ones a single one."""
    return b"".join(name + value for name, value in sorted(set(form.pairs_of(body))))


def parse(verified: Verified) -> Sequence[Heard]:
    """What a webhook says: one thing, or two where a call was answered after it was found out by whom.

    A status is known by its call and name, so that a repeated one shows; a question is not, because who drops a repeated
    question leaves the provider without an answer.

    Raises:
        Poison: not a form in UTF-8, or no `CallSid`.
    """
    webhook = verified.webhook
    parameters = form.read_form(webhook.body) if _is_form(webhook) else form.read_json(webhook.body)
    values = parameters.first
    session = convert_json(values, _Call).call_sid
    path_word, call_id = read_path(webhook.path)
    word = word_of(values, path_word)
    if values.get("ParentCallSid") and word in {"status", "amd"}:
        return (_child(values, word, parameters.raw),)
    if values.get("ParentCallSid"):
        call_id = None  # a leg with TwiML of its own is not the call that was asked for
    heard = []
    for meaning, name in meanings_of(values, word):
        heard.append(
            Heard(
                session=session,
                kind=meaning.kind,
                data=meaning.data(values),
                raw=parameters.raw,
                provider_type=name,
                event_id=None if meaning.waits or meaning is statuses.VERB else f"{_whose(session, values)}/{name}",
                occurred_at=statuses.sent_at(values),
                known_by=(reference_name(call_id),) if call_id else (),
                waits=meaning.waits and values.get("CallStatus") not in statuses.OVER,
                starts_session=call_id is not None or word == "call",
                ends_session=meaning.is_final or _is_aftermath(values, word),
            )
        )
    return heard


def _is_aftermath(values: Values, word: Word) -> bool:
    """A recording that was asked for with the dial is told of when its call is over; minutes later it must not be open again."""
    is_whole = values.get("RecordingStatus") in {"completed", "absent"}
    return word == "recording" and is_whole and values.get("RecordingSource") == "OutboundAPI"


def _whose(session: str, values: Values) -> str:
    """What a status is of. A call may have several recordings."""
    recording = values.get("RecordingSid", "") if "RecordingStatus" in values else ""
    return f"{session}/{recording[:_LONGEST_NAME]}" if recording else session


def word_of(values: Values, path_word: Word | None) -> Word:
    """What its path says, and where that says nothing, what the parameters look like (contract 6 to 9).

    In doubt it is a question: a call whose request for TwiML gets none is hung up.
    """
    if path_word is not None:
        return path_word
    if values.get("CallbackSource"):
        return "status"
    if "RecordingStatus" in values:
        return "recording"
    if "MachineDetectionDuration" in values and "CallStatus" not in values:
        return "amd"
    match statuses.verb_of(values)[0]:
        case "gather":
            return "gather"
        case "redirect":
            return "call"
        case _:
            return "verb"


def meanings_of(values: Values, word: Word) -> Sequence[tuple[Meaning, str]]:
    """What it means, and the provider's name for it."""
    match word:
        case "call":
            known = values.get("AnsweredBy") in statuses.VERDICTS
            return ((statuses.AMD, "amd"),) * known + ((statuses.ANSWERED, "call"),)
        case "status":
            name = values.get("CallStatus") or "status"
            return ((statuses.STATUSES[name], name),) if name in statuses.STATUSES else (_unknown(name),)
        case "amd":
            name = values.get("AnsweredBy") or "amd"
            return ((statuses.AMD, "amd"),) if name in statuses.VERDICTS else (_unknown(name),)
        case "recording":
            name = f"recording-{values.get('RecordingStatus') or 'completed'}"
            is_there = bool(values.get("RecordingUrl"))
            return ((statuses.RECORDED, name),) if is_there else (_unknown(name),)
        case "gather":
            return ((_gathered(values), "gather"),)
        case "verb":
            return ((statuses.VERB, statuses.verb_of(values)[0]),)


def _gathered(values: Values) -> Meaning:
    if values.get("SpeechResult"):
        return statuses.SPOKE
    if digits := values.get("Digits"):
        return statuses.PRESSED if len(digits) == 1 else statuses.VERB
    return statuses.SILENT


def _child(values: Values, word: Word, raw: bytes) -> Heard:
    """A leg that a `Dial` made: it belongs to its parent's session, and is not the call that was asked for."""
    meaning, name = _unknown(f"child/{meanings_of(values, word)[0][1]}")
    return Heard(
        session=convert_json(values, _Leg).parent_call_sid,
        kind=meaning.kind,
        data=meaning.data(values),
        raw=raw,
        provider_type=name,
        event_id=f"{values['CallSid']}/{name}",
        occurred_at=statuses.sent_at(values),
    )


def _unknown(name: str) -> tuple[Meaning, str]:
    cut = name[:_LONGEST_NAME]
    return statuses.other(cut), cut
