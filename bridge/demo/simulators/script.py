"""Scripts: who answers how, what they say turn by turn, and what goes wrong when; read from TOML or JSON.

It promises that a script is checked whole when it is read and that faults are chosen by counting, so that a run can
be repeated. Playing a script is left to the simulators.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from bridge.demo.simulators.faults import ConnectionFault, ReplyFault, WebhookFault

Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class _Turn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"):
    """One turn of the callee, `after_seconds` behind the end of what the assistant says.

    `unprompted`: behind the callee's turn before it (or the picking up), without waiting for the assistant.
    """

    after_seconds: Seconds = 0.8
    unprompted: bool = False


class Say(_Turn, frozen=True, kw_only=True, tag="say"):
    """Say something."""

    text: str


class Interrupt(_Turn, frozen=True, kw_only=True, tag="interrupt"):
    """Say something while the assistant speaks, `after_seconds` behind its first word."""

    text: str


class Press(_Turn, frozen=True, kw_only=True, tag="press"):
    """Press keys, one event each."""

    digits: Annotated[str, msgspec.Meta(pattern=r"^[0-9*#]+$")]
    gap_seconds: Seconds = 0.3


class StaySilent(_Turn, frozen=True, kw_only=True, tag="stay_silent"):
    """Let the assistant's turn pass without a word."""


class HangUp(_Turn, frozen=True, kw_only=True, tag="hang_up"):
    """End the call."""


Turn: TypeAlias = Say | Interrupt | Press | StaySilent | HangUp


class WebhookRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault for the `nth` webhook of a kind in a call; `nth = 0`: for each. `on = "*"`: of any kind."""

    fault: WebhookFault
    on: str = "*"
    nth: Annotated[int, msgspec.Meta(ge=0)] = 1


class Callee(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody with a telephone. `number`: digits, or digits and `*` for all that begin so; the first match counts."""

    number: str = "*"
    answers: bool = True
    """False: busy, away, rejected; on the wire it is all the same, nothing."""
    rings_seconds: Seconds = 4.0
    turns: tuple[Turn, ...] = ()
    repeat: bool = False
    """Begin again with the first turn when all are done."""
    hangs_up_after_turns: Count | None = None
    patience_seconds: Seconds = 60.0
    """How long the callee bears that nothing happens before hanging up."""
    waits_for_answers: bool = True
    """Take no turn while a webhook of the call is unanswered: deterministic. False: real life, events overlap."""
    transfer_succeeds: bool = True
    sms_arrives: bool = True
    is_machine: bool = False
    """An answering machine, as far as answering machine detection is asked for."""
    webhook_faults: tuple[WebhookRule, ...] = ()

    def each_turn(self) -> Iterator[Turn]:
        """One after the other, without an end where they repeat."""
        return itertools.cycle(self.turns) if self.repeat else iter(self.turns)


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which ones of a row of things, counted from 1: `count` of them from `first` on, each `every`th."""

    first: Count = 1
    count: Count | None = None
    every: Count = 1

    def hits(self, number: int) -> bool:
        """Whether the thing with this number is meant."""
        steps, rest = divmod(number - self.first, self.every)
        return steps >= 0 and rest == 0 and (self.count is None or steps < self.count)


class DialRule(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault for requests to dial that were read whole and are valid, counted over those whose number matches."""

    fault: ReplyFault
    number: str = "*"


class ConnectionRule(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault for whole connections, counted over all connections to the simulator's provider port."""

    fault: ConnectionFault


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it. Without a matching callee a number is answered by somebody who says nothing."""

    description: str = ""
    callees: tuple[Callee, ...] = ()
    dial_faults: tuple[DialRule, ...] = ()
    connection_faults: tuple[ConnectionRule, ...] = ()

    def callee(self, number: str) -> Callee:
        """Who answers at this number."""
        return next((callee for callee in self.callees if matches(callee.number, number)), _NOBODY_IN_PARTICULAR)


_NOBODY_IN_PARTICULAR = Callee()

Format: TypeAlias = Literal["toml", "json"]


def matches(pattern: str, number: str) -> bool:
    """Whether a number is meant by digits, or by digits and `*`."""
    return number.startswith(pattern[:-1]) if pattern.endswith("*") else number == pattern


def parse(text: str | bytes, *, form: Format) -> Script:
    """A script from text.

    Raises:
        msgspec.ValidationError: it has a field, kind or value that does not exist; the message says where.
    """
    return msgspec.toml.decode(text, type=Script) if form == "toml" else msgspec.json.decode(text, type=Script)


def load(path: Path) -> Script:
    """A script from a `.toml` or `.json` file."""
    return parse(path.read_bytes(), form="json" if path.suffix == ".json" else "toml")


class Director:
    """Chooses what goes wrong: the script's rules and how often each has been asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._asked = [0] * len(script.dial_faults)
        self._connections = 0

    def for_connection(self) -> ConnectionFault | None:
        """The fault for the next connection."""
        self._connections += 1
        rules = self.script.connection_faults
        return next((rule.fault for rule in rules if rule.hits(self._connections)), None)

    def for_dial(self, number: str) -> ReplyFault | None:
        """The fault for the next request to dial this number: of all rules that match, the first that hits."""
        chosen: ReplyFault | None = None
        for index, rule in enumerate(self.script.dial_faults):
            if matches(rule.number, number):
                self._asked[index] += 1
                if chosen is None and rule.hits(self._asked[index]):
                    chosen = rule.fault
        return chosen

    def for_webhook(self, callee: Callee, *, event: str, nth: int, nth_of_all: int) -> WebhookFault | None:
        """The fault for a webhook that is the `nth` of its kind in its call."""
        for rule in callee.webhook_faults:
            if rule.on in {event, "*"} and rule.nth in {0, nth_of_all if rule.on == "*" else nth}:
                return rule.fault
        return None
