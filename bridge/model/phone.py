"""Phone numbers: validated once as E.164, rewritten into a provider's dialect by its adapter.

`phonenumbers` decides what is a possible number; we never parse digits by hand. Errors mask what they mention.
"""

from __future__ import annotations

import re
from typing import NewType

import phonenumbers

from bridge.model.errors import Poison
from bridge.model.scrub import mask_number

E164 = NewType("E164", str)
SipUri = NewType("SipUri", str)

_SIP_URI = re.compile(r"sips?:[^\s@<>]{1,128}@[^\s@<>]{1,255}")


def parse_e164(text: str, *, field: str = "$.to") -> E164:
    """The number in E.164 form with `+`.

    Raises:
        Poison: it has no `+`, holds something else than a number, or cannot exist in its country's plan.
    """
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        number = None
    if number is None or not text.startswith("+") or number.extension or not _is_possible(number):
        raise Poison(
            field, found=repr(mask_number(text)), allowed="a possible number in E.164 form, such as +49301234567"
        )
    return E164(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _is_possible(number: phonenumbers.PhoneNumber) -> bool:
    """Long enough to be dialled from anywhere: what can only be dialled locally is not E.164."""
    return phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE


def parse_callee(text: str, *, field: str = "$.to") -> E164 | SipUri:
    """A callee: E.164, or a SIP URI (whether the provider takes one is the adapter's to say).

    Raises:
        Poison: it is neither.
    """
    if text.startswith(("sip:", "sips:")):
        if not _SIP_URI.fullmatch(text):
            raise Poison(field, found="a malformed SIP URI", allowed="sip:user@host or sips:user@host")
        return SipUri(text)
    return parse_e164(text, field=field)


def is_sip_uri(callee: str) -> bool:
    """Whether a validated callee is a SIP URI."""
    return callee.startswith(("sip:", "sips:"))


def e164_from_wire(text: str) -> E164 | None:
    """A provider's number, with or without `+`, in E.164 form; None where it is no number (withheld, a SIP user)."""
    try:
        return parse_e164(text if text.startswith("+") else f"+{text}")
    except Poison:
        return None
