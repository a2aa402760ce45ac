"""Turn "the bytes are not what they should be" into words a person can act on: where, what was found, what is allowed.

The happy path is msgspec's and costs nothing more; only after its error is the value read again and the type looked at.
What was found is described without personal data and without secrets; what to do with the error is the caller's matter.
"""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar, overload

import msgspec
from msgspec import inspect

from bridge.model.allowed import fields_of, in_words, resolve_union
from bridge.model.errors import Misconfigured, Poison
from bridge.model.scrub import describe, scrub

T = TypeVar("T")

_AT = re.compile(r"^(?P<reason>.*?)(?: - at (?P<key>`key` in )?`(?P<path>\$[^`]*)`)?$", re.DOTALL)
_SEGMENT = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_BYTE = re.compile(r"^JSON is malformed: (.*) \(byte (\d+)\)$", re.DOTALL)
_OF_MSGSPEC = re.compile(r"^(Expected|Invalid|Integer|Number|Object|Float) ")
_PLAIN = re.compile(r"[ -~]{0,64}")
_SECRET = re.compile(r"secret|token|password|passwd|api_?key|credential|private", re.IGNORECASE)
_JSON = "a JSON value in UTF-8"
_UNREADABLE = msgspec.UNSET


class Fault(NamedTuple):
    """Where a value is wrong, what stands there and what may stand there."""

    path: str
    found: str
    allowed: str


@overload
def decode_json(data: bytes | None, shape: type[T]) -> T: ...
@overload
def decode_json(data: bytes | None, shape: object, decoder: msgspec.json.Decoder[T]) -> T: ...
def decode_json(data: bytes | None, shape: object, decoder: msgspec.json.Decoder[T] | None = None) -> T:
    """The value of type `shape` that `data` holds. A `decoder` made once for `shape` saves its construction.

    A field given twice counts as its last value, as everywhere in msgspec; it is named when the value is refused.

    Raises:
        Poison: there is no value, it is not JSON, or not of this type.
    """
    if data is None:
        raise Poison("$", found="no value", allowed=_JSON)
    try:
        return (decoder or _decoder(shape)).decode(data)
    except msgspec.ValidationError as error:
        fault = explain(error, _read_again(data), shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fault = _not_json(error, data)
    raise Poison(fault.path, found=fault.found, allowed=fault.allowed)


def convert_json(value: object, shape: type[T], *, path: str = "$") -> T:
    """A decoded part of a message, such as a command's `options`, as `shape`; `path` says where the part stood.

    Raises:
        Poison: it is not of this type.
    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        fault = explain(error, value, shape)
    raise Poison(path + fault.path.removeprefix("$"), found=fault.found, allowed=fault.allowed)


def convert_toml(value: object, shape: type[T], file: str, path_prefix: str = "") -> T:
    """A table of the configuration as `shape`; `path_prefix` is where in `file` the table stands (`connections.demo`).

    Raises:
        Misconfigured: it is not of this type.
    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        fault = explain(error, value, shape, shows_plain_text=True)
    path = (path_prefix + fault.path.removeprefix("$")).removeprefix(".") or "(top level)"
    raise Misconfigured(file, path, found=_toml_words(fault.found), allowed=_toml_words(fault.allowed))


def names_a_secret(name: str) -> bool:
    """Whether what stands under this name is not to be shown, even where it should not stand."""
    return bool(_SECRET.search(name))


def explain(error: msgspec.ValidationError, value: object, shape: object, *, shows_plain_text: bool = False) -> Fault:
    """The fault behind msgspec's error about `value`. `shows_plain_text`: short strings that are no secrets are shown."""
    match = _AT.match(str(error))
    reason, path = (match["reason"], match["path"] or "$") if match else (str(error), "$")
    place = _Walk(str(error), value, shape).to(path, is_key=bool(match and match["key"]))
    if unknown := _UNKNOWN_FIELD.fullmatch(reason):
        return _unknown_field(place, unknown[1])
    if missing := _MISSING_FIELD.fullmatch(reason):
        return _missing_field(place, missing[1])
    if place.repeats:
        return Fault(place.path, "the field more than once", "each field once")
    if not _OF_MSGSPEC.match(reason):  # the words of a struct's own check, which say what is allowed
        return Fault(place.path, _shown(place, plain=False), reason)
    if not place.is_known:
        expected, _, got = reason.partition(", got ")
        return Fault(place.path, scrub(got or "another value"), scrub(expected.removeprefix("Expected ")))
    return Fault(place.path, _shown(place, plain=shows_plain_text), in_words(place.node, place.value))


class _Repeating(dict[str, object]):
    """A JSON object that remembers which of its fields came more than once."""

    repeated: frozenset[str] = frozenset()


class _Place(NamedTuple):
    path: str
    value: object
    node: inspect.Type
    repeats: bool = False
    is_known: bool = True


def _decoder(shape: object) -> msgspec.json.Decoder[T]:
    decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(shape)
    return decoder


class _Walk:
    """Follows msgspec's path through value and type together."""

    def __init__(self, message: str, value: object, shape: object) -> None:
        self._message = message
        self._shape = shape
        self._root = copy.deepcopy(value) if "[...]" in message or "`key`" in message else value

    def to(self, path: str, *, is_key: bool) -> _Place:
        """The place at the end of the path, as far as it can be found."""
        node = resolve_union(inspect.type_info(self._shape), self._root)
        place = _Place("$", self._root, node, is_known=self._root is not _UNREADABLE)
        for segment in _SEGMENT.finditer(path):
            name, index = segment.groups()
            place = _field(place, name) if name else self._entry(place) if index == "..." else _item(place, index)
        if not is_key:
            return place
        key = self._key(place.value) if isinstance(place.value, dict) else None
        if key is None or not isinstance(place.node, inspect.DictType):
            return place._replace(is_known=False)
        return _Place(f"{place.path} (a key)", key, resolve_union(place.node.key_type, key))

    def _entry(self, place: _Place) -> _Place:
        """The entry behind msgspec's `[...]`, which stands for any key of a dict."""
        key = self._key(place.value) if isinstance(place.value, dict) else None
        if key is None or not isinstance(place.value, dict) or not isinstance(place.node, inspect.DictType):
            return _Place(f"{place.path}[...]", None, place.node, is_known=False)
        value = place.value[key]
        return _Place(f"{place.path}.{_name(key)}", value, resolve_union(place.node.value_type, value))

    def _key(self, entries: dict[str, object]) -> str | None:
        """The key that alone brings the same error about."""
        kept = dict(entries)
        try:
            return next((key for key in kept if self._is_refused_with_only(entries, key, kept[key])), None)
        finally:
            entries.clear()
            entries.update(kept)

    def _is_refused_with_only(self, entries: dict[str, object], key: str, value: object) -> bool:
        entries.clear()
        entries[key] = value
        try:
            msgspec.convert(self._root, self._shape)
        except msgspec.ValidationError as error:
            return str(error) == self._message
        return False


def _field(place: _Place, name: str) -> _Place:
    path = f"{place.path}.{name}"
    holder = place.value
    node = fields_of(place.node).get(name)
    if not isinstance(holder, dict) or name not in holder or node is None:
        return _Place(path, None, place.node, is_known=False)
    repeats = isinstance(holder, _Repeating) and name in holder.repeated
    return _Place(path, holder[name], resolve_union(node, holder[name]), repeats)


def _item(place: _Place, index: str) -> _Place:
    path = f"{place.path}[{index}]"
    match place.value, place.node:
        case list() as items, inspect.ListType(item_type=node) if int(index) < len(items):
            return _Place(path, items[int(index)], resolve_union(node, items[int(index)]))
    return _Place(path, None, place.node, is_known=False)


def _unknown_field(place: _Place, name: str) -> Fault:
    names = list(fields_of(place.node))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return Fault(place.path, f"the unknown field {_name(name)}{hint}", f"the fields {', '.join(names) or '(none)'}")


def _missing_field(place: _Place, name: str) -> Fault:
    node = fields_of(place.node).get(name)
    return Fault(f"{place.path}.{name}", "nothing", in_words(node, None) if node else "a value")


def _shown(place: _Place, *, plain: bool) -> str:
    """A string where an object belongs, or under a name that sounds like one, may be a secret: say only its length."""
    value = place.value
    if isinstance(value, str):
        if names_a_secret(place.path) or isinstance(place.node, inspect.StructType | inspect.DictType):
            return f"a string of {len(value)} characters"
        if plain and _PLAIN.fullmatch(value):
            return f"'{value}'"
    if plain and isinstance(value, int | float) and not isinstance(value, bool):
        return f"the number {value}"
    return describe(value)


def _name(name: str) -> str:
    shown = describe(name)
    return shown[1:-1] if shown.startswith("'") else f"({shown})"


def _not_json(error: Exception, data: bytes) -> Fault:
    if isinstance(error, RecursionError):
        return Fault("$", "arrays or objects nested too deeply", _JSON)
    if not data.strip():
        return Fault("$", "no text" if data else "nothing (0 bytes)", _JSON)
    try:
        data.decode()
    except UnicodeDecodeError as undecodable:
        return Fault("$", f"bytes that are not UTF-8, at {_position(data, undecodable.start)}", _JSON)
    if malformed := _BYTE.match(str(error)):
        return Fault("$", f"no JSON: {malformed[1]} at {_position(data, int(malformed[2]))}", _JSON)
    return Fault("$", f"JSON that ends too early, after {len(data)} bytes", _JSON)


def _position(data: bytes, byte: int) -> str:
    before = data[:byte]
    return f"line {before.count(10) + 1}, column {byte - before.rfind(10)}"


def _read_again(data: bytes) -> object:
    """The value as plain objects, as far as the reader of the standard library can follow."""
    try:
        return json.loads(data.decode(errors="replace"), object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return _UNREADABLE


def _object(pairs: Sequence[tuple[str, object]]) -> _Repeating:
    fields = _Repeating(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        fields.repeated = frozenset(name for name in fields if names.count(name) > 1)
    return fields


def _toml_words(text: str) -> str:
    return text.replace("an object", "a table").replace("null", "nothing")
