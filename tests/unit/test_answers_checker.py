"""The checker of answers finds each violation, one by one, in a run that is otherwise in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from tests.support.answers_checker import Report, Sent, Verdict, Webhook, check


def spoken(session: str, *texts: str) -> bytes:
    """An answer's body."""
    return json.dumps([{"type": "speak", "session_id": session, "text": text} for text in texts]).encode()


@dataclass
class Run:
    """One that is in order: two sessions, an answer each, a duplicate, a foreign and a late one, a release."""

    sent: list[Sent] = field(
        default_factory=lambda: [
            Sent("a1", "s1", "answer", "t1", "one"),
            Sent("a2", "s2", "answer", "t2", "two"),
            Sent("a3", "s1", "duplicate", "t1", "again"),
            Sent("a4", "s1", "foreign", "t9", "strange"),
            Sent("a5", "s2", "late", "t3", "late"),
            Sent("a6", "s2", "release", "t4"),
        ]
    )
    verdicts: list[Verdict] = field(
        default_factory=lambda: [
            Verdict("0.result", "a1", "s1", "delivered", "answer"),
            Verdict("1.result", "a2", "s2", "delivered", "answer"),
            Verdict("2.result", "a3", "s1", "superseded", None, "another_answer_came_first"),
            Verdict("3.result", "a4", "s1", "rejected", None, "token_not_genuine"),
            Verdict("4.result", "a5", "s2", "delivered_late", "answer"),
            Verdict("5.result", "a6", "s2", "delivered", "answer"),
        ]
    )
    webhooks: list[Webhook] = field(
        default_factory=lambda: [
            Webhook("s1", "r1", 200, spoken("s1", "one")),
            Webhook("s2", "r2", 200, spoken("s2", "two")),
            Webhook("s2", "r2", 204),
            Webhook("s2", "r1", 200, spoken("s2", "late")),
        ]
    )

    def check(self, **killed: float) -> Report:
        """What the checker says."""
        return check(self.sent, self.verdicts, self.webhooks, killed=killed)


def found(run: Run, **killed: float) -> list[str]:
    """Kinds of violations."""
    return [violation.kind for violation in run.check(**killed).violations]


def test_a_run_in_order() -> None:
    """Nothing is found, and everything is counted."""
    report = Run().check()
    assert report.violations == []
    assert report.counts["actions"] == 6
    assert report.counts["duplicate: superseded (another_answer_came_first)"] == 1
    assert (report.counts["webhooks"], report.counts["webhooks answered with words"]) == (4, 3)
    assert "     6 actions" in report.lines()


def drop_a_result(run: Run) -> None:
    """No verdict."""
    del run.verdicts[2]


def add_another_result(run: Run) -> None:
    """Two verdicts that differ."""
    run.verdicts.append(replace(run.verdicts[2], status="expired", reason="too_late"))


def put_a_result_elsewhere(run: Run) -> None:
    """The right action, the wrong session."""
    run.verdicts[2] = replace(run.verdicts[2], session="s2")


def invent_a_result(run: Run) -> None:
    """Of an action that nobody sent."""
    run.verdicts.append(Verdict("9.result", "a9", "s1", "expired"))


def cross(run: Run) -> None:
    """An answer in another session's request."""
    run.webhooks[0], run.webhooks[1] = (
        replace(run.webhooks[0], body=spoken("s1", "two")),
        replace(run.webhooks[1], body=spoken("s2", "one")),
    )


def name_another_session(run: Run) -> None:
    """The answer's own words name another session than the request did."""
    run.webhooks[0] = replace(run.webhooks[0], body=spoken("s2", "one"))


def say_a_foreign_one(run: Run) -> None:
    """An answer with another session's token was used all the same."""
    run.webhooks.append(Webhook("s1", "r1", 200, spoken("s1", "strange")))
    run.verdicts[3] = replace(run.verdicts[3], status="delivered", reason=None)


def say_a_replayed_one(run: Run) -> None:
    """A token that had been used was used again, for whatever question."""
    run.sent[3] = replace(run.sent[3], kind="replayed", token="t1")
    say_a_foreign_one(run)


def say_a_duplicate(run: Run) -> None:
    """Both answers to one question were given."""
    run.webhooks.append(Webhook("s1", "r1", 200, spoken("s1", "again")))
    run.verdicts[2] = replace(run.verdicts[2], status="delivered", reason=None)


def say_twice(run: Run) -> None:
    """One action was done two times."""
    run.webhooks.append(Webhook("s1", "r2", 200, spoken("s1", "one")))


def say_what_nobody_sent(run: Run) -> None:
    """Words out of nowhere."""
    run.webhooks.append(Webhook("s1", "r2", 200, spoken("s1", "boo")))


def claim_too_much(run: Run) -> None:
    """Delivered, but the provider never had it."""
    run.webhooks[3] = Webhook("s2", "r1", 204)


def claim_too_little(run: Run) -> None:
    """The provider had it, and the result denies it."""
    run.verdicts[4] = replace(run.verdicts[4], status="expired", delivered_by=None)


def lose_a_question(run: Run) -> None:
    """A living replica gave no answer."""
    run.webhooks.append(Webhook("s1", "r1", None))


def refuse_a_question(run: Run) -> None:
    """A living replica refused."""
    run.webhooks.append(Webhook("s1", "r1", 503))


def find_no_replica(run: Run) -> None:
    """Nobody took it."""
    run.webhooks.append(Webhook("s1", None, None))


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (drop_a_result, "no_result"),
        (add_another_result, "several_results"),
        (put_a_result_elsewhere, "result_in_another_session"),
        (invent_a_result, "result_of_nothing"),
        (cross, "crossed"),
        (name_another_session, "crossed"),
        (say_a_foreign_one, "foreign_was_said"),
        (say_a_replayed_one, "one_question_two_answers"),
        (say_a_duplicate, "one_question_two_answers"),
        (say_twice, "said_twice"),
        (say_what_nobody_sent, "said_from_nowhere"),
        (claim_too_much, "delivered_but_not_said"),
        (claim_too_little, "said_but_not_delivered"),
        (lose_a_question, "question_lost"),
        (refuse_a_question, "question_lost"),
        (find_no_replica, "question_lost"),
    ],
)
def test_each_violation_is_found(harm: Callable[[Run], None], kind: str) -> None:
    """What is done to the run is what is found, and nothing else."""
    run = Run()
    harm(run)
    assert set(found(run)) == {kind}


def test_the_same_result_again_is_no_second_one() -> None:
    """A result that was published twice is counted, and allowed."""
    run = Run()
    run.verdicts.append(run.verdicts[0])
    report = run.check()
    assert report.violations == []
    assert report.counts["results repeated"] == 1


def test_a_killed_replica_excuses_what_it_held() -> None:
    """Its last questions, and what results say of their sessions; nothing older, no other replica's, no crossed answer."""
    run = Run()
    run.webhooks.append(Webhook("s2", "r9", None, ended=100.0))
    claim_too_much(run)
    assert found(run, r9=100.1) == []
    assert sorted(found(run, r9=110.0)) == ["delivered_but_not_said", "question_lost"]
    assert sorted(found(run, r2=100.1)) == ["delivered_but_not_said", "question_lost"]
    cross(run)
    assert "crossed" in found(run, r9=100.1)
