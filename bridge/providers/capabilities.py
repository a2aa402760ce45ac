"""What a provider can do, as a value that its adapter works by: the source of `callbridge providers` and of refusals.

An adapter names the actions it renders as a union of our types, checks each action against that union before anything
else, and puts the same union into its `Profile`; so the matrix, the words of a refusal and the rendering cannot disagree.
What is a fact of the wire (a header, a field) stands here in words, and tests/contract/test_capabilities.py holds each
against what the adapter does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Literal, TypeAlias, get_args

import msgspec

from bridge.model import actions as ours
from bridge.model.errors import Poison

Callee: TypeAlias = Literal["number", "sip", "sip user", "teams"]
CommandField: TypeAlias = Literal["from", "ring_timeout_seconds"]
Renders: TypeAlias = type[msgspec.Struct] | UnionType
"""One of our actions, or a union of some."""

ACTION_TYPES: tuple[str, ...] = tuple(str(each.__struct_config__.tag) for each in get_args(ours.Action))
"""Every type of action, in the order of the model."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the provider waits with.

    `usual_seconds`: how long consumers may take unless the settings say otherwise; `longest_seconds`: the most that
    the settings may say. 0: answered at once.
    """

    usual_seconds: float
    longest_seconds: float
    takes: Renders


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of provider can do; what it can do by its methods alone is asked of `adapter`."""

    title: str
    """The products that it speaks with, as their vendors call them."""
    adapter: type
    """The class of its connections: capabilities are what it has the methods of (`bridge.providers.protocol`)."""
    callees: tuple[Callee, ...]
    """Whom it dials."""
    fields: Mapping[CommandField, str] = {}
    """Which of a command's optional fields it has words for, and what may stand there."""
    dial_seconds: float = 0.0
    """How long the provider may take to answer a dial because it waits for the callee; 0: it does not."""
    id_in_answer: str | None
    """The field of its answer to a dial that names the call."""
    reference: str | None
    """Where our own reference comes back; None: a call is matched by connection, callee and time."""
    proof: str
    """What proves a webhook."""
    questions: Mapping[str, Question] = {}
    """By our type of the event."""
    controls: Renders | None = None
    """What may be done in a live call without being asked."""
    websocket: Renders | None = None
    """The same over its WebSocket, for providers that may come by one."""


def types_of(renders: Renders | None) -> tuple[str, ...]:
    """The actions' names in messages, in the order of the model."""
    given = () if renders is None else (get_args(renders) or (renders,))
    names = {str(each.__struct_config__.tag) for each in given}
    return tuple(name for name in ACTION_TYPES if name in names)


def one_of(renders: Renders) -> str:
    """The same as words for what is allowed."""
    names = ", ".join(f"'{name}'" for name in types_of(renders))
    return names if len(types_of(renders)) == 1 else f"one of {names}"


def not_offered(action: ours.Action, path: str, *, provider: str, allowed: str) -> Poison:
    """The refusal of an action that the provider does not have; `path` is where it stands in its record."""
    found = f"'{ours.action_type(action)}', which {provider} does not have"
    return Poison(f"{path}.type", found=found, allowed=allowed)
