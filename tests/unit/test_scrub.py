"""What goes into logs and errors: enough to act on, and no number that could be dialled."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.scrub import describe, mask_number, scrub

MOST_DIGITS_SHOWN = 6


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+4915790000687", "+491********87"),
        ("4915790000687", "4915*******87"),
        ("+49 157 9000", "+49 ******00"),
        ("1234567", "1234*67"),
        ("123456", "******"),
        ("110", "***"),
        ("", ""),
    ],
)
def test_a_number_is_masked(number: str, masked: str) -> None:
    """Its beginning and its end stay; of a short one nothing does."""
    assert mask_number(number) == masked


@given(st.from_regex(r"\+?[0-9]{1,20}", fullmatch=True))
def test_never_enough_to_dial(number: str) -> None:
    """At most six digits of any number are left, and its length."""
    masked = mask_number(number)
    assert len(masked) == len(number)
    assert sum(character.isdigit() for character in masked) <= MOST_DIGITS_SHOWN
    assert masked != number


@given(st.text(max_size=80), st.from_regex(r"\+?[0-9]{7,15}", fullmatch=True), st.text(max_size=80))
def test_a_number_in_a_text_is_masked(before: str, number: str, after: str) -> None:
    """Wherever a number stands in a text, it does not stand in what is left of it."""
    assert number not in scrub(f"{before} {number} {after}", longest=1000)


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("call to +49 (0)30 123-4567 failed", "call to +49 ************67 failed"),
        ("030/1234567", "030/*****67"),
        ("status 404 after 15 s", "status 404 after 15 s"),
        ("12345", "*****"),
        ("no answer from 10.0.0.12:8080", "no answer from 10.0.0.12:8080"),
        ("030.123.45.256", "030.********56"),
        ("two\nlines\t and  more", "two lines and more"),
        ("  ", ""),
        ("", ""),
    ],
)
def test_a_text_becomes_one_line(text: str, scrubbed: str) -> None:
    """Spaces are folded, digits in a row masked, and small numbers stay."""
    assert scrub(text) == scrubbed


@given(st.text(max_size=600), st.integers(1, 300))
def test_a_text_is_cut(text: str, longest: int) -> None:
    """Never longer than allowed, never more than a line, and said to be cut where it was."""
    flat = " ".join(text.split())
    scrubbed = scrub(text, longest=longest)
    assert len(scrubbed) <= longest
    assert not re.search(r"[\n\r\t]", scrubbed)
    if len(flat) <= longest:
        assert len(scrubbed) == len(flat)
    else:
        assert scrubbed.endswith("…")


@given(st.text("ab ", max_size=300), st.from_regex(r"[0-9]{7,15}", fullmatch=True), st.integers(1, 250))
def test_no_cut_uncovers_a_number(before: str, number: str, longest: int) -> None:
    """A number that the cut goes through is masked all the same."""
    shown = scrub(f"{before} {number}" * 3, longest=longest)
    assert re.search(r"[0-9]{7,}", shown) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (7, "the number 7"),
        (-0.5, "the number -0.5"),
        (49301234567, "the number 4930*****67"),
        ("demo", "'demo'"),
        ("call.place", "'call.place'"),
        ("flow-1_a:b", "'flow-1_a:b'"),
        ("+49301234567", "a string of 12 characters"),
        ("49301234567", "a string of 11 characters"),
        ("a49301234567", "a string of 12 characters"),
        ("two words", "a string of 9 characters"),
        ("", "a string of 0 characters"),
        ("x" * 64, f"'{'x' * 64}'"),
        ("x" * 65, "a string of 65 characters"),
        ([1, 2], "an array of 2"),
        ({}, "an object with the fields (none)"),
        ({"b": "secret", "a": 1}, "an object with the fields a, b"),
        ({"49301234567": 1}, "an object with the fields 4930*****67"),
        (b"x", "bytes"),
    ],
)
def test_a_value_is_described(value: object, said: str) -> None:
    """By what it is: short plain words are shown, texts and numbers of persons are not, and contents never."""
    assert describe(value) == said


@given(st.dictionaries(st.text(max_size=30), st.none(), max_size=40))
def test_a_description_is_short(value: dict[str, None]) -> None:
    """However many fields an object has."""
    assert len(describe(value)) <= 230
