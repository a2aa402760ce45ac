"""The history checker: from what the provider saw and what stands on the topics, what became of each command.

Promises to be pure and to know nothing of the gateway's code: it reads messages, keys and the simulator's counters, and
names every command that breaks a promise. Collecting is in `collect`; what may be broken is decided by the caller.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from tests.support.kafka_tools import Message

Problem: TypeAlias = Literal[
    "dialled twice",  # more requests for a number that may have dialled than commands that name it
    "lost",  # neither a result nor a dead letter
    "contradicting results",  # two ends that cannot both be true
    "untrue results",  # a result that the provider's counters belie
    "claimed again without proof",  # a second attempt, and nothing says that the first was not sent
    "dialled without a claim",  # a request for a number of which the ledger knows nothing
    "more requests than claims",  # in all, requests of which only the beginning was read included
    "unknown in spite of evidence",  # a webhook named the call certainly, and no settlement was published
    "settled before unknown",  # a settlement that nothing unknown stands in front of
    "copies that differ",  # under one ce_id
    "unsettled claims",  # a claim of which the ledger does not say what it came to
    "waiting for ever",  # a deferred command that nobody took out of the ledger
    "offsets not at the end",
]
PROBLEMS: tuple[Problem, ...] = get_args(Problem)
FATAL: frozenset[Problem] = frozenset(
    {
        "dialled twice",
        "lost",
        "contradicting results",
        "untrue results",
        "claimed again without proof",
        "dialled without a claim",
        "more requests than claims",
    }
)
"""What no run may show; the rest says that a run has not come to rest, or that more was possible."""

NOT_EXECUTED = frozenset({"429"})
"""What the simulator decided where a request was provably not carried out."""
_ASIDE = (".reused", ".cancel")
"""Ends of a `ce_id` that answer a second record under a known id, and are no end of the command."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the provider saw of one number. `told`: a webhook that names the call was acknowledged."""

    received: int = 0
    placed: int = 0
    decided: Mapping[str, int] = field(default_factory=dict)
    told: bool = False

    @property
    def may_have_dialled(self) -> int:
        """Requests that were not provably left alone."""
        return self.received - sum(self.decided.get(each, 0) for each in NOT_EXECUTED)


@dataclass(frozen=True, slots=True)
class Collected:
    """Everything the checker looks at. `numbers` are digits without `+`; `requests`: begun, read whole or not."""

    commands: Sequence[Message]
    results: Sequence[Message]
    ledger: Sequence[Message]
    letters: Sequence[Message]
    numbers: Mapping[str, Seen]
    requests: int
    ends: Mapping[int, int]
    committed: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Findings:
    """What the checker says: counts, and for each problem the ids (or partitions) that show it."""

    records: int
    commands: int
    finals: Mapping[str, int]
    """Commands by their last word; `nothing` where there is none."""
    ever_unknown: int
    results: int
    problems: Mapping[Problem, Sequence[str]]

    @property
    def duplicates(self) -> int:
        """Records beyond the first of each command."""
        return self.records - self.commands

    @property
    def share_unknown(self) -> float:
        """Commands of which nobody knows what became, of all."""
        return self.finals.get("call.unknown", 0) / max(1, self.commands)

    @property
    def is_fatal(self) -> bool:
        """Whether a promise is broken."""
        return any(self.problems.get(each) for each in FATAL)

    def __str__(self) -> str:
        shown = {name: list(found[:5]) for name, found in self.problems.items() if found}
        return f"{self.commands} commands in {self.records} records, {dict(self.finals)}: {shown or 'no problem'}"


def check(collected: Collected) -> Findings:
    """Judge a run that has come to rest."""
    callees = _callees(collected.commands)
    told = _told(collected.results)
    claims = _Claims(collected.ledger)
    buried = {letter.json["command_id"] for letter in collected.letters if b"command_id" in (letter.value or b"")}
    problems: dict[Problem, list[str]] = {name: [] for name in PROBLEMS}
    for command_id, number in callees.items():
        seen = collected.numbers.get(number, Seen())
        results = told.get(command_id, [])
        if not results and command_id not in buried:
            problems["lost"].append(command_id)
        for problem in (*_of_results(results), *_of_provider(results, seen), *claims.problems_of(command_id, seen)):
            problems[problem].append(command_id)
    problems["dialled twice"] = _dialled_twice(callees, collected.numbers)
    if collected.requests > claims.count:
        problems["more requests than claims"] = [f"{collected.requests} requests, {claims.count} claims"]
    problems["offsets not at the end"] = [
        f"partition {partition}: {collected.committed.get(partition, 0)} of {end}"
        for partition, end in collected.ends.items()
        if collected.committed.get(partition, 0) != end
    ]
    return Findings(
        records=len(collected.commands),
        commands=len(callees),
        finals=Counter(_last_word(told.get(command_id, [])) for command_id in callees),
        ever_unknown=sum(any(each.type == "call.unknown" for each in results) for results in told.values()),
        results=len(collected.results),
        problems=problems,
    )


def _callees(commands: Iterable[Message]) -> dict[str, str]:
    """The number of each command to place a call."""
    bodies = (message.json for message in commands)
    return {body["command_id"]: body["to"].lstrip("+") for body in bodies if body["type"] == "call.place"}


def _dialled_twice(callees: Mapping[str, str], numbers: Mapping[str, Seen]) -> list[str]:
    """Numbers with more requests that may have dialled than commands that name them; strangers' numbers too."""
    allowed = Counter(callees.values())
    return [number for number, seen in numbers.items() if seen.may_have_dialled > allowed[number]]


# -- results ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Told:
    """One record on the results topic."""

    ce_id: str
    type: str
    settles: bool
    value: bytes | None


def _told(results: Iterable[Message]) -> dict[str, list[_Told]]:
    """Results by command, in the order of the log, without what was said aside."""
    by_id: dict[str, list[_Told]] = defaultdict(list)
    for message in sorted(results, key=lambda each: each.place):
        body: Mapping[str, Any] = message.json
        if not message.ce_id.endswith(_ASIDE):
            told = _Told(message.ce_id, message.type, bool(body.get("settles_unknown")), message.value)
            by_id[body["command_id"]].append(told)
    return by_id


def _last_word(results: Sequence[_Told]) -> str:
    """The settlement where there is one: a late copy of `call.unknown` says nothing new."""
    if not results:
        return "nothing"
    return next((each.type for each in results if each.type != "call.unknown"), "call.unknown")


def _of_results(results: Sequence[_Told]) -> Iterator[Problem]:
    """What is wrong with one command's results among themselves."""
    unknown = [index for index, each in enumerate(results) if each.type == "call.unknown"]
    settled = [index for index, each in enumerate(results) if each.settles]
    kinds = {each.type for each in results if not each.settles}
    if len(kinds) > 1 or len({results[index].type for index in settled}) > 1 or (settled and not unknown):
        yield "contradicting results"
    elif settled and settled[0] < unknown[0]:
        yield "settled before unknown"
    if len({(each.ce_id, each.value) for each in results}) > len({each.ce_id for each in results}):
        yield "copies that differ"


def _of_provider(results: Sequence[_Told], seen: Seen) -> Iterator[Problem]:
    """What the provider's counters say against one command's results."""
    word = _last_word(results)
    is_false = {
        "call.initiated": seen.placed == 0,
        "call.refused": seen.placed > 0,
        "call.expired": seen.may_have_dialled > 0,
        "call.cancelled": seen.may_have_dialled > 0,
    }
    if is_false.get(word, False):
        yield "untrue results"
    if word == "call.unknown" and seen.told:
        yield "unknown in spite of evidence"


# -- the ledger -------------------------------------------------------------------------------------------------------


class _Claims:
    """The ledger by its keys, in the order of the log. Not read with the gateway's own code, on purpose."""

    def __init__(self, ledger: Iterable[Message]) -> None:
        self._claimed: dict[str, set[int]] = defaultdict(set)
        self._not_sent: dict[str, set[int]] = defaultdict(set)
        self._at_end: set[str] = set()
        self._waiting: set[str] = set()
        self._again_without_proof: set[str] = set()
        for message in sorted(ledger, key=lambda each: each.place):
            self._take(message)

    @property
    def count(self) -> int:
        """How many requests were claimed."""
        return sum(map(len, self._claimed.values()))

    def problems_of(self, command_id: str, seen: Seen) -> Iterator[Problem]:
        """What the ledger says against one command."""
        if command_id in self._again_without_proof:
            yield "claimed again without proof"
        if command_id not in self._at_end and self._claimed[command_id] - self._not_sent[command_id]:
            yield "unsettled claims"
        if command_id in self._waiting:
            yield "waiting for ever"
        if seen.received and not self._claimed[command_id]:
            yield "dialled without a claim"

    def _take(self, message: Message) -> None:
        key = (message.key or b"").decode()
        if key.endswith("/deferred"):
            change = self._waiting.discard if message.value is None else self._waiting.add
            change(key.removesuffix("/deferred"))
            return
        command_id, _, rest = key.rpartition("/")
        command_id, _, kind = command_id.rpartition("/")
        if message.value is None or kind not in {"sending", "settled", "unsent", "unsure"}:
            return  # a fence, or something that is past the deduplication window
        self._take_attempt(command_id, kind, int(rest), message.json)

    def _take_attempt(self, command_id: str, kind: str, attempt: int, record: Mapping[str, Any]) -> None:
        if kind == "sending":
            self._claimed[command_id].add(attempt)
            if not set(range(1, attempt)) <= self._not_sent[command_id]:
                self._again_without_proof.add(command_id)
            return
        if kind == "unsent":
            self._not_sent[command_id].add(attempt)
        elif record.get("result"):
            self._at_end.add(command_id)
