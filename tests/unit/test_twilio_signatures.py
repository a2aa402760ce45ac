"""`X-Twilio-Signature`, against the vectors that Twilio's own libraries are tested with, and what must not be believed.

Vectors: https://github.com/twilio/twilio-python, tests/unit/test_request_validator.py (read on 2026-11-21); the token is
`12345` and the URL `https://mycompany.com/myapp.php?foo=1&bar=2`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from bridge.model.errors import Unverified
from bridge.providers.protocol import Webhook
from bridge.providers.twilio.hooks import RETRIED
from bridge.providers.twilio.webhook import Signatures, signature, url_variants
from bridge.runtime.secrets import Secret

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
FORM = b"application/x-www-form-urlencoded"
CALL = urlencode(
    {
        "To": "+18005551212",
        "CallSid": "CA1234567890ABCDE",
        "Digits": "1234",
        "From": "+14158675309",
        "Caller": "+14158675309",
    }
).encode()
REPEATED = b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234"
JSON = b'{"property": "value", "boolean": true}'
HASH = b"bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"


def believed(
    body: bytes,
    header: bytes,
    *,
    public: str = "https://mycompany.com",
    path: str = "/myapp.php",
    query: bytes = b"foo=1&bar=2",
    content_type: bytes = FORM,
    tokens: tuple[str, ...] = ("12345",),
) -> bool:
    """Whether a webhook with this signature is believed."""
    headers = {b"content-type": content_type, b"x-twilio-signature": header}
    webhook = Webhook("demo", "POST", path, query, headers, body, NOW)
    try:
        Signatures([Secret(token) for token in tokens], public_url=public).verify(webhook)
    except Unverified:
        return False
    return True


@pytest.mark.parametrize(
    ("body", "header", "public"),
    [
        (CALL, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", "https://mycompany.com"),
        (CALL, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", "https://mycompany.com/"),
        (CALL, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", "https://mycompany.com:1234"),  # Twilio leaves the port out
        (CALL, b"Zmvh+3yNM1Phv2jhDCwEM3q5ebU=", "http://mycompany.com:1234"),
        (CALL, b"kvajT1Ptam85bY51eRf/AJRuM3w=", "https://mycompany.com"),  # and puts the usual one in
        (CALL, b"0ZXoZLH/DfblKGATFgpif+LLRf4=", "http://mycompany.com"),
        (REPEATED, b"IK+Dwps556ElfBT0I3Rgjkr1wJU=", "https://mycompany.com"),
    ],
)
def test_the_vectors_of_the_vendor(body: bytes, header: bytes, public: str) -> None:
    """Sorted parameters, repeated ones once, and the port as either side may write it."""
    assert believed(body, header, public=public)
    assert believed(body, header, public=public, tokens=("another", "12345"))
    assert not believed(body, header, public=public, tokens=("another",))
    assert not believed(body, header, public=public.replace("mycompany", "another"))
    assert not believed(body, header, public=public, path="/other.php")
    assert not believed(body, header, public=public, query=b"foo=1")
    assert not believed(body + b"&x=1", header, public=public)
    assert not believed(body[:-1], header, public=public)


def test_the_hash_of_a_body_that_is_no_form() -> None:
    """It stands in the URL, which is signed; body and hash must agree."""
    query, header = b"foo=1&bar=2&" + HASH, b"a9nBmqA0ju/hNViExpshrM61xv4="
    assert believed(JSON, header, query=query, content_type=b"application/json")
    assert not believed(JSON + b" ", header, query=query, content_type=b"application/json")
    assert not believed(JSON, header, query=query)  # as a form its parameters would be signed too
    assert not believed(JSON, header, query=b"foo=1&bar=2", content_type=b"application/json")


def test_a_body_that_is_no_form_and_has_no_hash_is_not_believed() -> None:
    """The signature of a URL alone, such as that of an empty form, proves no body."""
    header = signature(b"12345", b"https://mycompany.com/myapp.php", b"")
    assert believed(b"", header, query=b"")
    assert not believed(JSON, header, query=b"", content_type=b"application/json")


@pytest.mark.parametrize("claimed", [b"%E2%82%AC", b"\xff", b"%FF", b"", b"%00"])
def test_a_hash_that_is_none_is_a_refusal(claimed: bytes) -> None:
    """Never another error: everybody can ask for it."""
    assert not believed(JSON, b"x", query=b"bodySHA256=" + claimed, content_type=b"application/json")


def test_behind_a_proxy_the_configured_url_counts() -> None:
    """Twilio signed https on the usual port; what the request looks like here, and what headers say, is not asked."""
    header = signature(b"12345", b"https://gw.example/webhooks/tw/status/call_1", b"a1")
    headers = {
        b"content-type": FORM,
        b"host": b"10.0.0.7:8080",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"evil.example",
        b"x-twilio-signature": header,
    }
    webhook = Webhook("tw", "POST", "/status/call_1", b"", headers, b"a=1", NOW)
    Signatures([Secret("12345")], public_url="https://gw.example/webhooks/tw").verify(webhook)
    with pytest.raises(Unverified):
        Signatures([Secret("12345")], public_url="https://evil.example/webhooks/tw").verify(webhook)


def test_the_connection_overrides_may_be_signed_or_not() -> None:
    """Twilio does not say whether a URL's fragment is part of what it signs; ours is known, so both are right."""
    for fragment in ("", RETRIED):
        header = signature(b"12345", f"https://mycompany.com/call/call_1{fragment}".encode(), b"a1")
        assert believed(b"a=1", header, path="/call/call_1", query=b"")
    other = signature(b"12345", b"https://mycompany.com/call/call_1#rc=5", b"a1")
    assert not believed(b"a=1", other, path="/call/call_1", query=b"")


def test_the_urls_that_are_tried() -> None:
    """As configured, and with and without the port."""
    assert list(url_variants("https://a.example/x")) == ["https://a.example/x", "https://a.example:443/x"]
    assert list(url_variants("http://a.example:8080/x")) == ["http://a.example:8080/x", "http://a.example/x"]


def test_a_flood_of_parameters_is_not_sorted() -> None:
    """More than any webhook has are refused before they cost anything, with a right signature too."""
    for count, is_believed in ((499, True), (501, False)):
        body = b"&".join(b"p=%d" % number for number in range(count))
        told = b"".join(sorted(b"p%d" % number for number in range(count)))
        header = signature(b"12345", b"https://mycompany.com/x", told)
        assert believed(body, header, path="/x", query=b"") is is_believed


def test_without_tokens_everything_is_believed() -> None:
    """`allow_unverified_webhooks`."""
    assert believed(CALL, b"", tokens=())
