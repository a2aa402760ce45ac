"""Reply tokens: only what one of our replicas minted for this very session is genuine."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Callable, Mapping

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


# -- whatever one does to a token ---------------------------------------------------------------------------------------

sessions = st.builds(lambda connection, session: f"{connection}/{session}", st.sampled_from("ab"), st.text(min_size=1))
edits = st.lists(
    st.tuples(st.sampled_from(["put", "cut", "change", "swap"]), st.integers(0, 40), st.sampled_from(ALPHABET)),
    min_size=1,
    max_size=6,
)


def edited(token: str, steps: list[tuple[str, int, str]]) -> str:
    """The token after some changes by hand."""
    for what, place, character in steps:
        match what:
            case "put":
                token = token[:place] + character + token[place:]
            case "cut":
                token = token[:place] + token[place + 1 :]
            case "change":
                token = token[:place] + character + token[place + 1 :]
            case _:
                token = token[:place] + token[place : place + 2][::-1] + token[place + 2 :]
    return token


@given(edits)
def test_no_editing_makes_another_genuine_one(steps: list[tuple[str, int, str]]) -> None:
    """Put in, cut out, change or swap characters as you like: what differs is a forgery."""
    token = ours.mint(REFERENCE)
    other = edited(token, steps)
    assert ours.genuine(other, REFERENCE) == (other == token)


@given(st.integers(1, (1 << 224) - 1))
def test_no_bits_can_be_turned(mask: int) -> None:
    """Any bits of its 28 bytes turned, and written down properly again, is a forgery."""
    raw = int.from_bytes(base64.urlsafe_b64decode(ours.mint(REFERENCE) + "=="), "big") ^ mask
    assert not ours.genuine(base64.urlsafe_b64encode(raw.to_bytes(28, "big")).decode().rstrip("="), REFERENCE)


@given(st.integers(1, 37))
def test_two_tokens_cannot_be_joined(place: int) -> None:
    """The beginning of one genuine token and the end of another prove nothing together."""
    one, other = ours.mint(REFERENCE), ours.mint(REFERENCE)
    joined = one[:place] + other[place:]
    assume(joined not in {one, other})
    assert not ours.genuine(joined, REFERENCE)


RECODINGS: Mapping[str, Callable[[bytes], str]] = {
    "hex": lambda raw: raw.hex(),
    "base32": lambda raw: base64.b32encode(raw).decode(),
    "base85": lambda raw: base64.b85encode(raw).decode(),
    "padded": lambda raw: base64.urlsafe_b64encode(raw).decode(),
    "in lines": lambda raw: base64.encodebytes(raw).decode(),
    "reversed": lambda raw: base64.urlsafe_b64encode(raw[::-1]).decode().rstrip("="),
    "twice": lambda raw: base64.urlsafe_b64encode(base64.urlsafe_b64encode(raw)).decode().rstrip("="),
    "upper case": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=").upper(),
    "wide characters": lambda raw: "".join(
        chr(ord(each) + 0xFEE0) for each in base64.urlsafe_b64encode(raw).decode()[:38]
    ),
}


@pytest.mark.parametrize("how", RECODINGS)
def test_the_same_bytes_written_differently_are_not(how: str) -> None:
    """Only the spelling that was minted is looked at."""
    raw = base64.urlsafe_b64decode(ours.mint(REFERENCE) + "==")
    assert not ours.genuine(RECODINGS[how](raw), REFERENCE)


@given(sessions, sessions, st.lists(st.binary(min_size=1), min_size=1, max_size=3), st.binary(min_size=1))
def test_nothing_but_its_session_and_secret(mine: str, other: str, keys: list[bytes], strange: bytes) -> None:
    """For every session and set of secrets: genuine with one of the secrets that signed and for its session, else not."""
    assume(mine != other)
    assume(strange not in keys)
    token = Tokens(keys).mint(mine)
    assert Tokens([strange, keys[0]]).genuine(token, mine)
    assert not Tokens(keys).genuine(token, other)
    assert not Tokens([strange]).genuine(token, mine)
    assert not Tokens([strange]).genuine(token, other)


@given(st.text("ab/", min_size=1, max_size=8), st.integers(0, 8))
def test_connection_and_session_cannot_be_shifted(reference: str, place: int) -> None:
    """`a/bc` and `ab/c` are two sessions, though their letters are the same."""
    moved = reference[:place] + "/" + reference[place:]
    assume(moved != reference)
    assert not ours.genuine(ours.mint(reference), moved)


# -- notes --------------------------------------------------------------------------------------------------------------


@given(sessions, sessions, st.binary(max_size=40), st.binary(max_size=40))
def test_a_note_is_signed_as_it_is(mine: str, other: str, note: bytes, another: bytes) -> None:
    """Proof of this note to this session by our secret, and of nothing else."""
    proof = ours.sign(mine, note)
    assert ours.signed(proof, mine, note)
    assert ours.signed(proof, mine, another) == (another == note)
    assert ours.signed(proof, other, note) == (other == mine)
    assert not Tokens(KEYS[1:]).signed(proof, mine, note)


@given(sessions, st.binary(max_size=40), st.binary(max_size=60))
def test_no_proof_is_made_up(mine: str, note: bytes, proof: bytes) -> None:
    """Bytes that were not signed, a token among them, prove no note; and a proof is no token."""
    assert not ours.signed(proof, mine, note)
    assert not ours.signed(ours.mint(mine).encode(), mine, note)
    assert not ours.genuine(ours.sign(mine, note).decode(), mine)
