"""JSON Schemas (2020-12) of everything on the topics, made from the structs, so that there is no second description.

What a schema refuses the decoder refuses as well. A provider's `options` are given by the caller, since the words know
no provider; which of them a message must follow depends on its connection, so the schema takes any of them, and the
flow is stricter.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TypeAlias, Union, get_args

import msgspec

from bridge.model.actions import Action, ActionResult, Actions
from bridge.model.commands import CancelCall, PlaceCall
from bridge.model.events import Event
from bridge.model.results import Result
from bridge.model.words import JsonObject

Schema: TypeAlias = JsonObject
ActionOptions: TypeAlias = Mapping[str, Mapping[str, type]]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "#/$defs/"
_NO_OPTIONS: Schema = {"type": "object", "maxProperties": 0}


def _with_plain_raw(event: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same struct with another default for `raw`: msgspec cannot describe one of type Raw."""
    config = event.__struct_config__
    fields: list[tuple[str, object] | tuple[str, object, object]] = []
    for field in msgspec.structs.fields(event):
        if field.name == "raw":
            fields.append(("raw", msgspec.Raw, None))
        elif field.required:
            fields.append((field.name, field.type))
        else:
            fields.append((field.name, field.type, field.default))
    return msgspec.defstruct(
        event.__name__,
        fields,
        namespace={"__doc__": event.__doc__},
        tag_field=config.tag_field,
        tag=config.tag,
        kw_only=True,
    )


_EVENTS = Union[*map(_with_plain_raw, get_args(Event))]  # type: ignore[valid-type]  # made at run time

# Name of the message as the topics call it: what it is, and the structs it may be.
_MESSAGES: Mapping[str, tuple[str, tuple[object, ...]]] = {
    "commands": ("A record of the commands topic.", (PlaceCall, CancelCall)),
    "results": ("A record of the results topic.", (Result,)),
    "events": ("A record of the events topic.", (_EVENTS,)),
    "actions": ("A record of the actions topic.", (Actions,)),
    "action-results": ("A record of the action results topic.", (ActionResult,)),
}


def schemas(options: Mapping[str, type], action_options: ActionOptions) -> dict[str, Schema]:
    """A schema for each message, complete in itself.

    `options` gives each provider's struct for those of `call.place`; `action_options` the same by type of action, where
    a type that is not listed takes none. With no providers at all, any options are allowed.
    """
    shapes = [shape for _, several in _MESSAGES.values() for shape in several]
    extra = [*options.values(), *(shape for kinds in action_options.values() for shape in kinds.values())]
    made, definitions = msgspec.json.schema_components([*shapes, *extra], ref_template=_DEFS + "{name}")
    references = dict(zip([*map(repr, shapes), *map(repr, extra)], made, strict=True))
    _set_options(definitions, options, action_options, references)
    _clean(definitions)
    return {
        name: _complete(name, meaning, [references[repr(shape)] for shape in several], definitions)
        for name, (meaning, several) in _MESSAGES.items()
    }


def _complete(name: str, meaning: str, allowed: list[Schema], definitions: Mapping[str, Schema]) -> Schema:
    head: Schema = {"$schema": _DIALECT, "$id": f"urn:callbridge:{name}", "title": name, "description": meaning}
    body = allowed[0] if len(allowed) == 1 else {"anyOf": allowed}
    needed = _reachable(body, definitions)
    return {**head, **body, "$defs": {key: definitions[key] for key in definitions if key in needed}}


def _set_options(
    definitions: Mapping[str, Schema],
    options: Mapping[str, type],
    action_options: ActionOptions,
    references: Mapping[str, Schema],
) -> None:
    if options:
        allowed = [references[repr(shape)] for shape in options.values()]
        definitions[PlaceCall.__name__]["properties"]["options"] |= _any_of(allowed)
    for action in get_args(Action) if action_options else ():
        given = [kinds.get(str(action.__struct_config__.tag)) for kinds in action_options.values()]
        allowed = [_NO_OPTIONS if shape is None else references[repr(shape)] for shape in given]
        definitions[action.__name__]["properties"]["options"] |= _any_of(allowed)


def _any_of(allowed: list[Schema]) -> Schema:
    distinct = [schema for position, schema in enumerate(allowed) if schema not in allowed[:position]]
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def _reachable(schema: object, definitions: Mapping[str, Schema]) -> set[str]:
    """The definitions that this schema needs, and those that they need."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        new = {name for name in _referenced(waiting.pop()) if name not in found}
        found |= new
        waiting += [definitions[name] for name in new]
    return found


def _referenced(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.removeprefix(_DEFS)
        for inner in schema.values():
            yield from _referenced(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _referenced(inner)


def _clean(schema: object) -> None:
    """Docstrings are indented as the source is."""
    if isinstance(schema, dict):
        if isinstance(description := schema.get("description"), str):
            schema["description"] = inspect.cleandoc(description)
        for inner in schema.values():
            _clean(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _clean(inner)
