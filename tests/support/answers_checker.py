"""Count what became of actions and questions, and find every breach of what is promised about them. Pure.

Theory. Each text that a consumer sends is unique, so an answer that the provider received tells which record of actions
it was made of. With that, the records on the topics and the proxy's rows say everything: whether each action has one
result, whether an answer reached another session or a question that was not its own, whether one was done twice, and
whether a question was lost by a replica that lived. A replica that was killed excuses what it held, and nothing else.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["answer", "late", "duplicate", "foreign", "replayed", "unasked", "release"]
NEVER_SAID: frozenset[Kind] = frozenset({"foreign"})
"""Another session's token is no answer to anything. A replayed one may be, where its question never had an answer."""
SAID = frozenset({"delivered", "delivered_late"})
GRACE_SECONDS = 2.0
"""Between an answer and the acknowledgement of its result: so much of a killed replica's last words may be missing."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A record of actions that a consumer put on the topic; `token` is what it answers, `text` what it says."""

    action_id: str
    session: str
    kind: Kind
    token: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A record of action results."""

    ce_id: str
    action_id: str
    session: str
    status: str
    delivered_by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as the proxy saw it: who had it, its status (None: no answer), and the answer's body."""

    session: str
    replica: str | None
    status: int | None
    body: bytes = b""
    ended: float = 0.0
    """When, on the clock of `killed`."""

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Session and text of everything that the answer says."""
        if not self.body:
            return []
        answer = json.loads(self.body)
        actions = answer if isinstance(answer, list) else [answer]
        return [(str(each["session_id"]), str(each["text"])) for each in actions if each.get("type") == "speak"]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    kind: str
    what: str


@dataclass
class Report:
    """What was counted, and what was found."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def add(self, kind: str, what: object) -> None:
        """Note a violation."""
        self.violations.append(Violation(kind, str(what)))

    def lines(self) -> list[str]:
        """For a person."""
        counted = [f"{count:6} {name}" for name, count in sorted(self.counts.items())]
        broken = Counter(violation.kind for violation in self.violations)
        return [*counted, *(f"{count:6} BROKEN {kind}" for kind, count in sorted(broken.items()))]


def check(
    sent: Sequence[Sent], verdicts: Iterable[Verdict], webhooks: Sequence[Webhook], *, killed: Mapping[str, float]
) -> Report:
    """Everything that can be said of a run that is over. `killed`: replicas that were, and when, as in `webhooks`."""
    report = Report()
    results = _results(sent, verdicts, report)
    said = _said(sent, webhooks, report)
    excused = frozenset(each.session for each in webhooks if _was_held(each, killed))
    _compare(sent, results, said, excused, report)
    _questions(webhooks, killed, report)
    return report


def _was_held(webhook: Webhook, killed: Mapping[str, float]) -> bool:
    """Whether a replica was killed over it, or before it could say what it had answered."""
    at = killed.get(webhook.replica or "")
    return at is not None and webhook.ended >= at - GRACE_SECONDS


def _results(sent: Sequence[Sent], verdicts: Iterable[Verdict], report: Report) -> dict[str, Verdict]:
    """The one result of each action; repetitions of one and the same are counted and allowed."""
    known = {each.action_id: each for each in sent}
    found: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        found[verdict.action_id].append(verdict)
        if verdict.action_id not in known:
            report.add("result_of_nothing", verdict)
        elif verdict.session != known[verdict.action_id].session:
            report.add("result_in_another_session", verdict)
    for each in sent:
        several = found.get(each.action_id, [])
        report.counts["actions"] += 1
        report.counts["results repeated"] += max(0, len(several) - 1)
        if not several:
            report.add("no_result", each)
            continue
        distinct = set(several)
        if len(distinct) > 1:
            report.add("several_results", sorted(map(str, distinct)))
        verdict = several[0]
        report.counts[f"{each.kind}: {verdict.status}" + (f" ({verdict.reason})" if verdict.reason else "")] += 1
    return {action_id: several[0] for action_id, several in found.items()}


def _said(sent: Sequence[Sent], webhooks: Sequence[Webhook], report: Report) -> Counter[str]:
    """How often each action's text was given to the provider."""
    by_text = {each.text: each for each in sent if each.text is not None}
    given: list[Sent] = []
    for webhook in webhooks:
        for session, text in webhook.texts:
            action = by_text.get(text)
            if session != webhook.session or (action is not None and action.session != session):
                report.add("crossed", f"{text!r} reached {webhook.session} as {session}")
            if action is None:
                report.add("said_from_nowhere", text)
            else:
                given.append(action)
    _once_each(given, report)
    return Counter(each.action_id for each in given)


def _once_each(given: Sequence[Sent], report: Report) -> None:
    """No action is done twice, no question answered twice, and what is no answer to anything is not said."""
    tokens: dict[str, set[str]] = defaultdict(set)
    for action in given:
        tokens[action.token or action.action_id].add(action.action_id)
        if action.kind in NEVER_SAID:
            report.add(f"{action.kind}_was_said", action)
    for token, actions in tokens.items():
        if len(actions) > 1:
            report.add("one_question_two_answers", f"{len(actions)} for {token[:6]}…")
    for action_id, times in Counter(each.action_id for each in given).items():
        if times > 1:
            report.add("said_twice", f"{action_id} {times} times")


def _compare(
    sent: Sequence[Sent],
    results: dict[str, Verdict],
    said: Counter[str],
    excused: frozenset[str],
    report: Report,
) -> None:
    """Whether results tell the truth about what the provider was given, but where a replica was killed over it."""
    for each in sent:
        verdict = results.get(each.action_id)
        if verdict is None or each.text is None or verdict.delivered_by not in {None, "answer"}:
            continue
        claims, is_so = verdict.status in SAID, bool(said[each.action_id])
        if claims == is_so:
            continue
        kind = "delivered_but_not_said" if claims else "said_but_not_delivered"
        if each.session in excused:
            report.counts[f"{kind}, a replica was killed"] += 1
        else:
            report.add(kind, f"{each} {verdict}")


def _questions(webhooks: Sequence[Webhook], killed: Mapping[str, float], report: Report) -> None:
    """A webhook that a living replica had is answered, with an action or the fallback."""
    for webhook in webhooks:
        report.counts["webhooks"] += 1
        if webhook.texts:
            report.counts["webhooks answered with words"] += 1
        if webhook.status is not None and webhook.status < 300:
            continue
        if _was_held(webhook, killed):
            report.counts["webhooks lost with a killed replica"] += 1
        else:
            report.add("question_lost", f"{webhook.session} at {webhook.replica}: {webhook.status}")
