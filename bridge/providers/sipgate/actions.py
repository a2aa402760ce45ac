"""Our actions in sipgate's words: a pure translation that either renders everything or refuses with a path.

What sipgate cannot do is refused and never dropped; `raw` passes its own verb through for what our words do not reach.
An answer is one object, an array of several, or 204: a 200 that is no action makes sipgate stop listening.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, TypeVar, assert_never

import msgspec

from bridge.model import actions as ours
from bridge.model.errors import Poison
from bridge.model.phone import parse_e164
from bridge.model.scrub import describe
from bridge.model.validation import convert_json
from bridge.providers.capabilities import not_offered, one_of
from bridge.providers.protocol import Answer
from bridge.providers.sipgate import verbs
from bridge.providers.sipgate.translate import wire_number

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)

NOTHING = Answer(status=204)
Answerable: TypeAlias = (
    ours.Speak
    | ours.Play
    | ours.Hangup
    | ours.Transfer
    | ours.Interrupt
    | ours.SendSms
    | ours.Configure
    | ours.RawAction
)
"""What sipgate does in answer to an event."""
AVAILABLE = one_of(Answerable)
SHORTEST_TRANSFER_SECONDS, LONGEST_TRANSFER_SECONDS = 5, 120
"""https://sipgate.github.io/sipgate-ai-flow-api/api/actions/transfer.html (contract 1.5)"""

_encoder = msgspec.json.Encoder()


class _At(NamedTuple):
    """Where an action stands in its record, and the session it is for."""

    path: str
    session: str

    def wrong(self, field: str, *, found: str, allowed: str) -> Poison:
        return Poison(f"{self.path}{field}", found=found, allowed=allowed)


def render(actions: Sequence[ours.Action], *, session: str) -> Answer:
    """The HTTP answer that has sipgate do these actions in order; 204 for none.

    Raises:
        Poison: an action that sipgate does not have, or with a value it would not take; names `$.actions[n]…`.
    """
    rendered = _verbs(actions, session)
    match rendered:
        case []:
            return NOTHING
        case [only]:
            return Answer(status=200, body=_encoder.encode(only))
        case _:
            return Answer(status=200, body=_encoder.encode(rendered))


def frames(actions: Sequence[ours.Action], *, session: str) -> tuple[bytes, ...]:
    """The same over a WebSocket: one text frame for each (contract 1.2); an array in a frame is documented nowhere.

    Raises:
        Poison: as `render`.
    """
    return tuple(_encoder.encode(verb) for verb in _verbs(actions, session))


def _verbs(actions: Sequence[ours.Action], session: str) -> list[verbs.Verb]:
    return [_verb(action, _At(f"$.actions[{index}]", session)) for index, action in enumerate(actions)]


def _verb(action: ours.Action, at: _At) -> verbs.Verb:
    if not isinstance(action, Answerable):
        raise not_offered(action, at.path, provider="sipgate", allowed=AVAILABLE)
    match action:
        case ours.Speak():
            return _speak(action, at)
        case ours.Play():
            return _play(action, at)
        case ours.Transfer():
            return _transfer(action, at)
        case ours.Configure():
            return _configure(action, at)
        case _:
            return _short_verb(action, at)


def _short_verb(action: ours.Hangup | ours.Interrupt | ours.SendSms | ours.RawAction, at: _At) -> verbs.Verb:
    match action:
        case ours.Hangup():
            _options(action, verbs.NoOptions, at)
            return verbs.Hangup(session_id=at.session)
        case ours.Interrupt():
            _options(action, verbs.NoOptions, at)
            return verbs.BargeInNow(session_id=at.session)
        case ours.SendSms():
            _options(action, verbs.NoOptions, at)
            digits = _digits(action.to, at, ".to")
            return verbs.SendSms(session_id=at.session, phone_number=digits, message=action.text)
        case ours.RawAction():
            return _raw(action, at)
        case _:
            assert_never(action)


def _speak(action: ours.Speak, at: _At) -> verbs.Verb:
    if (action.text is None) == (action.ssml is None):
        found = "neither text nor ssml" if action.text is None else "text and ssml"
        raise at.wrong("", found=found, allowed="exactly one of text and ssml")
    options = _options(action, verbs.SpeakOptions, at)
    return verbs.Speak(
        session_id=at.session,
        text=action.text,
        ssml=action.ssml,
        tts=options.tts,
        barge_in=options.barge_in,
        vad=options.vad,
        user_input_timeout_seconds=action.user_input_timeout_seconds,
    )


def _play(action: ours.Play, at: _At) -> verbs.Verb:
    if action.url is not None:
        raise at.wrong(".url", found="a URL", allowed="audio (base64 WAV): sipgate fetches nothing")
    if action.stop:
        return _stop_background(action, at)
    if action.audio is None:
        raise at.wrong(".audio", found="nothing", allowed="a WAV file in base64")
    _check_wav(action.audio, at)
    if action.background:
        _options(action, verbs.NoOptions, at)
        return verbs.MixAudio(session_id=at.session, audio=action.audio, volume=action.volume)
    if action.volume is not None:
        raise at.wrong(".volume", found=describe(action.volume), allowed="no volume, or background = true")
    options = _options(action, verbs.PlayOptions, at)
    return verbs.Audio(session_id=at.session, audio=action.audio, barge_in=options.barge_in)


def _stop_background(action: ours.Play, at: _At) -> verbs.Verb:
    _options(action, verbs.NoOptions, at)
    if action.audio is not None or action.volume is not None:
        field = ".audio" if action.audio is not None else ".volume"
        raise at.wrong(
            field, found="a value beside stop = true", allowed="nothing: stop ends the background and no more"
        )
    return verbs.MixAudio(session_id=at.session, stop=True)


def _check_wav(audio: str, at: _At) -> None:
    """Base64 of a RIFF/WAVE file. Its rate is not looked at: sipgate's own pages disagree about it (contract 1.5)."""
    allowed = "a WAV file in base64 (16 kHz, mono, 16 bit)"
    try:
        data = base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise at.wrong(".audio", found=f"{len(audio)} characters that are not base64", allowed=allowed) from error
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise at.wrong(".audio", found=f"{len(data)} bytes that are not a WAV file", allowed=allowed)


def _transfer(action: ours.Transfer, at: _At) -> verbs.Verb:
    _options(action, verbs.NoOptions, at)
    if not action.caller_id_name:
        raise at.wrong(".caller_id_name", found="nothing", allowed="the name to show: sipgate requires it")
    if not action.caller_id_number:
        raise at.wrong(".caller_id_number", found="nothing", allowed="the number to show: sipgate requires it")
    timeout = action.timeout_seconds
    if timeout is not None and not SHORTEST_TRANSFER_SECONDS <= timeout <= LONGEST_TRANSFER_SECONDS:
        allowed = f"{SHORTEST_TRANSFER_SECONDS} to {LONGEST_TRANSFER_SECONDS}"
        raise at.wrong(".timeout_seconds", found=describe(timeout), allowed=allowed)
    return verbs.Transfer(
        session_id=at.session,
        target_phone_number=_digits(action.to, at, ".to"),
        caller_id_name=action.caller_id_name,
        caller_id_number=_digits(action.caller_id_number, at, ".caller_id_number"),
        timeout=timeout,
    )


def _configure(action: ours.Configure, at: _At) -> verbs.Verb:
    options = _options(action, verbs.ConfigureOptions, at)
    if (voice := options.voice_to_voice) is not None:
        return verbs.ConfigureVoiceToVoice(session_id=at.session, **msgspec.structs.asdict(voice))
    transcription = options.transcription or verbs.Transcription()
    return verbs.ConfigureTranscription(session_id=at.session, **msgspec.structs.asdict(transcription))


def _raw(action: ours.RawAction, at: _At) -> verbs.Verb:
    _options(action, verbs.NoOptions, at)
    verb = action.verb
    kind, session = verb.get("type"), verb.get("session_id", at.session)
    if not isinstance(kind, str) or not kind:
        raise at.wrong(".verb.type", found=describe(kind), allowed="the type of one of sipgate's actions")
    if session != at.session:
        raise at.wrong(".verb.session_id", found="another session", allowed="no session_id, or that of this session")
    return {**verb, "session_id": at.session}


def _options(action: ours.Action, shape: type[OptionsT], at: _At) -> OptionsT:
    return convert_json(action.options, shape, path=f"{at.path}.options")


def _digits(number: str, at: _At, field: str) -> str:
    return wire_number(parse_e164(number, field=f"{at.path}{field}"))
