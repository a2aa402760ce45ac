"""An AsyncAPI 3.1 document of everything on the topics, made from the structs and their JSON Schemas.

Operations are seen from the bridge: it receives commands and actions and sends what became of them; it sends events, and
where an event asks, its reply is a record on the actions channel that carries the event's token. Promises that the
document holds nothing that the structs do not say, but for names, keys and headers. Where brokers and topics are is
given by the caller.

Source: the AsyncAPI specification 3.1.0 and its Kafka bindings 0.5.0 (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, get_args

import msgspec

from bridge.model.actions import Actions, ActionStatus
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.events import Event
from bridge.model.results import Result
from bridge.model.schema import Schema
from bridge.model.words import JsonObject

VERSION = "3.1.0"
_KAFKA_BINDING = "0.5.0"
_SCHEMAS = "#/components/schemas/"
_SCHEMA_MAPS = ("properties", "$defs")
_SCHEMA_LISTS = ("anyOf", "allOf", "oneOf")
_SCHEMA_VALUES = ("items", "additionalProperties")


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the place where the bridge runs; without servers the document describes none."""

    prefix: str = "calls."
    topics: Mapping[str, str] = {}
    """Names by use (`action_results`); one that is not given is `prefix` and its use."""
    servers: tuple[str, ...] = ()
    """`host:port` of each."""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None

    def topic(self, use: str) -> str:
        """Its name."""
        return self.topics.get(use) or self.prefix + use.replace("_", "-")


class _Channel(msgspec.Struct, frozen=True):
    """A topic: what it is for, what its records' key is, and by which field a record belongs to another."""

    use: str
    about: str
    key: str
    messages: Mapping[str, str]
    """Names of messages, and the struct of each."""
    correlates_by: str
    written_by_us: bool


def _tag(struct: type[msgspec.Struct]) -> str:
    return str(struct.__struct_config__.tag)


_SESSION_KEY = "`connection/session`, as in the event"
_COMMAND_KEY = "the producer's choice, such as the command id; the same `command_id` must always have the same key"
_CHANNELS = (
    _Channel(
        "commands",
        "What producers want done.",
        _COMMAND_KEY,
        {"call.place": PlaceCall.__name__, "call.cancel": CancelCall.__name__},
        "command_id",
        written_by_us=False,
    ),
    _Channel(
        "results",
        "What became of commands: one terminal result each, at least once and always under the same `ce_id`.",
        "the command's key",
        {_tag(kind): kind.__name__ for kind in get_args(Result)},
        "command_id",
        written_by_us=True,
    ),
    _Channel(
        "events",
        "What happens in calls. Where `reply` is there, the provider waits until `reply.by`.",
        "`connection/session`",
        {_tag(kind): kind.__name__ for kind in get_args(Event)},
        "reply/token",
        written_by_us=True,
    ),
    _Channel(
        "actions",
        "What consumers want done in calls: answers, and actions that nobody asked for.",
        _SESSION_KEY,
        {"call.actions": Actions.__name__},
        "in_reply_to",
        written_by_us=False,
    ),
    _Channel(
        "action_results",
        "What became of each record of actions: exactly one result each.",
        _SESSION_KEY,
        {f"action.{status}": "ActionResult" for status in get_args(ActionStatus)},
        "action_id",
        written_by_us=True,
    ),
)


class _Operation(msgspec.Struct, frozen=True):
    """What the bridge does on a channel; without `messages` with all of the channel's, and so for the reply."""

    action: Literal["receive", "send"]
    channel: str
    about: str
    messages: tuple[str, ...] = ()
    reply: str | None = None
    reply_messages: tuple[str, ...] = ()


_OPERATIONS: Mapping[str, _Operation] = {
    "placeCall": _Operation(
        "receive", "commands", "Dials once, and says what became of it.", ("call.place",), reply="results"
    ),
    "cancelCall": _Operation(
        "receive",
        "commands",
        "Calls a command off that has not been dialled; `call.refused` with `too_late_to_cancel` otherwise.",
        ("call.cancel",),
        reply="results",
        reply_messages=("call.cancelled", "call.refused"),
    ),
    "settleUnknown": _Operation(
        "send", "results", "Evidence came after `call.unknown`.", ("call.initiated", "call.refused")
    ),
    "tell": _Operation("send", "events", "Tells what happens in calls."),
    "ask": _Operation(
        "send",
        "events",
        "An event with `reply`: the provider waits until `reply.by` for a record with `in_reply_to` = `reply.token`, "
        "under the event's record key. Without one it gets the configured fallback.",
        reply="actions",
    ),
    "act": _Operation("receive", "actions", "Has actions done, and says what became of them.", reply="action_results"),
    "bury": _Operation("send", "dead_letters", "Keeps what could not be understood, as it was."),
}


def document(schemas: Mapping[str, Schema], *, version: str, cluster: Cluster) -> JsonObject:
    """The document. `schemas` are those of `schema.schemas`, `version` is the bridge's."""
    payloads = _payloads(schemas.values())
    made: JsonObject = {
        "asyncapi": VERSION,
        "id": "urn:callbridge",
        "info": {
            "title": "callbridge",
            "version": version,
            "description": "Kafka commands become calls, webhooks become events, actions become answers. "
            "Operations are named from the bridge's side: a consumer sends what it receives, and the reverse.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {each.use: _channel(each, cluster) for each in _CHANNELS} | {"dead_letters": _letters(cluster)},
        "operations": {name: _operation(each) for name, each in _OPERATIONS.items()},
        "components": {
            "messages": {name: made for each in _CHANNELS for name, made in _messages(each, payloads)}
            | {"letter": _LETTER},
            "schemas": _HEADERS | payloads,
        },
    }
    return made | _servers(cluster, made["components"])


# -- channels and messages --------------------------------------------------------------------------------------------


def _channel(channel: _Channel, cluster: Cluster) -> JsonObject:
    return {
        "address": cluster.topic(channel.use),
        "description": channel.about,
        "messages": {name: _reference("components", "messages", name) for name in channel.messages},
        "bindings": {"kafka": {"topicConfiguration": {"cleanup.policy": ["delete"]}, "bindingVersion": _KAFKA_BINDING}},
    }


def _letters(cluster: Cluster) -> JsonObject:
    return {
        "address": cluster.topic("dead_letters"),
        "description": "Records and bodies that nobody can process, with headers that say why.",
        "messages": {"letter": _reference("components", "messages", "letter")},
    }


def _messages(channel: _Channel, payloads: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    headers = "WrittenHeaders" if channel.written_by_us else "ReadHeaders"
    for name, struct in channel.messages.items():
        yield (
            name,
            {
                "name": name,
                "summary": payloads[struct]["description"].partition("\n")[0],
                "contentType": "application/json",
                "headers": {
                    "allOf": [
                        {"$ref": _SCHEMAS + headers},
                        {"type": "object", "properties": {"ce_type": {"const": name}}},
                    ]
                },
                "payload": {"$ref": _SCHEMAS + struct},
                "correlationId": {"location": f"$message.payload#/{channel.correlates_by}"},
                "bindings": _key(channel.key),
            },
        )


def _key(about: str) -> JsonObject:
    return {"kafka": {"key": {"type": "string", "description": about}, "bindingVersion": _KAFKA_BINDING}}


_LETTER: JsonObject = {
    "name": "letter",
    "summary": "The bytes as they came, under their own key and headers.",
    "contentType": "application/octet-stream",
    "headers": {"$ref": _SCHEMAS + "LetterHeaders"},
    "payload": {},
    "bindings": _key("the record's own"),
}


def _header(about: str, **more: object) -> JsonObject:
    return {"type": "string", "description": about, **more}


_ATTRIBUTES: JsonObject = {
    "ce_specversion": _header("CloudEvents version.", const="1.0"),
    "ce_id": _header("The same for every copy of one message."),
    "ce_source": _header("Who wrote it."),
    "ce_type": _header("The message's name."),
    "ce_time": _header("When it was written.", format="date-time"),
    "ce_subject": _header("What it is about: the session's reference, or the command's id."),
    "content-type": _header("Of the value.", const="application/json"),
    "traceparent": _header("W3C trace context, where there is one; it comes back on what follows."),
    "tracestate": _header("The same."),
}
_ALWAYS = [name for name in _ATTRIBUTES if not name.startswith("trace")]
_HEADERS: JsonObject = {
    "WrittenHeaders": {
        "type": "object",
        "description": "CloudEvents 1.0 in binary mode.",
        "properties": _ATTRIBUTES,
        "required": _ALWAYS,
    },
    "ReadHeaders": {
        "type": "object",
        "description": "CloudEvents 1.0 in binary mode is understood and not needed; neither is any header.",
        "properties": _ATTRIBUTES,
    },
    "LetterHeaders": {
        "type": "object",
        "properties": {
            "dlq_field": _header("Path of the offending field, or `$`."),
            "dlq_found": _header("What stood there, without personal data."),
            "dlq_allowed": _header("What may stand there."),
            "dlq_source": _header("The topic, or `webhooks/CONNECTION`."),
            "dlq_time": _header("When it was put aside.", format="date-time"),
            "dlq_partition": _header("Where the record stood."),
            "dlq_offset": _header("The same."),
        },
        "required": ["dlq_field", "dlq_found", "dlq_allowed", "dlq_source", "dlq_time"],
    },
}


# -- operations and servers -------------------------------------------------------------------------------------------


def _operation(what: _Operation) -> JsonObject:
    made: JsonObject = {"action": what.action, "channel": _reference("channels", what.channel), "summary": what.about}
    if what.messages:
        made["messages"] = _references(what.channel, what.messages)
    if what.reply is not None:
        made["reply"] = {"channel": _reference("channels", what.reply)}
        if what.reply_messages:
            made["reply"]["messages"] = _references(what.reply, what.reply_messages)
    return made


def _references(channel: str, messages: Iterable[str]) -> list[JsonObject]:
    return [_reference("channels", channel, "messages", name) for name in messages]


def _reference(*path: str) -> JsonObject:
    return {"$ref": "#/" + "/".join(path)}


_SCHEMES: Mapping[str, JsonObject] = {
    "PLAIN": {"type": "plain"},
    "SCRAM-SHA-256": {"type": "scramSha256"},
    "SCRAM-SHA-512": {"type": "scramSha512"},
    "OAUTHBEARER": {"type": "http", "scheme": "bearer", "description": "SASL OAUTHBEARER"},
}


def _servers(cluster: Cluster, components: JsonObject) -> JsonObject:
    if not cluster.servers:
        return {}
    protocol = "kafka-secure" if cluster.security_protocol.endswith("SSL") else "kafka"
    server: JsonObject = {"protocol": protocol}
    if cluster.sasl_mechanism is not None:
        components["securitySchemes"] = {"sasl": _SCHEMES[cluster.sasl_mechanism]}
        server["security"] = [_reference("components", "securitySchemes", "sasl")]
    return {"servers": {f"kafka-{number}": {"host": host, **server} for number, host in enumerate(cluster.servers, 1)}}


# -- schemas ----------------------------------------------------------------------------------------------------------


def _payloads(schemas: Iterable[Schema]) -> JsonObject:
    """Every struct's schema under its name, in the dialect of AsyncAPI."""
    return {name: _translated(schema) for each in schemas for name, schema in each["$defs"].items()}


def _translated(schema: Schema) -> Schema:
    """AsyncAPI's dialect is older: a reference stands alone, `discriminator` is another thing, definitions lie elsewhere."""
    made: Schema = {key: _inside(key, value) for key, value in schema.items() if key not in {"discriminator", "$ref"}}
    reference = schema.get("$ref")
    if reference is None:
        return made
    moved = {"$ref": _SCHEMAS + str(reference).removeprefix("#/$defs/")}
    return {"allOf": [moved], **made} if made else moved


def _inside(key: str, value: object) -> object:
    if key in _SCHEMA_MAPS and isinstance(value, dict):
        return {name: _translated(inner) for name, inner in value.items()}
    if key in _SCHEMA_LISTS and isinstance(value, list):
        return [_translated(inner) for inner in value]
    if key in _SCHEMA_VALUES and isinstance(value, dict):
        return _translated(value)
    return value
