"""Take personal data out of text before it reaches a log line, an error, a metric or a trace.

Digits in a row are treated as a phone number, long strings as something somebody said. What is left is enough to act
on: how long it was, how it began.
"""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\+?\d[\d\s()./-]{3,}\d")
_IPV4 = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
_LARGEST_OCTET = 255
_HARMLESS = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_LONGEST_DETAIL = 200
_KEPT_HEAD, _KEPT_TAIL = 4, 2


def mask_number(number: str) -> str:
    """`+4915790000687` becomes `+491*******87`: enough to recognise, too little to dial."""
    digits = sum(character.isdigit() for character in number)
    if digits <= _KEPT_HEAD + _KEPT_TAIL:
        return "*" * len(number)
    return number[:_KEPT_HEAD] + "*" * (len(number) - _KEPT_HEAD - _KEPT_TAIL) + number[-_KEPT_TAIL:]


def _mask(match: re.Match[str]) -> str:
    """Everything that looks like a number, but for an address of the internet protocol."""
    found = match.group()
    is_address = bool(_IPV4.fullmatch(found)) and all(int(part) <= _LARGEST_OCTET for part in found.split("."))
    return found if is_address else mask_number(found)


def scrub(text: str, *, longest: int = _LONGEST_DETAIL) -> str:
    """One line of at most `longest` characters in which everything that looks like a number is masked."""
    flat = " ".join(text.split())
    masked = _NUMBER.sub(_mask, flat[: longest * 2])
    return masked if len(masked) <= longest else masked[: longest - 1] + "…"


def describe(value: object) -> str:
    """What a JSON value is, said without repeating personal data: for the `found` part of an error."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {scrub(str(value))}"
        case str() if _HARMLESS.fullmatch(value) and not _NUMBER.search(value):
            return f"'{value}'"
        case str():
            return f"a string of {len(value)} characters"
        case list():
            return f"an array of {len(value)}"
        case dict():
            return f"an object with the fields {', '.join(sorted(map(scrub, value)))[:_LONGEST_DETAIL] or '(none)'}"
        case _:
            return type(value).__name__
