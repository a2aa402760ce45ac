"""Our actions as an array of jambonz's verbs: a pure translation that either renders everything or refuses with a path.

A webhook call whose verbs run out is hung up (contract 8). So an array that does not end the call itself is followed by
a redirect to our verb hook, which asks what next; and no actions at all are a short pause and the same question.
What jambonz cannot do is refused and never dropped; `raw` passes its own verb through for what our words do not reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, TypeVar, assert_never

import msgspec

from bridge.model import actions as ours
from bridge.model.errors import Poison
from bridge.model.phone import is_sip_uri, parse_callee, parse_e164
from bridge.model.scrub import describe
from bridge.model.validation import convert_json
from bridge.model.words import JsonObject
from bridge.providers.capabilities import not_offered, one_of
from bridge.providers.jambonz import verbs
from bridge.providers.jambonz.options import Part, on_the_wire
from bridge.providers.protocol import Answer

OptionsT = TypeVar("OptionsT", bound=Part)

NOTHING = Answer(status=204)
Answerable: TypeAlias = (
    ours.Speak | ours.Play | ours.Hangup | ours.Transfer | ours.SendDtmf | ours.Configure | ours.RawAction
)
"""What jambonz does in answer to a hook. Who is asked has nothing to interrupt: the verb before the question has ended."""
AVAILABLE = one_of(Answerable)

_encoder = msgspec.json.Encoder()


class Way(NamedTuple):
    """How a call goes on: where our verb hook is, and how many seconds it is held."""

    verb_hook: str
    hold_seconds: int


class _At(NamedTuple):
    """Where an action stands in its record, and how its call goes on."""

    path: str
    way: Way

    def wrong(self, field: str, *, found: str, allowed: str) -> Poison:
        return Poison(f"{self.path}{field}", found=found, allowed=allowed)


def render(actions: Sequence[ours.Action], way: Way) -> Answer:
    """The HTTP answer that has jambonz do these actions in order, and then ask again.

    Raises:
        Poison: an action that jambonz does not have, or with a value it would not take; names `$.actions[n]…`.
    """
    rendered = verbs_for(actions, way) or verbs_for((), way, holding=True)
    return Answer(status=200, body=_encoder.encode(rendered))


def verbs_for(actions: Sequence[ours.Action], way: Way, *, holding: bool = False) -> list[JsonObject]:
    """The verbs of these actions, and behind them the question what next; none for none, unless the call is `holding`.

    Raises:
        Poison: as `render`.
    """
    rendered = [_verb(action, _At(f"$.actions[{index}]", way)) for index, action in enumerate(actions)]
    if holding:
        rendered.append({"verb": "pause", "length": way.hold_seconds})
    if rendered and rendered[-1]["verb"] not in verbs.LAST:
        rendered.append({"verb": "redirect", "actionHook": way.verb_hook})
    return rendered


def options_of(action: ours.Action, shape: type[OptionsT], path: str) -> OptionsT:
    """An action's options; `path` is where the action stands.

    Raises:
        Poison: they are not of this shape.
    """
    return convert_json(action.options, shape, path=f"{path}.options")


def _verb(action: ours.Action, at: _At) -> JsonObject:
    if not isinstance(action, Answerable):
        nothing = ": who is asked has nothing to interrupt, the verb before the question has ended"
        allowed = f"{AVAILABLE}{nothing if isinstance(action, ours.Interrupt) else ''}"
        raise not_offered(action, at.path, provider="jambonz", allowed=allowed)
    match action:
        case ours.Speak():
            return _speak(action, at)
        case ours.Play():
            return _play(action, at)
        case ours.Transfer():
            return _transfer(action, at)
        case ours.SendDtmf():
            duration = options_of(action, verbs.SendDtmfOptions, at.path).duration_ms
            return {"verb": "dtmf", "dtmf": action.digits} | ({} if duration is None else {"duration": duration})
        case _:
            return _short_verb(action, at)


def _short_verb(action: ours.Hangup | ours.Configure | ours.RawAction, at: _At) -> JsonObject:
    match action:
        case ours.Hangup():
            options_of(action, verbs.NoOptions, at.path)
            return {"verb": "hangup"}
        case ours.Configure():
            return _configure(action, at)
        case ours.RawAction():
            return _raw(action, at)
        case _:
            assert_never(action)


def _speak(action: ours.Speak, at: _At) -> JsonObject:
    """`say` has one field for both: what begins with `<speak>` is SSML."""
    if (action.text is None) == (action.ssml is None):
        found = "neither text nor ssml" if action.text is None else "text and ssml"
        raise at.wrong("", found=found, allowed="exactly one of text and ssml")
    options = options_of(action, verbs.SpeakOptions, at.path)
    say: JsonObject = {"text": action.text or action.ssml}
    if options.synthesizer is not None:
        say["synthesizer"] = on_the_wire(options.synthesizer)
    if options.loop is not None:
        say["loop"] = options.loop
    timeout = action.user_input_timeout_seconds
    if options.gather is None and timeout is None:
        return {"verb": "say", **say}
    return _gather(options.gather, at, timeout) | {"say": say}


def _play(action: ours.Play, at: _At) -> JsonObject:
    if action.url is None or not action.url.startswith(("http://", "https://")):
        raise at.wrong(".url", found="nothing" if action.url is None else "another URL", allowed="an http(s) URL")
    for field in ("audio", "background", "volume", "stop"):
        if getattr(action, field) not in {None, False}:
            raise at.wrong(f".{field}", found="a value", allowed="nothing: jambonz plays a URL, once or in a loop")
    options = options_of(action, verbs.PlayOptions, at.path)
    play: JsonObject = {"url": action.url}
    if options.loop is not None:
        play["loop"] = options.loop
    if options.gather is None:
        return {"verb": "play", **play}
    return _gather(options.gather, at, None) | {"play": play}


def _gather(options: verbs.Gather | None, at: _At, timeout_seconds: float | None) -> JsonObject:
    listening = {} if options is None else on_the_wire(options)
    gather = {"verb": "gather", "input": ["speech", "digits"], **listening, "actionHook": at.way.verb_hook}
    return gather if timeout_seconds is None else {**gather, "timeout": timeout_seconds}


def _transfer(action: ours.Transfer, at: _At) -> JsonObject:
    """A `dial`: if nobody answers, or when that leg is over, our verb hook is asked."""
    options = options_of(action, verbs.TransferOptions, at.path)
    callee = parse_callee(action.to, field=f"{at.path}.to")
    target = {"type": "sip", "sipUri": callee} if is_sip_uri(callee) else {"type": "phone", "number": callee}
    if options.trunk is not None:
        target["trunk"] = options.trunk
    dial: JsonObject = {"verb": "dial", "target": [target], "actionHook": at.way.verb_hook}
    extra = on_the_wire(msgspec.structs.replace(options, trunk=None))
    if (limit := extra.pop("timeLimitSeconds", None)) is not None:
        extra["timeLimit"] = limit
    if action.caller_id_number is not None:
        extra["callerId"] = parse_e164(action.caller_id_number, field=f"{at.path}.caller_id_number")
    if action.caller_id_name is not None:
        extra["callerName"] = action.caller_id_name
    if action.timeout_seconds is not None:
        extra["timeout"] = action.timeout_seconds
    return dial | extra


def _configure(action: ours.Configure, at: _At) -> JsonObject:
    config = on_the_wire(options_of(action, verbs.ConfigureOptions, at.path))
    if not config:
        raise at.wrong(".options", found="nothing", allowed="something to configure")
    if "bargeIn" in config:
        config["bargeIn"] = {"input": ["speech", "digits"], **config["bargeIn"], "actionHook": at.way.verb_hook}
    return {"verb": "config", **config}


def _raw(action: ours.RawAction, at: _At) -> JsonObject:
    options_of(action, verbs.NoOptions, at.path)
    verb = action.verb.get("verb")
    if not isinstance(verb, str) or verb not in verbs.KNOWN:
        raise at.wrong(".verb.verb", found=describe(verb), allowed=f"one of {', '.join(sorted(verbs.KNOWN))}")
    return action.verb
