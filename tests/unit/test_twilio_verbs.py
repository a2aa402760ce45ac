"""Our actions as TwiML: what each becomes, how it is escaped, how a call is kept alive, and what is refused."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.model import actions as ours
from bridge.model.errors import Poison
from bridge.providers.twilio.actions import Way, render
from bridge.providers.twilio.control import request_for
from bridge.providers.twilio.twiml import LARGEST_BYTES

WAY = Way("https://gw.example/v", "https://gw.example/g", 2, {})
GERMAN = WAY._replace(voice={"voice": "Polly.Vicki", "language": "de-DE"})
NEXT = '<Redirect method="POST">https://gw.example/v</Redirect>'
AGAIN = 'action="https://gw.example/v" method="POST"'
MORE = 'answerOnBridge="true" hangupOnStar="false" timeLimit="60" callerId="+14155550100" timeout="20"'
GATHER = (
    '<Gather input="speech dtmf" action="https://gw.example/g" method="POST" actionOnEmptyResult="true"{}>{}</Gather>'
)


def twiml(*given: ours.Action, way: Way = WAY) -> str:
    """What stands in the Response."""
    answer = render(given, way)
    assert (answer.status, answer.content_type) == (200, b"text/xml; charset=utf-8")
    ElementTree.fromstring(answer.body)  # noqa: S314 - our own
    text = answer.body.decode().removeprefix('<?xml version="1.0" encoding="UTF-8"?>')
    return text.removeprefix("<Response>").removesuffix("</Response>")


def raw(text: str) -> ours.RawAction:
    """A document of the consumer's."""
    return ours.RawAction(verb={"twiml": text})


@pytest.mark.parametrize(
    ("action", "wire"),
    [
        (ours.Speak(text="Hi"), "<Say>Hi</Say>"),
        (ours.Speak(text="a < b & \"c\" 'd' ü 🎉"), "<Say>a &lt; b &amp; \"c\" 'd' ü 🎉</Say>"),
        (ours.Speak(text="</Say><Hangup/>"), "<Say>&lt;/Say&gt;&lt;Hangup/&gt;</Say>"),
        (
            ours.Speak(text="Hi", options={"voice": 'x" y="z', "language": "en-GB", "loop": 2}),
            '<Say voice="x&quot; y=&quot;z" language="en-GB" loop="2">Hi</Say>',
        ),
        (
            ours.Speak(ssml='<speak>One <break time="1s"/> two &amp; three</speak>'),
            '<Say>One <break time="1s" /> two &amp; three</Say>',
        ),
        (ours.Speak(text="Hi", user_input_timeout_seconds=5), GATHER.format(' timeout="5"', "<Say>Hi</Say>")),
        (
            ours.Speak(
                text="Hi",
                options={
                    "gather": {
                        "input": ["dtmf"],
                        "num_digits": 4,
                        "finish_on_key": "",
                        "speech_timeout": "auto",
                        "hints": ["yes", "no"],
                        "profanity_filter": False,
                        "timeout_seconds": 3,
                        "barge_in": True,
                    }
                },
            ),
            GATHER.replace("speech dtmf", "dtmf").format(
                ' timeout="3" speechTimeout="auto" finishOnKey="" numDigits="4" hints="yes, no"'
                ' profanityFilter="false" bargeIn="true"',
                "<Say>Hi</Say>",
            ),
        ),
        (ours.Play(url="https://a.example/x.mp3?a=1&b=2"), "<Play>https://a.example/x.mp3?a=1&amp;b=2</Play>"),
        (
            ours.Play(url="https://a.example/x", options={"loop": 3, "gather": {}}),
            GATHER.format("", '<Play loop="3">https://a.example/x</Play>'),
        ),
        (ours.SendDtmf(digits="1#"), '<Play digits="1#" />'),
        (
            ours.Transfer(to="+49301234567"),
            '<Dial action="https://gw.example/v" method="POST"><Number>+49301234567</Number></Dial>',
        ),
        (
            ours.Transfer(
                to="+49301234567",
                caller_id_number="+14155550100",
                timeout_seconds=20,
                options={
                    "answer_on_bridge": True,
                    "hangup_on_star": False,
                    "time_limit_seconds": 60,
                    "send_digits": "ww1",
                },
            ),
            f'<Dial {AGAIN} {MORE}><Number sendDigits="ww1">+49301234567</Number></Dial>',
        ),
        (
            ours.Transfer(to="sip:a&b@sip.example"),
            '<Dial action="https://gw.example/v" method="POST"><Sip>sip:a&amp;b@sip.example</Sip></Dial>',
        ),
        (
            raw('<?xml version="1.0"?><!-- mine --><Response><Record maxLength="5"/><Say>é</Say></Response>'),
            '<Record maxLength="5" /><Say>é</Say>',
        ),
    ],
)
def test_each_action_and_then_the_question(action: ours.Action, wire: str) -> None:
    """Escaped by construction, and never the last thing: a call whose verbs run out is hung up."""
    assert twiml(action) == wire + NEXT


SAYABLE = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff", include_characters="\t\n"),
    min_size=1,
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(text=SAYABLE, voice=SAYABLE)
def test_whatever_is_said_is_what_twilio_reads(text: str, voice: str) -> None:
    """Text and attributes come out of the XML as they went in, and make no element of their own."""
    body = render([ours.Speak(text=text, options={"voice": voice})], WAY).body
    say, redirect = ElementTree.fromstring(body)  # noqa: S314 - our own
    assert (say.tag, say.text, dict(say.attrib), len(say)) == ("Say", text, {"voice": voice}, 0)
    assert redirect.tag == "Redirect"


def test_what_ends_the_call_is_the_end() -> None:
    """No question behind it; a consumer's own redirect is an end too."""
    assert twiml(ours.Speak(text="Bye"), ours.Hangup()) == "<Say>Bye</Say><Hangup />"
    assert twiml(raw("<Response><Redirect>https://a.example/</Redirect></Response>")).endswith("</Redirect>")
    assert twiml(raw("<Response><Reject/></Response>")) == "<Reject />"


def test_nothing_holds_the_call() -> None:
    """A pause and the question again: never an empty document."""
    assert twiml() == f'<Pause length="2" />{NEXT}'


def test_who_speaks_and_what_is_understood_has_a_default() -> None:
    """The connection's, unless the action says so."""
    assert twiml(ours.Speak(text="Hi", options={"voice": "alice"}), way=GERMAN).startswith(
        '<Say voice="alice" language="de-DE">'
    )
    listening = twiml(ours.Speak(text="Hi", user_input_timeout_seconds=5), way=GERMAN)
    assert ' language="de-DE" timeout="5"><Say voice="Polly.Vicki" language="de-DE">' in listening
    english = twiml(ours.Speak(text="Hi", options={"gather": {"language": "en-US"}}), way=GERMAN)
    assert '<Gather input="speech dtmf"' in english
    assert 'language="en-US"' in english


@pytest.mark.parametrize(
    ("action", "field", "words"),
    [
        (ours.Speak(), "", "neither text nor ssml"),
        (ours.Speak(text="a", ssml="<speak>b</speak>"), "", "text and ssml"),
        (ours.Speak(text="a\x00b"), ".text", "U+0000"),
        (ours.Speak(text="a\ufffe"), ".text", "U+FFFE"),
        (ours.Speak(ssml="<speak>"), ".ssml", "at line 1"),
        (ours.Speak(ssml="<p>x</p>"), ".ssml", "outermost"),
        (ours.Speak(ssml='<speak xmlns="http://www.w3.org/2001/10/synthesis">x</speak>'), ".ssml", "namespace"),
        (ours.Speak(ssml='<!DOCTYPE speak [<!ENTITY a "b">]><speak>&a;</speak>'), ".ssml", "document type"),
        (ours.Speak(text="x", user_input_timeout_seconds=1.5), ".user_input_timeout_seconds", "whole seconds"),
        (ours.Speak(text="x", options={"voic": "a"}), ".options", "voice"),
        (ours.Speak(text="x", options={"voice": "a\x00b"}), ".options", "U+0000"),
        (ours.Play(url="https://a.example/", options={"gather": {"hints": ["a\x1b"]}}), ".options", "U+001B"),
        (ours.Speak(text="x", options={"gather": {"timeout": 3}}), ".options.gather", "timeout_seconds"),
        (ours.Play(), ".url", "http(s)"),
        (ours.Play(url="ftp://x"), ".url", "http(s)"),
        (ours.Play(url="https://a.example/", volume=0.5), ".volume", "nothing"),
        (ours.Play(url="https://a.example/", background=True), ".background", "nothing"),
        (ours.Play(audio="UklGRg=="), ".url", "http(s)"),
        (ours.Hangup(options={"x": 1}), ".options", "(none)"),
        (ours.Transfer(to="12"), ".to", "E.164"),
        (ours.Transfer(to="+49301234567", caller_id_name="x"), ".caller_id_name", "numbers only"),
        (ours.Transfer(to="+49301234567", caller_id_number="1"), ".caller_id_number", "E.164"),
        (ours.Transfer(to="sip:a@b.example", options={"send_digits": "1"}), ".options.send_digits", "SIP"),
        (ours.Interrupt(), ".type", "nothing to interrupt"),
        (ours.InjectContext(text="x"), ".type", "'raw'"),
        (ours.ToolResult(tool_call_id="1", result=1), ".type", "does not have"),
        (ours.SendSms(to="+49301234567", text="x"), ".type", "does not have"),
        (ours.Configure(options={"voice": "x"}), ".type", "does not have"),
        (ours.RawAction(verb={"verb": "say"}), ".verb", "twiml"),
        (raw("<Response/>"), ".verb.twiml", "hung up"),
        (raw("<Response><Hangupp/></Response>"), ".verb.twiml", "Hangup"),
        (raw("<Say>x</Say>"), ".verb.twiml", "outermost"),
        (raw("<Response><Say>x</Response>"), ".verb.twiml", "at line 1"),
        (raw("x" * (LARGEST_BYTES + 1)), ".verb.twiml", "1 to 64000"),
        (raw("ü" * LARGEST_BYTES), ".verb.twiml", "at most"),
        (raw(f"<Response>{'<Say>' * 5000}{'</Say>' * 5000}</Response>"), ".verb.twiml", "32 levels"),
        (ours.Speak(ssml=f"<speak>{'<p>' * 1200}{'</p>' * 1200}</speak>"), ".ssml", "32 levels"),
    ],
)
def test_what_twilio_would_not_take_is_refused(action: ours.Action, field: str, words: str) -> None:
    """With the path of the field, and all of the record with it."""
    with pytest.raises(Poison) as caught:
        render([ours.Speak(text="first"), action], WAY)
    assert caught.value.field.startswith(f"$.actions[1]{field}")
    assert words in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "gb2312", "shift_jis", "utf-7", "no-such"])
def test_the_encoding_that_a_document_declares_is_not_looked_for(encoding: str) -> None:
    """It came as text. One that Python does not know, or knows otherwise, must neither end the daemon nor bend words."""
    declared = f'<?xml version="1.0" encoding="{encoding}"?>'
    assert twiml(raw(f"{declared}<Response><Say>Grüße</Say></Response>")).startswith("<Say>Grüße</Say>")
    assert twiml(ours.Speak(ssml=f"{declared}<speak>Grüße</speak>")).startswith("<Say>Grüße</Say>")


def test_entities_are_never_expanded() -> None:
    """A document that would grow in memory is refused by its first line, not by its size."""
    laughs = '<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><Response><Say>&b;</Say></Response>'
    with pytest.raises(Poison, match="document type"):
        render([raw(laughs)], WAY)


def test_an_answer_larger_than_twilio_reads_is_refused() -> None:
    """Several actions together too; `&` is five bytes."""
    with pytest.raises(Poison, match=r"\$\.actions: .* bytes of TwiML"):
        render([ours.Speak(text="&" * 7000)] * 2, WAY)


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ([ours.Hangup()], {"Status": "completed"}),
        ([ours.Interrupt()], {"Twiml": NEXT}),
        ([ours.Speak(text="a"), ours.Hangup()], {"Twiml": "<Say>a</Say><Hangup />"}),
        ([ours.SendDtmf(digits="1")], {"Twiml": f'<Play digits="1" />{NEXT}'}),
        ([raw("<Response><Pause/></Response>")], {"Twiml": f"<Pause />{NEXT}"}),
    ],
)
def test_control_is_one_form(given: list[ours.Action], form: dict[str, Any]) -> None:
    """The end alone is a status, everything else takes the place of what the call is doing."""
    found = dict(request_for(given, WAY))
    head, tail = '<?xml version="1.0" encoding="UTF-8"?><Response>', "</Response>"
    assert {name: value.removeprefix(head).removesuffix(tail) for name, value in found.items()} == form
