"""A command as the form of `POST /2010-04-01/Accounts/{AccountSid}/Calls.json`, or why Twilio cannot be asked for it.

Pure. Every URL in it is one of ours with our call id in its path, so that whatever Twilio asks or tells names the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from bridge.model.commands import PlaceCall
from bridge.model.errors import Poison
from bridge.model.phone import is_sip_uri, parse_callee, parse_e164
from bridge.model.scrub import describe
from bridge.providers.twilio.hooks import Hooks
from bridge.providers.twilio.options import Amd, Recording, TwilioOptions
from bridge.providers.twilio.settings import Caller, TwilioSettings
from bridge.providers.twilio.twiml import read

Fields: TypeAlias = list[tuple[str, str]]
"""In order; a name may come more than once."""

EVENTS = ("initiated", "ringing", "answered", "completed")
_AMD_MODES = {"enable": "Enable", "detect_message_end": "DetectMessageEnd"}


def compose(
    command: PlaceCall, options: TwilioOptions, *, settings: TwilioSettings, hooks: Hooks, call_id: str
) -> Fields:
    """The form of a command's dial.

    Raises:
        Poison: a value that the wire has no place for; `field` says which. Numbers and the callee are checked first.
    """
    callee = parse_callee(command.to, field="$.to")
    caller = settings.from_ if command.from_ is None else _caller(command.from_)
    if not is_sip_uri(callee) and not caller.startswith("+"):
        raise Poison("$.from", found="a client or a SIP URI", allowed="a number in E.164 form, to call a number")
    fields = [("To", callee), ("From", caller), *_answered(options, hooks.url("call", call_id))]
    fields += [("StatusCallback", hooks.url("status", call_id)), ("StatusCallbackMethod", "POST")]
    fields += [("StatusCallbackEvent", event) for event in EVENTS]
    single = {
        "Timeout": _whole_seconds(command.ring_timeout_seconds),
        "TimeLimit": options.time_limit_seconds,
        "SendDigits": options.send_digits,
        "CallerId": options.caller_id,
        "CallReason": options.call_reason,
        "Byoc": options.byoc,
    }
    fields += [(name, str(value)) for name, value in single.items() if value is not None]
    if options.amd is not None:
        if options.send_digits is not None:
            raise _wrong("amd", found="a value", allowed="nothing beside send_digits: Twilio would ignore it")
        fields += _detection(options.amd, hooks.url("amd", call_id))
    if options.record is not None:
        fields += _recording(options.record, hooks.url("recording", call_id))
    return fields


def _answered(options: TwilioOptions, hook: str) -> Fields:
    """What is done when the call is answered."""
    if options.twiml is None:
        return [("Url", options.url or hook), ("Method", "POST")]
    if options.url is not None:
        raise _wrong("url", found="a value", allowed="nothing beside twiml")
    if not len(read(options.twiml, root="Response", field="$.options.twiml")):
        raise _wrong("twiml", found="no verb", allowed="at least one: without any the call would be hung up")
    return [("Twiml", options.twiml)]


def _detection(amd: Amd, hook: str) -> Iterator[tuple[str, str]]:
    yield "MachineDetection", _AMD_MODES[amd.mode]
    if not amd.blocks_call:
        yield from (("AsyncAmd", "true"), ("AsyncAmdStatusCallback", hook), ("AsyncAmdStatusCallbackMethod", "POST"))
    numbers = {
        "MachineDetectionTimeout": amd.timeout_seconds,
        "MachineDetectionSpeechThreshold": amd.speech_threshold_ms,
        "MachineDetectionSpeechEndThreshold": amd.speech_end_threshold_ms,
        "MachineDetectionSilenceTimeout": amd.silence_timeout_ms,
    }
    yield from ((name, str(value)) for name, value in numbers.items() if value is not None)


def _recording(recording: Recording, hook: str) -> Iterator[tuple[str, str]]:
    yield "Record", "true"
    yield from (("RecordingStatusCallback", hook), ("RecordingStatusCallbackMethod", "POST"))
    words = {"RecordingChannels": recording.channels, "RecordingTrack": recording.track, "Trim": recording.trim}
    yield from ((name, value) for name, value in words.items() if value is not None)


def _caller(text: str) -> str:
    if text.startswith("+"):
        return parse_e164(text, field="$.from")
    try:
        return msgspec.convert(text, Caller)
    except msgspec.ValidationError:
        allowed = "a number in E.164 form, client:NAME, or a SIP URI"
        raise Poison("$.from", found=describe(text), allowed=allowed) from None


def _whole_seconds(seconds: float | None) -> int | None:
    if seconds is None:
        return None
    if not float(seconds).is_integer():
        raise Poison("$.ring_timeout_seconds", found=describe(seconds), allowed="whole seconds")
    return int(seconds)


def _wrong(name: str, *, found: str, allowed: str) -> Poison:
    return Poison(f"$.options.{name}", found=found, allowed=allowed)
