"""Phone numbers: E.164 in one spelling, SIP URIs as they are, everything else refused without being repeated."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.errors import Poison
from bridge.model.phone import e164_from_wire, is_sip_uri, parse_callee, parse_e164

ALLOWED = "a possible number in E.164 form, such as +49301234567"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+49301234567", "+49301234567"),
        ("+49 30 1234567", "+49301234567"),
        ("+49 (30) 1234-567", "+49301234567"),
        ("+4915790000687", "+4915790000687"),
        ("+12025550123", "+12025550123"),
        ("+442079460000", "+442079460000"),
        ("+390612345678", "+390612345678"),
    ],
)
def test_numbers_in_one_spelling(text: str, number: str) -> None:
    """However it is grouped, a number is `+` and digits; a leading zero that belongs to it stays."""
    assert parse_e164(text) == number
    assert parse_e164(parse_e164(text)) == number
    assert parse_callee(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "49301234567",
        "0049301234567",
        "030 1234567",
        "+49",
        "+4930123456789012345",
        "+999301234567",
        "+1202555012",
        "+49301234567;ext=12",
        "+49301234567 ext. 12",
        "tel:+49301234567",
        "\uff0b49301234567",
        " +49301234567",
        "Anna",
        "anonymous",
        "agent@example.org",
        "+" + "4" * 300,
    ],
)
def test_what_is_no_number(text: str) -> None:
    """Without `+`, impossible in its country, with an extension, or something else: refused, and not repeated."""
    with pytest.raises(Poison) as caught:
        parse_callee(text, field="$.from")
    assert (caught.value.field, caught.value.allowed) == ("$.from", ALLOWED)
    assert "301234567" not in str(caught.value).replace(ALLOWED, "")


@given(st.text(max_size=40) | st.from_regex(r"\+[0-9 ()-]{0,20}", fullmatch=True))
def test_any_text_is_a_number_or_is_refused(text: str) -> None:
    """No text breaks the parser, and what it takes is `+` and plain digits, in the length that E.164 allows."""
    try:
        number = parse_e164(text)
    except Poison:
        return
    assert re.fullmatch(r"\+[1-9][0-9]{2,14}", number)


@pytest.mark.parametrize("uri", ["sip:agent@example.org", "sips:a.b+c@10.0.0.1:5061;transport=tls", "sip:+4930@x"])
def test_a_sip_uri_is_taken_as_it_is(uri: str) -> None:
    """Whether a provider takes one is the adapter's to say."""
    assert parse_callee(uri) == uri
    assert is_sip_uri(parse_callee(uri))
    assert not is_sip_uri(parse_callee("+49301234567"))


@pytest.mark.parametrize(
    "uri", ["sip:", "sip:agent", "sip:@example.org", "sip:a@", "sip:a b@example.org", "sip:a@b@c", "sips:<a>@b"]
)
def test_a_malformed_sip_uri(uri: str) -> None:
    """It is named as such, without repeating it."""
    with pytest.raises(Poison) as caught:
        parse_callee(uri)
    assert (caught.value.field, caught.value.found) == ("$.to", "a malformed SIP URI")


@pytest.mark.parametrize(
    ("wire", "number"),
    [
        ("+49301234567", "+49301234567"),
        ("49301234567", "+49301234567"),
        ("4915790000687", "+4915790000687"),
        ("anonymous", None),
        ("", None),
        ("030", None),
        ("sip:agent@example.org", None),
    ],
)
def test_numbers_from_the_wire(wire: str, number: str | None) -> None:
    """Providers leave the `+` out; what is no number (withheld, a SIP user) is none."""
    assert e164_from_wire(wire) == number
