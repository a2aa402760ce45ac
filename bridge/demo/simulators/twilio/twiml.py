"""TwiML as Twilio reads it: which documents are taken, which end the call, and the overrides in a URL's fragment.

It promises that a document that is no XML, too large, of another content type or without `Response` counts as an error
of the application (contract 9), and that a verb or attribute that does not exist is a breach. What verbs do is left to the
conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urldefrag
from xml.etree import ElementTree

import msgspec

from bridge.demo.simulators.webhooks import Delivery

_LARGEST_BYTES = 64_000
_TYPES = {"text/xml", "application/xml", "text/html"}
_METHODS = {"action", "method"}
_RECORDING = {
    "recordingStatusCallback",
    "recordingStatusCallbackMethod",
    "recordingStatusCallbackEvent",
    "recordingTrack",
    "trim",
}

# By verb: the attributes it may have. `None`: known, and not looked into.
_VERBS: Mapping[str, frozenset[str] | None] = {
    "Say": frozenset({"voice", "language", "loop"}),
    "Play": frozenset({"loop", "digits"}),
    "Pause": frozenset({"length"}),
    "Hangup": frozenset(),
    "Reject": frozenset({"reason"}),
    "Redirect": frozenset({"method"}),
    "Gather": frozenset(
        {
            *_METHODS,
            "input",
            "timeout",
            "speechTimeout",
            "finishOnKey",
            "numDigits",
            "language",
            "hints",
            "speechModel",
            "enhanced",
            "profanityFilter",
            "bargeIn",
            "actionOnEmptyResult",
            "partialResultCallback",
            "partialResultCallbackMethod",
        }
    ),
    "Dial": frozenset(
        {
            *_METHODS,
            *_RECORDING,
            "answerOnBridge",
            "callerId",
            "hangupOnStar",
            "record",
            "ringTone",
            "timeLimit",
            "timeout",
        }
    ),
    "Record": frozenset({*_METHODS, *_RECORDING, "finishOnKey", "maxLength", "playBeep", "timeout", "transcribe"}),
    **dict.fromkeys(["Connect", "Echo", "Enqueue", "Leave", "Pay", "Prompt", "Queue", "Refer", "Sms", "Start", "Stop"]),
}
_NUMBERS = {"length", "timeout", "numDigits", "timeLimit", "maxLength", "loop"}


class Verb(NamedTuple):
    """One verb: its attributes, its text, and what stands in it."""

    name: str
    attributes: Mapping[str, str]
    text: str
    inner: tuple[Verb, ...] = ()


class Reading(msgspec.Struct, frozen=True):
    """What an answer says. `failed`: the application counts as broken, and the call ends."""

    verbs: tuple[Verb, ...] = ()
    breach: str | None = None
    failed: bool = False


def read_answer(delivery: Delivery) -> Reading:
    """What Twilio makes of the answer to a request for TwiML."""
    if delivery.status is None:
        return Reading(failed=True)
    if delivery.status >= 400:  # noqa: PLR2004 - an error of HTTP
        is_ours = delivery.status < 500  # noqa: PLR2004
        return Reading(breach=f"status {delivery.status}" if is_ours else None, failed=True)
    if delivery.content_type.partition(";")[0].strip().lower() not in _TYPES:
        return Reading(breach=f"12300: content type {delivery.content_type or 'none'}", failed=True)
    return read_document(delivery.body)


def read_document(body: bytes | str) -> Reading:
    """A document, wherever it came from."""
    if len(body) > _LARGEST_BYTES:
        return Reading(breach=f"11750: {len(body)} bytes", failed=True)
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - of the adapter under test, on loopback
    except ElementTree.ParseError as error:
        return Reading(breach=f"12100: {error}", failed=True)
    if root.tag != "Response":
        return Reading(breach=f"12100: {root.tag} instead of Response", failed=True)
    verbs = tuple(_verb(each) for each in root)
    wrong = next((said for said in map(_wrong, verbs) if said), None)
    return Reading(verbs, breach=None if wrong is None else f"12200: {wrong}")


def _verb(element: ElementTree.Element) -> Verb:
    inner = tuple(_verb(each) for each in element)
    return Verb(str(element.tag), dict(element.attrib), "".join(element.itertext()).strip(), inner)


def _wrong(verb: Verb) -> str | None:
    if verb.name not in _VERBS:
        return f"the unknown verb {verb.name}"
    allowed = _VERBS[verb.name]
    if allowed is not None and (unknown := set(verb.attributes) - allowed):
        return f"{verb.name} with {', '.join(sorted(unknown))}"
    numbers = [name for name in set(verb.attributes) & _NUMBERS if not verb.attributes[name].isdigit()]
    if numbers:
        return f"{verb.name}.{numbers[0]} is no number"
    if verb.name in {"Say", "Redirect"} and not verb.text:
        return f"{verb.name} without text"
    if verb.name == "Gather":
        return next(
            (f"{each.name} in Gather" for each in verb.inner if each.name not in {"Say", "Play", "Pause"}), None
        )
    return None


class Retry(msgspec.Struct, frozen=True):
    """The connection overrides in a URL's fragment; without any, one retry, and only after a failed connection."""

    count: int = 1
    policy: frozenset[str] = frozenset({"ct"})

    def wants_more(self, delivery: Delivery, *, tried: int) -> bool:
        """Whether it is tried again after so many retries."""
        return tried < self.count and bool(self._reasons(delivery) & self.policy)

    def _reasons(self, delivery: Delivery) -> set[str]:
        status = delivery.status
        if status is None:
            return {"rt", "all"} if delivery.failure == "no_answer" else {"ct", "all"}
        return {"all", f"{status // 100}xx"} if status >= 400 else set()  # noqa: PLR2004


def retry_of(url: str) -> Retry:
    """The overrides of a URL."""
    fragment = urldefrag(url).fragment
    count = re.search(r"(?:^|&)rc=([0-5])(?:&|$)", fragment)
    policy = re.search(r"(?:^|&)rp=([a-z0-9,]+)", fragment)
    usual = Retry()
    return Retry(int(count[1]) if count else usual.count, frozenset(policy[1].split(",")) if policy else usual.policy)
