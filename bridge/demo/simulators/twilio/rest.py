"""Twilio's REST API as far as it is simulated: create a call, look at one, steer one; what is taken and what refused.

Twilio ignores parameters that it does not know; here one is a breach, because only a wrong adapter sends it.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import msgspec

from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.twilio.settings import TwilioSettings
from bridge.demo.simulators.twilio.twiml import read_document

_PATH = re.compile(r"/2010-04-01/Accounts/([^/]+)/Calls(?:/([^/]+))?\.json")
_E164 = re.compile(r"\+[1-9][0-9]{3,14}")
_LONGEST_TWIML = 4_000
_EVENTS = {"initiated", "ringing", "answered", "completed"}
_WORDS: Mapping[str, frozenset[str]] = {
    "Method": frozenset({"GET", "POST"}),
    "StatusCallbackMethod": frozenset({"GET", "POST"}),
    "AsyncAmdStatusCallbackMethod": frozenset({"GET", "POST"}),
    "RecordingStatusCallbackMethod": frozenset({"GET", "POST"}),
    "MachineDetection": frozenset({"Enable", "DetectMessageEnd"}),
    "AsyncAmd": frozenset({"true", "false"}),
    "Record": frozenset({"true", "false"}),
    "RecordingChannels": frozenset({"mono", "dual"}),
    "RecordingTrack": frozenset({"inbound", "outbound", "both"}),
    "Trim": frozenset({"trim-silence", "do-not-trim"}),
}
_NUMBERS: Mapping[str, tuple[int, int]] = {
    "Timeout": (1, 600),
    "TimeLimit": (1, 86_400),
    "MachineDetectionTimeout": (1, 120),
    "MachineDetectionSpeechThreshold": (1000, 6000),
    "MachineDetectionSpeechEndThreshold": (500, 5000),
    "MachineDetectionSilenceTimeout": (2000, 10_000),
}
_URLS = ("Url", "StatusCallback", "AsyncAmdStatusCallback", "RecordingStatusCallback")
_OTHERS = {"To", "From", "Twiml", "StatusCallbackEvent", "SendDigits", "CallerId", "CallReason", "Byoc"}
_KNOWN = {*_WORDS, *_NUMBERS, *_URLS, *_OTHERS}


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A call to place, with nothing wrong about it."""

    number: str
    caller: str
    url: str | None = None
    twiml: str | None = None
    status_callback: str | None = None
    status_events: frozenset[str] = frozenset({"completed"})
    timeout_seconds: int = 60
    detects: bool = False
    detection_callback: str | None = None
    """Without one detection blocks the call."""
    recording_callback: str | None = None


class Refusal(msgspec.Struct, frozen=True):
    """A request that is not taken. `is_breach`: the adapter is wrong, not its configuration or the moment."""

    status: int
    code: int
    message: str
    is_breach: bool = True

    def answer(self) -> Answer:
        """As said on the wire."""
        more = f"https://www.twilio.com/docs/errors/{self.code}"
        body = {"code": self.code, "message": self.message, "more_info": more, "status": self.status}
        headers = {"Content-Type": "application/json"}
        return Answer(status=self.status, headers=headers, body=msgspec.json.encode(body).decode())


def path_of(path: str) -> tuple[str, str | None] | None:
    """Account and, for one call, its sid; None for another path."""
    found = _PATH.fullmatch(path)
    return (found[1], found[2]) if found else None


def refuse_access(exchange: Exchange, settings: TwilioSettings) -> Refusal | None:
    """Who may not ask at all."""
    known = f"{settings.user or settings.account_sid}:{settings.token}".encode()
    wanted = b"Basic " + base64.b64encode(known)
    if not hmac.compare_digest(exchange.headers.get("authorization", "").encode(), wanted):
        return Refusal(401, 20003, "Authenticate", is_breach=False)
    place = path_of(exchange.path)
    if place is None or place[0] != settings.account_sid:
        return Refusal(404, 20404, f"The requested resource {exchange.path} was not found", is_breach=False)
    return None


def read_form(exchange: Exchange) -> list[tuple[str, str]]:
    """The parameters; none of a body that is no form."""
    if not exchange.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return []
    return parse_qsl(exchange.body.decode("utf-8", "replace"), keep_blank_values=True)


def read_create(exchange: Exchange, settings: TwilioSettings) -> Order | Refusal:
    """What a POST asks for."""
    pairs = read_form(exchange)
    form = dict(pairs)
    events = frozenset(value for name, value in pairs if name == "StatusCallbackEvent")
    return _refuse(form, events, settings) or Order(
        number=form["To"],
        caller=form["From"],
        url=form.get("Url"),
        twiml=form.get("Twiml"),
        status_callback=form.get("StatusCallback"),
        status_events=events or frozenset({"completed"}),
        timeout_seconds=int(form.get("Timeout", "60")),
        detects="MachineDetection" in form and "SendDigits" not in form,
        detection_callback=form.get("AsyncAmdStatusCallback") if form.get("AsyncAmd") == "true" else None,
        recording_callback=form.get("RecordingStatusCallback") if form.get("Record") == "true" else None,
    )


def _refuse(form: Mapping[str, str], events: frozenset[str], settings: TwilioSettings) -> Refusal | None:
    if not form.get("To"):
        return Refusal(400, 21201, "No 'To' number is specified")
    is_sip = form["To"].startswith(("sip:", "sips:"))
    if not is_sip and not _E164.fullmatch(form["To"]):
        return Refusal(400, 21211, f"Invalid 'To' Phone Number: {form['To']}")
    if not form.get("From"):
        return Refusal(400, 21213, "No 'From' number is specified")
    if not is_sip and form["From"] != settings.number:
        return Refusal(400, 21210, f"The source phone number provided, {form['From']}, is not yet verified", False)
    if not form.get("Url") and not form.get("Twiml"):
        return Refusal(400, 21205, "Url parameter is required")
    return _refuse_values(form, events)


def _refuse_values(form: Mapping[str, str], events: frozenset[str]) -> Refusal | None:
    if unknown := set(form) - _KNOWN:
        return Refusal(400, 20001, f"unknown parameters: {', '.join(sorted(unknown))}")
    if wrong := events - _EVENTS:
        return Refusal(400, 21626, f"Invalid StatusCallbackEvents: {', '.join(sorted(wrong))}")
    wrong_word = next(
        (name for name, allowed in _WORDS.items() if form.get(name, next(iter(allowed))) not in allowed), None
    )
    if wrong_word is not None:
        return Refusal(400, 20001, f"{wrong_word} must be one of {', '.join(sorted(_WORDS[wrong_word]))}")
    for name, (least, most) in _NUMBERS.items():
        if name in form and not (form[name].isdigit() and least <= int(form[name]) <= most):
            return Refusal(400, 20001, f"{name} must be {least} to {most}")
    wrong_url = next((name for name in _URLS if name in form and not _is_url(form[name])), None)
    if wrong_url is not None:
        return Refusal(400, 21205, f"{wrong_url} is not a valid URL: {form[wrong_url]}")
    return _refuse_twiml(form.get("Twiml"))


def _refuse_twiml(document: str | None) -> Refusal | None:
    if document is None:
        return None
    if len(document) > _LONGEST_TWIML:
        return Refusal(400, 32018, "Twiml size exceeded maximum allowed value of 4000 characters")
    breach = read_document(document).breach
    return None if breach is None else Refusal(400, 20001, breach)


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and "_" not in (parts.hostname or "")


def read_update(exchange: Exchange) -> Mapping[str, str] | Refusal:
    """What a POST to a call asks for: an end, or other TwiML."""
    form = dict(read_form(exchange))
    if unknown := set(form) - {"Status", "Twiml", "Url", "Method", "TimeLimit"}:
        return Refusal(400, 20001, f"unknown parameters: {', '.join(sorted(unknown))}")
    if not {"Status", "Twiml", "Url"} & set(form) or {"Twiml", "Url"} <= set(form):
        return Refusal(400, 20001, "one of Status, Twiml and Url is required")
    if form.get("Status", "completed") not in {"completed", "canceled"}:
        return Refusal(400, 21218, "Status must be canceled or completed")
    if "Url" in form and not _is_url(form["Url"]):
        return Refusal(400, 21205, f"Url is not a valid URL: {form['Url']}")
    return _refuse_twiml(form.get("Twiml")) or form
