"""Errors about values say where, what was found and what is allowed, and never repeat what somebody said or dialled."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.actions import Actions
from bridge.model.commands import PlaceCall
from bridge.model.errors import Misconfigured, Poison
from bridge.model.events import Event
from bridge.model.validation import convert_json, convert_toml, decode_json
from bridge.runtime.secrets import SecretSource

ACTIONS = (
    "one of 'speak', 'play', 'hangup', 'transfer', 'interrupt', 'inject_context', 'tool_result', 'send_sms', "
    "'send_dtmf', 'configure', 'raw'"
)
JSON = "a JSON value in UTF-8"
CALL = '{"command_id":"c","connection":"demo","to":"+49301234567"'


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    """A table."""

    depth: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    ratio: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    """A file."""

    level: Literal["debug", "info"] = "info"
    flag: bool = False
    by_name: dict[str, Inner] = {}
    numbers: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}
    keyed: dict[Annotated[str, msgspec.Meta(min_length=2)], int] = {}
    nested: list[list[Inner]] = []
    secrets: list[SecretSource] = []
    api_token: SecretSource | None = None


def poison(data: bytes | None, shape: type) -> tuple[str, str, str]:
    """What `decode_json` has to say about these bytes."""
    with pytest.raises(Poison) as caught:
        decode_json(data, shape)
    return caught.value.field, caught.value.found, caught.value.allowed


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ('[{"type":"speek"}]', ("$.actions[0].type", "'speek'", ACTIONS)),
        ('[{"text":"x"}]', ("$.actions[0].type", "nothing", ACTIONS)),
        ('[{"type":1}]', ("$.actions[0].type", "the number 1", ACTIONS)),
        ("[1]", ("$.actions[0]", "the number 1", f"an object whose type is {ACTIONS}")),
        ('[{"type":"tool_result","result":1}]', ("$.actions[0].tool_call_id", "nothing", "a string")),
        ('[{"type":"play","volume":7}]', ("$.actions[0].volume", "the number 7", "a number from 0 to 1 or null")),
        ('[{"type":"hangup"},{"type":"speak","text":""}]', ("$.actions[1].text", "a string of 0 characters", "a string of 1 to 20000 characters or null")),
        ('[{"type":"send_dtmf","digits":"?"}]', ("$.actions[0].digits", "a string of 1 characters", "a string matching ^[0-9A-D*#]{1,64}$")),
        ("{}", ("$.actions", "an object with the fields (none)", "an array of at most 32 entries")),
    ],
)  # fmt: skip
def test_wrong_action(actions: str, expected: tuple[str, str, str]) -> None:
    """A wrong value, tag, type or constraint deep inside is found by its path, with what its type allows in words."""
    assert poison(f'{{"actions":{actions}}}'.encode(), Actions) == expected


def test_unknown_field_suggests_the_nearest() -> None:
    """An unknown field is named, with the field it was probably meant to be and all there are."""
    field, found, allowed = poison(b'{"actions":[{"type":"speak","texxt":"x"}]}', Actions)

    assert (field, found) == ("$.actions[0]", "the unknown field texxt (did you mean text?)")
    assert allowed == "the fields type, options, text, ssml, user_input_timeout_seconds"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (None, "no value"),
        (b"", "nothing (0 bytes)"),
        (b" \n", "no text"),
        (b'{"metadata":{', "JSON that ends too early, after 13 bytes"),
        (b'{\n "metadata": x}', "no JSON: invalid character at line 2, column 14"),
        (CALL.encode() + b"} x", "no JSON: trailing characters at line 1, column 61"),
        (b'{"command_id":"a\xff"}', "bytes that are not UTF-8, at line 1, column 17"),
        (CALL.encode() + b',"metadata":{"a":' + b"[" * 5000, "arrays or objects nested too deeply"),
    ],
)
def test_not_json(data: bytes | None, found: str) -> None:
    """What is no JSON at all is said with the place where it stops being JSON."""
    assert poison(data, PlaceCall) == ("$", found, JSON)


def test_wrong_type_in_json_that_never_ends() -> None:
    """A type error that comes before the end of broken JSON is still explained, by the types alone."""
    assert poison(b'{"actions":[[', Actions) == ("$.actions[0]", "`array`", "`object`")


def test_repeated_field() -> None:
    """A field that came twice, once wrong, is not reported with the value of the other one."""
    assert poison(b'{"actions":1,"actions":[]}', Actions) == (
        "$.actions",
        "the field more than once",
        "each field once",
    )


@pytest.mark.parametrize("text", ['"+49 30 1234567"', "4930123456789", '"please call me back at noon"'])
def test_found_repeats_no_personal_data(text: str) -> None:
    """Neither a number nor what somebody said comes back in the error."""
    said = " ".join(poison(f'{{"command_id":"c","connection":{text},"to":"x"}}'.encode(), PlaceCall))

    assert text.strip('"') not in said
    assert "1234567" not in said


def test_a_field_named_like_a_number_is_not_repeated() -> None:
    """A field's name is data too."""
    assert poison(b'{"+49301234567":1}', Actions)[1] == "the unknown field (a string of 12 characters)"


def test_part_of_a_message() -> None:
    """A decoded part is reported under the path where it stood."""
    with pytest.raises(Poison) as caught:
        convert_json({"depth": 0}, Inner, path="$.options")

    assert (caught.value.field, caught.value.allowed) == ("$.options.depth", "a whole number from 1 to 9")


TABLE = "a table with the fields env, file"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"level": "warn"}, ("x.level", "'warn'", "one of 'debug', 'info'")),
        ({"flag": "yes, please"}, ("x.flag", "'yes, please'", "true or false")),
        ({"levle": "info"}, ("x", "the unknown field levle (did you mean level?)", "the fields level, flag, by_name, numbers, keyed, nested, secrets, api_token")),
        ({"by_name": {"a": {}, "b": {"depth": 10}}}, ("x.by_name.b.depth", "the number 10", "a whole number from 1 to 9")),
        ({"by_name": {"a": {}, "b": {"ratio": 0}}}, ("x.by_name.b.ratio", "the number 0", "a number greater than 0")),
        ({"by_name": {"a": {"depht": 1}}}, ("x.by_name.a", "the unknown field depht (did you mean depth?)", "the fields depth, ratio")),
        ({"numbers": {"a": 1, "b": 0}}, ("x.numbers.b", "the number 0", "a whole number at least 1")),
        ({"keyed": {"aa": 1, "b": 2}}, ("x.keyed (a key)", "'b'", "a string of at least 2 characters")),
        ({"nested": [[{}], [{}, {"depth": "1"}]]}, ("x.nested[1][1].depth", "'1'", "a whole number from 1 to 9")),
        ({"secrets": [{"env": "A"}, "hunter2"]}, ("x.secrets[1]", "a string of 7 characters", TABLE)),
        ({"api_token": "hunter2"}, ("x.api_token", "a string of 7 characters", TABLE + " or nothing")),
        ({"secrets": [{"env": "A", "file": "b"}]}, ("x.secrets[0]", TABLE, 'exactly one of env and file, such as { env = "NAME" } or { file = "/run/secrets/name" }')),
    ],
)  # fmt: skip
def test_configuration(table: dict[str, object], expected: tuple[str, str, str]) -> None:
    """In a file the path is the file's, entries are found by their name, plain text is shown and secrets are not."""
    with pytest.raises(Misconfigured) as caught:
        convert_toml(table, Outer, "f.toml", "x")

    assert (caught.value.path, caught.value.found, caught.value.allowed) == expected
    assert caught.value.file == "f.toml"


def test_decoder_is_used() -> None:
    """A decoder made once serves types that only it can hold, such as a union."""
    decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

    with pytest.raises(Poison) as caught:
        decode_json(b'{"type":"user.spoke","event_id":1}', Event, decoder)

    assert (caught.value.field, caught.value.found) == ("$.event_id", "the number 1")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["actions", "type", "text", "to"]) | st.text(), inner)
    ),
)
_actions = st.fixed_dictionaries({"actions": st.lists(st.fixed_dictionaries({"type": st.just("speak") | _json}, optional={"text": _json}))})  # fmt: skip


@given(st.binary() | (_json | _actions).map(msgspec.json.encode))
def test_every_error_is_poison(data: bytes) -> None:
    """Whatever comes in is either what msgspec makes of it or a Poison with a path, and nothing else is raised."""
    try:
        expected = msgspec.json.decode(data, type=Actions)
    except (ValueError, RecursionError):
        field, found, allowed = poison(data, Actions)
        assert field.startswith("$")
        assert found
        assert allowed
    else:
        assert decode_json(data, Actions) == expected


@given(_json)
def test_explaining_leaves_the_value_alone(value: object) -> None:
    """A refused table is the same afterwards, though the wrong entry was looked for inside it."""
    table = {"by_name": {"a": {}, "b": value}, "numbers": {"x": 1}}
    before = repr(table)

    with suppress(Misconfigured):
        convert_toml(table, Outer, "f.toml")

    assert repr(table) == before
