"""Reply tokens: only what one of our replicas minted for this very session is genuine."""

from __future__ import annotations

import base64
import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.actions.tokens import Tokens

KEYS = [b"first secret of 32 bytes or more..", b"second secret of 32 bytes or more."]
REFERENCE = "demo/session-1"
ALPHABET = string.ascii_letters + string.digits + "-_"

references = st.text(min_size=1, max_size=40)
ours = Tokens(KEYS[:1])


@given(references)
def test_what_was_minted_is_genuine(reference: str) -> None:
    """Here and on every replica with the same secret, as often as it is asked."""
    token = ours.mint(reference)
    assert ours.genuine(token, reference)
    assert Tokens(KEYS[:1]).genuine(token, reference)


@given(references, references)
def test_another_sessions_token_is_not(one: str, other: str) -> None:
    """A token is bound to the session it was minted for."""
    assume(one != other)
    assert not ours.genuine(ours.mint(one), other)


@given(st.text(max_size=60) | st.text(ALPHABET, min_size=38, max_size=38))
def test_a_forged_one_is_not(token: str) -> None:
    """No text that was not minted is genuine, whatever it looks like."""
    assert not ours.genuine(token, REFERENCE)


@given(st.integers(0, 37), st.sampled_from(ALPHABET + "=+/ \n\x00é"))
def test_an_altered_one_is_not(place: int, character: str) -> None:
    """Any single character changed, the last one with its unused bits too, makes it a forgery."""
    token = ours.mint(REFERENCE)
    assume(token[place] != character)
    assert not ours.genuine(token[:place] + character + token[place + 1 :], REFERENCE)


@given(st.integers(0, 37))
def test_a_truncated_one_is_not(length: int) -> None:
    """Half a token proves nothing, from either end."""
    token = ours.mint(REFERENCE)
    assert not ours.genuine(token[:length], REFERENCE)
    assert not ours.genuine(token[38 - length :], REFERENCE)


@pytest.mark.parametrize("around", ["{}=", "{}==", " {}", "{}\n", "{}A", "{0}{0}", "é{}"])
def test_no_other_spelling_is(around: str) -> None:
    """A token has one spelling, so that it can be looked up by its text."""
    assert not ours.genuine(around.format(ours.mint(REFERENCE)), REFERENCE)


def test_the_same_bytes_in_another_alphabet_are_not() -> None:
    """Standard base64 of the same bytes is no token."""
    while True:
        token = ours.mint(REFERENCE)
        standard = token.replace("-", "+").replace("_", "/")
        if standard != token:
            break
    assert not ours.genuine(standard, REFERENCE)


def test_another_secrets_token_is_not() -> None:
    """Without our secret nobody can mint."""
    assert not ours.genuine(Tokens(KEYS[1:]).mint(REFERENCE), REFERENCE)


def test_rotation() -> None:
    """While both secrets are live, tokens of either are genuine; the first signs; a retired one counts no more."""
    old, both, new = Tokens(KEYS[:1]), Tokens([KEYS[1], KEYS[0]]), Tokens(KEYS[1:])
    from_old, from_both = old.mint(REFERENCE), both.mint(REFERENCE)
    assert both.genuine(from_old, REFERENCE)
    assert both.genuine(from_both, REFERENCE)
    assert new.genuine(from_both, REFERENCE)
    assert not old.genuine(from_both, REFERENCE)
    assert not new.genuine(from_old, REFERENCE)


def test_without_a_secret_each_process_has_its_own() -> None:
    """No secret is none that could be guessed: another process's tokens are not genuine, nor an empty secret's."""
    alone = Tokens([])
    assert alone.genuine(alone.mint(REFERENCE), REFERENCE)
    assert not alone.genuine(Tokens([]).mint(REFERENCE), REFERENCE)
    assert not alone.genuine(Tokens([b""]).mint(REFERENCE), REFERENCE)


def test_no_two_tokens_are_alike() -> None:
    """Two questions of one session have two tokens, each short enough for `in_reply_to` and plain ASCII."""
    tokens = {ours.mint(REFERENCE) for _ in range(2000)}
    assert len(tokens) == 2000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{38}", token) for token in tokens)
    assert len({base64.urlsafe_b64decode(token + "==")[:12] for token in tokens}) == 2000
