"""Form bodies: whatever the parameters are, they are read as they were sent, and `raw` is JSON that says the same."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.model.errors import Poison
from bridge.providers.protocol import Verified, Webhook
from bridge.providers.twilio.form import MOST_PARAMETERS, pairs_of, read_form, read_json
from bridge.providers.twilio.statuses import sent_at
from bridge.providers.twilio.webhook import parse, signature

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PAIRS = st.lists(st.tuples(NAMES.filter(bool), NAMES), max_size=20)


@settings(max_examples=200, deadline=None)
@given(PAIRS)
def test_a_form_is_read_as_it_was_sent(pairs: list[tuple[str, str]]) -> None:
    """Names and values in order; of a repeated name the first counts, and all stand in `raw`."""
    read = read_form(urlencode(pairs).encode())
    names = list(dict.fromkeys(name for name, _ in pairs))
    assert list(read.first) == names
    raw = msgspec.json.decode(read.raw)
    assert list(raw) == names
    for name in names:
        values = [value for each, value in pairs if each == name]
        assert read.first[name] == values[0]
        assert raw[name] == (values[0] if len(values) == 1 else values)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_poison(body: bytes) -> None:
    """Never another exception, and always JSON."""
    with contextlib.suppress(Poison):
        assert isinstance(msgspec.json.decode(read_form(body).raw), dict)
    webhook = Webhook("tw", "POST", "", b"", {}, body, NOW)
    with pytest.raises(Poison):
        parse(Verified(webhook))


def test_how_pieces_are_decoded() -> None:
    """`+` is a space, `%2B` a plus; an empty piece is none, a name without value has an empty one."""
    assert pairs_of(b"a=1+2&b=%2B49&&c&d==x&%C3%A9=") == [
        (b"a", b"1 2"),
        (b"b", b"+49"),
        (b"c", b""),
        (b"d", b"=x"),
        ("é".encode(), b""),
    ]
    assert len(pairs_of(b"&".join([b"a=1"] * 5000))) == MOST_PARAMETERS + 1


def test_a_json_body() -> None:
    """Only what is a string is read; the body itself is `raw`."""
    body = b'{"CallSid": "CA1", "n": 1, "list": ["x"]}'
    assert read_json(body) == ({"CallSid": "CA1"}, body)
    for odd in (b"[]", b"{", b'{"a":"\xff"}'):
        with pytest.raises(Poison):
            read_json(odd)


@pytest.mark.parametrize(
    "told", ["", "x", "Thu, 01 Jan 1970 00:00:00 +" + "9" * 30, "Thu, 01 Jan " + "9" * 30 + " 00:00:00 +0000"]
)
def test_a_time_that_is_none(told: str) -> None:
    """It is left out, whatever its numbers are."""
    assert sent_at({"Timestamp": told}) is None


def test_a_signature_is_the_documented_one() -> None:
    """HMAC-SHA1 in Base64 over URL and parameters."""
    expected = base64.b64encode(hmac.new(b"key", b"https://a/x" + b"a1b2", hashlib.sha1).digest())
    assert signature(b"key", b"https://a/x", b"a1b2") == expected
