"""The verbs of an array, how strictly it is read, and the retry policy in a hook's fragment.

It promises what jambonz does: one unknown verb or property makes the whole array invalid, an answer that is no JSON
counts as empty, and 201 and redirects are failures (contract 6 and 8). What a verb does is left to the conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias
from urllib.parse import urldefrag

import msgspec

from bridge.demo.simulators.webhooks import Delivery

Object: TypeAlias = dict[str, Any]
_ACCEPTED = {200, 202, 204}
_WAITS = (0.5, 1.0, 2.0, 4.0, 6.0)

# By verb: what it may have, what it must have. `None`: known, and not looked into.
_PROPERTIES: Mapping[str, tuple[frozenset[str], frozenset[str]] | None] = {
    "say": (frozenset(["text", "loop", "synthesizer", "earlyMedia", "disableTtsCache", "stream"]), frozenset({"text"})),
    "play": (frozenset(["url", "loop", "earlyMedia", "seekOffset", "timeoutSecs", "actionHook"]), frozenset({"url"})),
    "gather": (
        frozenset(
            [
                "actionHook",
                "finishOnKey",
                "input",
                "numDigits",
                "minDigits",
                "maxDigits",
                "interDigitTimeout",
                "partialResultHook",
                "speechTimeout",
                "listenDuringPrompt",
                "dtmfBargein",
                "bargein",
                "minBargeinWordCount",
                "timeout",
                "recognizer",
                "play",
                "say",
            ]
        ),
        frozenset(),
    ),
    "hangup": (frozenset({"headers"}), frozenset()),
    "pause": (frozenset({"length"}), frozenset({"length"})),
    "redirect": (frozenset({"actionHook"}), frozenset({"actionHook"})),
    "dtmf": (frozenset({"dtmf", "duration"}), frozenset({"dtmf"})),
    "tag": (frozenset({"data"}), frozenset({"data"})),
    "dial": (
        frozenset(
            [
                "actionHook",
                "answerOnBridge",
                "callerId",
                "callerName",
                "confirmHook",
                "referHook",
                "dialMusic",
                "dtmfCapture",
                "dtmfHook",
                "headers",
                "anchorMedia",
                "listen",
                "target",
                "timeLimit",
                "timeout",
                "proxy",
                "transcribe",
                "amd",
            ]
        ),
        frozenset({"target"}),
    ),
    "config": (
        frozenset(
            ["synthesizer", "recognizer", "bargeIn", "record", "listen", "amd", "notifyEvents", "transcribe", "stream"]
        ),
        frozenset(),
    ),
    **dict.fromkeys(
        [
            "answer",
            "alert",
            "conference",
            "dequeue",
            "dialogflow",
            "dub",
            "enqueue",
            "leave",
            "lex",
            "listen",
            "stream",
            "llm",
            "s2s",
            "message",
            "rasa",
            "sip:decline",
            "sip:refer",
            "sip:request",
            "transcribe",
        ]
    ),
}
_COMMON = {"verb", "id"}
_NUMBERS = {"length", "timeout", "duration", "timeLimit", "numDigits", "minDigits", "maxDigits", "interDigitTimeout"}


class Verb(msgspec.Struct, frozen=True):
    """One verb with its properties."""

    name: str
    properties: Object


class Reading(msgspec.Struct, frozen=True):
    """What an answer to a hook says. `failed`: it counts as not answered."""

    verbs: tuple[Verb, ...] = ()
    breach: str | None = None
    failed: bool = False


def read_answer(delivery: Delivery) -> Reading:
    """What jambonz makes of the answer to a hook that takes verbs."""
    if delivery.status is None:
        return Reading(failed=True)
    if delivery.status not in _ACCEPTED:
        is_ours = delivery.status in {201, 301, 302, 307, 308}
        return Reading(breach=f"status {delivery.status}" if is_ours else None, failed=True)
    if "application/json" not in delivery.content_type:
        return Reading(breach="a body that is not application/json" if delivery.body else None)
    try:
        value = msgspec.json.decode(delivery.body)
    except msgspec.DecodeError:
        return Reading(breach="application/json without JSON", failed=True)
    return _read_array(value) if isinstance(value, list) else Reading(breach="not an array")


def _read_array(value: list[object]) -> Reading:
    verbs: list[Verb] = []
    for item in value:
        verb = _verb(item)
        wrong = "not a verb" if verb is None else _wrong(verb)
        if verb is None or wrong is not None:
            return Reading(breach=wrong)
        verbs.append(verb)
    return Reading(tuple(verbs))


def _verb(item: object) -> Verb | None:
    """`{"verb": "say", …}`, or `{"say": {…}}`."""
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("verb"), str):
        return Verb(item["verb"], {name: value for name, value in item.items() if name not in _COMMON})
    match list(item.items()):
        case [(str() as name, dict() as properties)]:
            return Verb(name, properties)
        case _:
            return None


def _wrong(verb: Verb) -> str | None:
    if verb.name not in _PROPERTIES:
        return f"the unknown verb {verb.name}"
    rules = _PROPERTIES[verb.name]
    if rules is None:
        return None
    allowed, required = rules
    given = set(verb.properties)
    if unknown := given - allowed - _COMMON:
        return f"{verb.name} with {', '.join(sorted(unknown))}"
    if missing := required - given:
        return f"{verb.name} without {', '.join(sorted(missing))}"
    wrong = [name for name in given & _NUMBERS if not isinstance(verb.properties[name], int | float)]
    return f"{verb.name}.{wrong[0]} is no number" if wrong else None


class Retry(msgspec.Struct, frozen=True):
    """What a hook's fragment asks for: `#rc=3&rp=ct,5xx`. Without one: nothing is sent again."""

    count: int = 0
    policy: frozenset[str] = frozenset({"ct"})

    def wait_seconds(self, delivery: Delivery, *, tried: int) -> float | None:
        """How long to wait before the next try, after so many retries; None: no more."""
        if tried >= self.count or not (self._reasons(delivery) & self.policy):
            return None
        return _WAITS[min(tried, len(_WAITS) - 1)]

    def _reasons(self, delivery: Delivery) -> set[str]:
        status = delivery.status
        if status is None:
            return {"rt", "all"} if delivery.failure == "no_answer" else {"ct", "all"}
        return {"all", f"{status // 100}xx"} if status not in _ACCEPTED else set()


def retry_of(url: str) -> Retry:
    """The policy in a URL's fragment."""
    fragment = urldefrag(url).fragment
    count = re.search(r"(?:^|&)rc=([1-5])(?:&|$)", fragment)
    policy = re.search(r"(?:^|&)rp=([a-z0-9,]+)", fragment)
    return Retry(int(count[1]) if count else 0, frozenset(policy[1].split(",")) if policy else frozenset({"ct"}))
