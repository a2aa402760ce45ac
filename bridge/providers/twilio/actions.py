"""Our actions as TwiML: a pure translation that either renders everything or refuses with a path.

A call whose verbs run out is hung up (contract 9). So a document that does not end the call itself is followed by a
redirect to our verb hook, which asks what next; and no actions at all are a short pause and the same question. What
Twilio cannot do is refused and never dropped; `raw` passes a whole document of the consumer's through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple, TypeAlias, TypeVar, assert_never
from xml.etree.ElementTree import Element

import msgspec

from bridge.model import actions as ours
from bridge.model.errors import Poison
from bridge.model.phone import is_sip_uri, parse_callee, parse_e164
from bridge.model.scrub import describe
from bridge.model.validation import convert_json
from bridge.model.words import AnyJson
from bridge.providers.capabilities import not_offered, one_of
from bridge.providers.protocol import Answer
from bridge.providers.twilio import verbs
from bridge.providers.twilio.twiml import LARGEST_BYTES, checked_text, document, element, read
from bridge.providers.twilio.verbs import Part

OptionsT = TypeVar("OptionsT", bound=Part)

NOTHING = Answer(status=204)
XML = b"text/xml; charset=utf-8"
Answerable: TypeAlias = ours.Speak | ours.Play | ours.Hangup | ours.Transfer | ours.SendDtmf | ours.RawAction
"""What Twilio does in answer to a question. Who is asked has nothing to interrupt: the verb before has ended."""
AVAILABLE = one_of(Answerable)


class Way(NamedTuple):
    """How a call goes on: our hooks, how many seconds it is held, and who speaks unless an action says so."""

    verb_hook: str
    gather_hook: str
    hold_seconds: int
    voice: dict[str, str]
    """Attributes of `Say`."""


class At(NamedTuple):
    """Where an action stands in its record, and how its call goes on."""

    path: str
    way: Way

    def wrong(self, field: str, *, found: str, allowed: str) -> Poison:
        """The refusal of one of its fields."""
        return Poison(f"{self.path}{field}", found=found, allowed=allowed)


class _Raw(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`raw`: a whole document."""

    twiml: Annotated[str, msgspec.Meta(min_length=1, max_length=LARGEST_BYTES)]


def render(actions: Sequence[ours.Action], way: Way) -> Answer:
    """The HTTP answer that has Twilio do these actions in order, and then ask again.

    Raises:
        Poison: an action that Twilio does not have, or with a value it would not take; names `$.actions[n]…`.
    """
    elements: list[Element] = []
    for index, action in enumerate(actions):
        at = At(f"$.actions[{index}]", way)
        if not isinstance(action, Answerable):
            nothing = ": who is asked has nothing to interrupt, the verb before the question has ended"
            allowed = f"{AVAILABLE}{nothing if isinstance(action, ours.Interrupt) else ''}"
            raise not_offered(action, at.path, provider="Twilio", allowed=allowed)
        elements += elements_of(action, at)
    if not elements:
        elements.append(element("Pause", {"length": str(way.hold_seconds)}))
    body = document([*elements, *tail(elements, way)])
    if len(body) > LARGEST_BYTES:
        raise Poison("$.actions", found=f"{len(body)} bytes of TwiML", allowed=f"at most {LARGEST_BYTES}")
    return Answer(status=200, body=body, content_type=XML)


def tail(elements: Sequence[Element], way: Way) -> list[Element]:
    """What has to stand behind these so that the call goes on: a redirect, or nothing."""
    if elements and elements[-1].tag in verbs.LAST:
        return []
    return [element("Redirect", {"method": "POST"}, way.verb_hook)]


def options_of(action: ours.Action, shape: type[OptionsT], path: str) -> OptionsT:
    """An action's options; `path` is where the action stands.

    Raises:
        Poison: they are not of this shape, or hold what no attribute can.
    """
    options = convert_json(action.options, shape, path=f"{path}.options")
    for text in _texts(action.options):
        checked_text(text, f"{path}.options")
    return options


def _texts(value: AnyJson) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            yield from (text for each in value.values() for text in _texts(each))
        case list():
            yield from (text for each in value for text in _texts(each))
        case _:
            return


def elements_of(action: Answerable, at: At) -> list[Element]:
    """The verbs of one action.

    Raises:
        Poison: a value that Twilio would not take.
    """
    match action:
        case ours.Speak():
            return [_speak(action, at)]
        case ours.Play():
            return [_play(action, at)]
        case ours.Transfer():
            return [_transfer(action, at)]
        case ours.SendDtmf():
            options_of(action, verbs.NoOptions, at.path)
            return [element("Play", {"digits": action.digits})]
        case ours.Hangup():
            options_of(action, verbs.NoOptions, at.path)
            return [element("Hangup")]
        case ours.RawAction():
            return _raw(action, at)
        case _:
            assert_never(action)


def _speak(action: ours.Speak, at: At) -> Element:
    """SSML stands in `Say` without its `speak` (contract 9)."""
    if (action.text is None) == (action.ssml is None):
        found = "neither text nor ssml" if action.text is None else "text and ssml"
        raise at.wrong("", found=found, allowed="exactly one of text and ssml")
    options = options_of(action, verbs.SpeakOptions, at.path)
    say = element("Say", at.way.voice | verbs.attributes(options, without=frozenset({"gather"})))
    if action.ssml is not None:
        spoken = read(action.ssml, root="speak", field=f"{at.path}.ssml")
        say.text = spoken.text
        say.extend(list(spoken))
    else:
        say.text = checked_text(action.text or "", f"{at.path}.text")
    timeout = action.user_input_timeout_seconds
    if options.gather is None and timeout is None:
        return say
    return _gather(options.gather, at, say, timeout_seconds=_whole_seconds(timeout, at))


def _play(action: ours.Play, at: At) -> Element:
    if action.url is None or not action.url.startswith(("http://", "https://")):
        raise at.wrong(".url", found="nothing" if action.url is None else "another URL", allowed="an http(s) URL")
    for field in ("audio", "background", "volume", "stop"):
        if getattr(action, field) not in {None, False}:
            raise at.wrong(f".{field}", found="a value", allowed="nothing: Twilio plays a URL, once or in a loop")
    options = options_of(action, verbs.PlayOptions, at.path)
    url = checked_text(action.url, f"{at.path}.url")
    play = element("Play", verbs.attributes(options, without=frozenset({"gather"})), url)
    return play if options.gather is None else _gather(options.gather, at, play, timeout_seconds=None)


def _gather(options: verbs.Gather | None, at: At, prompt: Element, *, timeout_seconds: int | None) -> Element:
    """Always with an answer to silence too: without one the call would fall through to the next verb unheard."""
    given = {} if options is None else verbs.attributes(options, without=frozenset({"input"}))
    kinds = (options.input if options else None) or ["speech", "dtmf"]
    if timeout_seconds is not None:
        given["timeout"] = str(timeout_seconds)
    language = at.way.voice.get("language")
    usual = {} if language is None else {"language": language}
    asked = {"input": " ".join(kinds), "action": at.way.gather_hook, "method": "POST", "actionOnEmptyResult": "true"}
    gather = element("Gather", asked | usual | given)
    gather.append(prompt)
    return gather


def _whole_seconds(seconds: float | None, at: At) -> int | None:
    if seconds is not None and not float(seconds).is_integer():
        raise at.wrong(".user_input_timeout_seconds", found=describe(seconds), allowed="whole seconds")
    return None if seconds is None else int(seconds)


def _transfer(action: ours.Transfer, at: At) -> Element:
    """A `Dial`: if nobody answers, or when that leg is over, our verb hook is asked."""
    options = options_of(action, verbs.TransferOptions, at.path)
    callee = parse_callee(action.to, field=f"{at.path}.to")
    given = {"action": at.way.verb_hook, "method": "POST"}
    given |= verbs.attributes(options, without=frozenset({"send_digits"}))
    if action.caller_id_name is not None:
        raise at.wrong(".caller_id_name", found="a value", allowed="nothing: Twilio shows numbers only")
    if action.caller_id_number is not None:
        given["callerId"] = parse_e164(action.caller_id_number, field=f"{at.path}.caller_id_number")
    if action.timeout_seconds is not None:
        given["timeout"] = str(action.timeout_seconds)
    dial = element("Dial", given)
    if is_sip_uri(callee):
        if options.send_digits is not None:
            raise at.wrong(".options.send_digits", found="a value", allowed="nothing: the callee is a SIP URI")
        dial.append(element("Sip", text=checked_text(callee, f"{at.path}.to")))
    else:
        digits = {} if options.send_digits is None else {"sendDigits": options.send_digits}
        dial.append(element("Number", digits, callee))
    return dial


def _raw(action: ours.RawAction, at: At) -> list[Element]:
    """The verbs of a consumer's document, which takes its place among the other actions."""
    options_of(action, verbs.NoOptions, at.path)
    field = f"{at.path}.verb.twiml"
    given = convert_json(action.verb, _Raw, path=f"{at.path}.verb")
    found = list(read(given.twiml, root="Response", field=field))
    names = [each.tag for each in found]
    unknown = next((name for name in names if name not in verbs.KNOWN), None)
    if unknown is not None:
        raise Poison(field, found=describe(unknown), allowed=f"the verbs {', '.join(sorted(verbs.KNOWN))}")
    if not found:
        raise Poison(field, found="no verb", allowed="at least one: without any the call would be hung up")
    return found
