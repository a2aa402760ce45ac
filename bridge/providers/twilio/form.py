"""Form bodies as Twilio sends them: the parameters as bytes, for the signature; as text, to be read; as JSON, for `raw`.

A parameter that comes once is a string in the JSON, one that comes more often an array of strings, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec

from bridge.model.errors import Poison
from bridge.model.validation import decode_json
from bridge.model.words import JsonObject

Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]

MOST_PARAMETERS = 500
"""Twilio sends some thirty; they are sorted before anything is proven, so there is an end."""


class Parameters(NamedTuple):
    """What a webhook says: `raw` is all of it as JSON, `first` each parameter's first value."""

    first: Mapping[str, str]
    raw: bytes


def pairs_of(body: bytes) -> Pairs:
    """The parameters of a form in order, decoded but not yet text; never more than one above `MOST_PARAMETERS`."""
    parts = body.split(b"&", MOST_PARAMETERS)
    return [(_plain(name), _plain(value)) for name, _, value in (part.partition(b"=") for part in parts if part)]


def read_form(body: bytes) -> Parameters:
    """The parameters of a form.

    Raises:
        Poison: bytes that are not UTF-8.
    """
    given: dict[str, list[str]] = {}
    for name, value in pairs_of(body):
        given.setdefault(_text(name), []).append(_text(value))
    whole: JsonObject = {name: values[0] if len(values) == 1 else values for name, values in given.items()}
    return Parameters({name: values[0] for name, values in given.items()}, msgspec.json.encode(whole))


def read_json(body: bytes) -> Parameters:
    """The same of a JSON object; what is no string there is only in `raw`.

    Raises:
        Poison: not a JSON object in UTF-8.
    """
    _text(body)
    whole: JsonObject = decode_json(body, JsonObject)
    return Parameters({name: value for name, value in whole.items() if isinstance(value, str)}, body)


def _plain(piece: bytes) -> bytes:
    return unquote_to_bytes(piece.replace(b"+", b" "))


def _text(piece: bytes) -> str:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Poison("$", found=f"byte {error.start} is not UTF-8", allowed="parameters in UTF-8") from error
