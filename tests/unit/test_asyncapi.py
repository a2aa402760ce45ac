"""The AsyncAPI document: right by its public schema, complete, and true of the messages that are really written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft7Validator

from bridge.__main__ import main
from bridge.model.actions import ActionResult, Actions, Hangup, Speak
from bridge.model.asyncapi import Cluster, document
from bridge.model.codec import cloudevents_headers, encoder
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.events import Pressed, Progress, Reply, Said, UserDtmf, UserSpoke
from bridge.model.results import CallInitiated, CallRefused
from bridge.model.schema import schemas
from bridge.model.validation import decode_json
from bridge.model.words import AnyJson, JsonObject
from bridge.providers.catalogue import KINDS
from tests.support.asyncapi_schema import public_schema
from tests.support.daemon import write_config

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SECURED = Cluster(
    prefix="voice.",
    topics={"actions": "do-this"},
    servers=("kafka-1:9093", "kafka-2:9093"),
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
)
EVENT = {"event_id": "e1", "connection": "sales", "provider": "sipgate", "session": "s1", "received_at": NOW}
MESSAGES = {
    "call.place": PlaceCall(
        command_id="c1", connection="sales", to="+4915790000687", metadata={"a": [1]}, not_before=NOW
    ),
    "call.cancel": CancelCall(command_id="c1"),
    "call.initiated": CallInitiated(command_id="c1", call_id="call_x", settled_by="answer", accepted_at=NOW),
    "call.refused": CallRefused(command_id="c1", call_id="call_x", reason="too_late_to_cancel"),
    "user.spoke": UserSpoke(**EVENT, data=Said(text="hi"), reply=Reply("token", NOW)),  # type: ignore[arg-type]
    "user.dtmf": UserDtmf(**EVENT, data=Pressed(digit="1"), metadata={"who": None}),  # type: ignore[arg-type]
    "call.actions": Actions(in_reply_to="token", actions=[Speak(text="hello"), Hangup()]),
    "action.superseded": ActionResult(
        action_id="a1",
        status="superseded",
        connection="sales",
        session="s1",
        at=NOW,
        reason="another_answer_came_first",
    ),
}


def made(cluster: Cluster) -> JsonObject:
    """The document of all providers."""
    every = schemas(
        {kind.name: kind.options for kind in KINDS.values()},
        {kind.name: kind.action_options for kind in KINDS.values()},
    )
    return document(every, version="1.2.3", cluster=cluster)


def validator(here: JsonObject, schema: JsonObject) -> Draft7Validator:
    """For a schema that refers to the document's components."""
    return Draft7Validator({**schema, "components": here["components"]})


def references(value: AnyJson) -> Iterator[str]:
    """Every `$ref` in it."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def found(here: JsonObject, reference: str) -> AnyJson:
    """What it refers to; raises where that is not there."""
    place: AnyJson = here
    for name in reference.removeprefix("#/").split("/"):
        place = place[name]
    return place


@pytest.mark.parametrize("cluster", [Cluster(), SECURED])
def test_it_is_asyncapi(cluster: Cluster) -> None:
    """It follows the public schema of AsyncAPI 3.1.0, which would notice a mistake."""
    schema = Draft7Validator(public_schema())
    here = made(cluster)
    assert [error.message[:200] for error in schema.iter_errors(here)] == []
    assert here["asyncapi"] == "3.1.0"
    for broken in (
        {**here, "operations": {"act": {"action": "take", "channel": {"$ref": "#/channels/actions"}}}},
        {**here, "channels": {"actions": {"adress": "calls.actions"}}},
        {**here, "info": {"title": "callbridge"}},
    ):
        assert list(schema.iter_errors(broken))


def test_every_reference_leads_somewhere() -> None:
    """Channels, messages and schemas that are referred to are there, and every schema and message is referred to."""
    here = made(SECURED)
    every = set(references(here))
    for reference in every:
        assert found(here, reference)
    for kind in ("schemas", "messages"):
        assert {f"#/components/{kind}/{name}" for name in here["components"][kind]} - every == set()


def test_a_schema_is_one_of_the_dialect() -> None:
    """No `$ref` with a neighbour, which the older dialect would not read, and no other dialect's `discriminator`."""

    def check(value: AnyJson) -> None:
        if isinstance(value, dict):
            assert "$ref" not in value or set(value) == {"$ref"}
            assert not isinstance(value.get("discriminator"), dict)
            for inner in value.values():
                check(inner)
        elif isinstance(value, list):
            for inner in value:
                check(inner)

    for schema in made(Cluster())["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
        check(schema)


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_written_is_what_is_described(name: str) -> None:
    """A message as the codec writes it, with its headers, follows the description of its name."""
    here, value = made(Cluster()), MESSAGES[name]
    message = here["components"]["messages"][name]
    body: JsonObject = decode_json(encoder.encode(value), dict)
    assert list(validator(here, message["payload"]).iter_errors(body)) == []
    headers = cloudevents_headers(event_id="1", source="/us", event_type=name, time=NOW, subject="s")
    as_text = {header: text.decode() for header, text in headers}
    assert list(validator(here, message["headers"]).iter_errors(as_text)) == []
    assert list(validator(here, message["headers"]).iter_errors({**as_text, "ce_type": "other"}))


def test_what_is_wrong_is_not_described() -> None:
    """The payloads are as strict as the decoder: an unknown field, a missing one, a wrong type."""
    here = made(Cluster())
    payload = validator(here, here["components"]["messages"]["call.place"]["payload"])
    good = {"command_id": "c1", "connection": "sales", "to": "+4915790000687"}
    assert list(payload.iter_errors(good)) == []
    for wrong in ({"too": "x"}, {"command_id": ""}, {"metadata": 1}, {"options": {"no_such_option": 1}}):
        assert list(payload.iter_errors({**good, **wrong})), wrong


def test_a_question_and_its_reply() -> None:
    """The event with a token is a request whose reply is a record of actions; both are tied together by the token."""
    here = made(SECURED)
    ask, messages = here["operations"]["ask"], here["components"]["messages"]
    assert (ask["action"], ask["channel"]) == ("send", {"$ref": "#/channels/events"})
    assert ask["reply"] == {"channel": {"$ref": "#/channels/actions"}}
    assert here["channels"]["actions"]["address"] == "do-this"
    assert messages["user.spoke"]["correlationId"] == {"location": "$message.payload#/reply/token"}
    assert messages["call.actions"]["correlationId"] == {"location": "$message.payload#/in_reply_to"}
    replies = {name: each.get("reply", {}).get("channel", {}).get("$ref") for name, each in here["operations"].items()}
    assert replies == {
        "placeCall": "#/channels/results",
        "cancelCall": "#/channels/results",
        "settleUnknown": None,
        "tell": None,
        "ask": "#/channels/actions",
        "act": "#/channels/action_results",
        "bury": None,
    }


def test_messages_are_those_of_their_channel() -> None:
    """An operation names only messages of its channel; every message has a key and says what it is."""
    here = made(Cluster())
    for operation in here["operations"].values():
        for part in (operation, operation.get("reply", {})):
            for reference in part.get("messages", ()):
                assert reference["$ref"].startswith(part["channel"]["$ref"] + "/messages/")
    for message in here["components"]["messages"].values():
        assert message["bindings"]["kafka"]["key"]["description"]
    assert Progress.__name__ in here["components"]["schemas"]


def test_where_the_brokers_are() -> None:
    """Servers with their protocol and security, and the topics' own names; without a cluster no server is made up."""
    here = made(SECURED)
    assert [each["host"] for each in here["servers"].values()] == ["kafka-1:9093", "kafka-2:9093"]
    assert {each["protocol"] for each in here["servers"].values()} == {"kafka-secure"}
    assert here["components"]["securitySchemes"] == {"sasl": {"type": "scramSha512"}}
    addresses = {use: channel["address"] for use, channel in here["channels"].items()}
    assert addresses["action_results"] == "voice.action-results"
    assert len(set(itertools.chain(addresses.values()))) == 6
    assert "servers" not in made(Cluster())


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`callbridge asyncapi` prints the document; with a configuration it has its topics and servers."""
    config = write_config(
        tmp_path / "c.toml", bootstrap="kafka-1:9092", prefix="mine.", simulator_url="http://127.0.0.1:9"
    )
    assert main(["asyncapi"]) == 0
    plain = decode_json(capsys.readouterr().out.encode(), dict)
    assert plain["channels"]["events"]["address"] == "calls.events"
    made_here = decode_json(msgspec.json.encode(made(Cluster())), dict)
    assert plain["components"]["schemas"] == made_here["components"]["schemas"]
    assert main(["asyncapi", str(config)]) == 0
    of_config = decode_json(capsys.readouterr().out.encode(), dict)
    assert of_config["channels"]["action_results"]["address"] == "mine.action-results"
    assert of_config["servers"] == {"kafka-1": {"host": "kafka-1:9092", "protocol": "kafka"}}
    assert main(["asyncapi", str(tmp_path / "nowhere.toml")]) == 2
