"""The history checker against histories made by hand: a good one passes, and each kind of bad one is named."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.faults.history import FATAL, PROBLEMS, Collected, Problem, Seen, check
from tests.support.kafka_tools import Message

NUMBER = "4915790000001"
PLACED = Seen(received=1, placed=1, decided={"201": 1})

_offsets = itertools.count()


def record(
    topic: str, key: str, value: Mapping[str, Any] | None, *, ce_id: str = "", partition: int = 0, raw: bytes = b""
) -> Message:
    """A record, behind all that were made before it."""
    body = raw or (None if value is None else json.dumps(value).encode())
    headers = {"ce_id": ce_id, "ce_type": "" if value is None else str(value.get("type", ""))}
    return Message(topic, partition, next(_offsets), key.encode(), body, headers)


def command(command_id: str = "a", number: str = NUMBER) -> Message:
    """A command to place a call."""
    return record("commands", command_id, {"type": "call.place", "command_id": command_id, "to": f"+{number}"})


def result(kind: str, command_id: str = "a", *, settles: bool = False, aside: str = "", **fields: object) -> Message:
    """A result; `aside`: the end of the ce_id of an answer to a second record."""
    body = {"type": kind, "command_id": command_id, **({"settles_unknown": True} if settles else {}), **fields}
    return record("results", command_id, body, ce_id=f"{command_id}.{aside or ('settlement' if settles else 'result')}")


def sending(attempt: int = 1, command_id: str = "a") -> Message:
    """A claim."""
    return record("ledger", f"{command_id}/sending/{attempt}", {"kind": "sending"})


def settled(attempt: int = 1, command_id: str = "a") -> Message:
    """The end of a command."""
    return record(
        "ledger", f"{command_id}/settled/{attempt}", {"kind": "settled", "result": {"type": "call.initiated"}}
    )


def unsent(attempt: int = 1, command_id: str = "a") -> Message:
    """Proof that an attempt did not dial."""
    return record("ledger", f"{command_id}/unsent/{attempt}", {"kind": "settled", "outcome": {"outcome": "not_sent"}})


def unsure(attempt: int = 1, command_id: str = "a") -> Message:
    """Nobody knows what an attempt came to."""
    return record("ledger", f"{command_id}/unsure/{attempt}", {"kind": "unsure", "result": {"type": "call.unknown"}})


def deferred(command_id: str = "a", *, over: bool = False) -> Message:
    """A command kept for later; `over`: it was taken out again."""
    return record("ledger", f"{command_id}/deferred", None if over else {"kind": "deferred"})


def history(**changes: Any) -> Collected:
    """One command that was dialled once and succeeded, but for `changes`."""
    good: dict[str, Any] = {
        "commands": [command()],
        "results": [result("call.initiated")],
        "ledger": [record("ledger", "fence/x", {"kind": "fence"}), sending(), settled()],
        "letters": [],
        "numbers": {NUMBER: PLACED},
        "requests": 1,
        "ends": {0: 1, 1: 0},
        "committed": {0: 1, 1: 0},
    }
    return Collected(**{**good, **changes})


def found(collected: Collected) -> set[Problem]:
    """The kinds of problems the checker names."""
    return {problem for problem, ids in check(collected).problems.items() if ids}


def two_results(*results: Message) -> Collected:
    """The good history with these results."""
    return history(results=list(results))


GOOD: Mapping[str, Callable[[], Collected]] = {
    "one call": history,
    "the command came twice, and the result again": lambda: history(
        commands=[command(), command()], results=[result("call.initiated"), result("call.initiated")]
    ),
    "429, then a call": lambda: history(
        numbers={NUMBER: Seen(received=2, placed=1, decided={"429": 1, "201": 1})},
        ledger=[sending(), unsent(), sending(2), settled(2)],
        requests=2,
    ),
    "429 until the attempts ran out": lambda: history(
        numbers={NUMBER: Seen(received=2, decided={"429": 2})},
        ledger=[sending(), unsent(), sending(2), unsent(2)],
        results=[result("call.refused")],
        requests=2,
    ),
    "nobody knows": lambda: history(ledger=[sending(), unsure()], results=[result("call.unknown")]),
    "unknown, never read by the provider": lambda: history(
        numbers={}, ledger=[sending(), unsure()], results=[result("call.unknown")]
    ),
    "unknown, then settled, then a late copy of unknown": lambda: history(
        ledger=[sending(), unsure(), settled()],
        results=[
            result("call.unknown"),
            result("call.initiated", settles=True),
            result("call.unknown"),
            result("call.initiated", settles=True),
        ],
    ),
    "expired without a claim": lambda: history(
        numbers={}, requests=0, ledger=[settled(0)], results=[result("call.expired")]
    ),
    "a second record with another body": lambda: history(
        results=[result("call.initiated"), result("call.refused", aside="reused")]
    ),
    "a late claim of an owner that was succeeded": lambda: history(
        numbers={NUMBER: Seen(received=1, decided={"429": 1})},
        ledger=[sending(), unsent(), settled(), sending(2)],
        results=[result("call.refused")],
    ),
    "deferred and taken out": lambda: history(ledger=[deferred(), sending(), settled(), deferred(over=True)]),
    "a dead letter": lambda: history(
        commands=[command()],
        results=[],
        ledger=[],
        numbers={},
        requests=0,
        letters=[record("dead-letters", "a", {"type": "call.place", "command_id": "a"})],
    ),
}

BAD: Mapping[Problem, Callable[[], Iterable[Collected]]] = {
    "dialled twice": lambda: [
        history(numbers={NUMBER: Seen(received=2, placed=2, decided={"201": 2})}, requests=1),
        history(numbers={NUMBER: Seen(received=2, placed=1, decided={"503": 1, "201": 1})}, requests=1),
        history(numbers={NUMBER: Seen(received=2, placed=0, decided={"hang": 1, "404": 1})}, requests=1),
        history(numbers={NUMBER: PLACED, "4915790000009": PLACED}),
    ],
    "lost": lambda: [
        history(results=[]),
        history(commands=[command(), command("b", "4915790000002")]),
        two_results(result("call.refused", aside="reused")),
    ],
    "contradicting results": lambda: [
        two_results(result("call.initiated"), result("call.refused")),
        two_results(result("call.initiated"), result("call.unknown")),
        two_results(result("call.initiated", settles=True)),
        two_results(
            result("call.unknown"), result("call.initiated", settles=True), result("call.refused", settles=True)
        ),
        two_results(result("call.unknown"), result("call.initiated", settles=True), result("call.initiated")),
    ],
    "untrue results": lambda: [
        history(numbers={NUMBER: Seen(received=1, decided={"503": 1})}),
        history(numbers={}),
        two_results(result("call.refused")),
        two_results(result("call.unknown"), result("call.refused", settles=True)),
        two_results(result("call.expired")),
        history(numbers={NUMBER: Seen(received=1, decided={"503": 1})}, results=[result("call.cancelled")]),
    ],
    "claimed again without proof": lambda: [
        history(ledger=[sending(), sending(2), settled(2)]),
        history(ledger=[sending(), unsure(), sending(2), settled(2)]),
        history(ledger=[sending(), sending(2), unsent(), settled(2)]),
        history(ledger=[sending(), unsent(), sending(3), settled(3)]),
    ],
    "dialled without a claim": lambda: [history(ledger=[], requests=0), history(ledger=[settled(0)], requests=0)],
    "more requests than claims": lambda: [history(requests=2)],
    "unknown in spite of evidence": lambda: [
        history(
            numbers={NUMBER: replace(PLACED, told=True)},
            ledger=[sending(), unsure()],
            results=[result("call.unknown")],
        )
    ],
    "settled before unknown": lambda: [
        two_results(result("call.initiated", settles=True), result("call.unknown")),
    ],
    "copies that differ": lambda: [
        two_results(result("call.initiated", settled_by="answer"), result("call.initiated", settled_by="webhook")),
    ],
    "unsettled claims": lambda: [
        history(ledger=[sending()]),
        history(ledger=[sending(), unsent(), sending(2)]),
    ],
    "waiting for ever": lambda: [
        history(ledger=[deferred(), sending(), settled()]),
        history(ledger=[deferred(over=True), sending(), settled(), deferred()]),
    ],
    "offsets not at the end": lambda: [history(committed={0: 0, 1: 0}), history(committed={1: 0})],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories(name: str) -> None:
    """What the promises allow is no problem."""
    assert found(GOOD[name]()) == set()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_bad_histories(problem: Problem) -> None:
    """Each kind of broken promise is named, in each way it can show."""
    for index, bad in enumerate(BAD[problem]()):
        assert problem in found(bad), f"history {index} of {problem}"


def test_what_is_fatal() -> None:
    """A fatal problem makes the run fail, anything else does not."""
    for problem in PROBLEMS:
        findings = [check(bad) for bad in BAD[problem]()]
        if problem in FATAL:
            assert all(each.is_fatal for each in findings), problem
    assert not check(history()).is_fatal
    assert not check(history(committed={})).is_fatal


def test_counts() -> None:
    """Records, commands, duplicates, last words and the share of unknown are those of the history."""
    other = "4915790000002"
    findings = check(
        history(
            commands=[command(), command(), command("b", other), command()],
            results=[result("call.initiated"), result("call.unknown", "b"), result("call.unknown", "b")],
            ledger=[sending(), settled(), sending(1, "b"), unsure(1, "b")],
            numbers={NUMBER: PLACED, other: Seen(received=1, decided={"hang": 1})},
            requests=2,
        )
    )

    assert (findings.records, findings.commands, findings.duplicates, findings.results) == (4, 2, 2, 3)
    assert dict(findings.finals) == {"call.initiated": 1, "call.unknown": 1}
    assert (findings.ever_unknown, findings.share_unknown) == (1, 0.5)
    assert not any(findings.problems.values())
