"""A campaign in words: the seed, what was done, what the checker found, how long partitions stood still."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from tests.faults.campaign import SESSION_SECONDS, Done
from tests.faults.history import FATAL, PROBLEMS, Collected, Findings
from tests.support.kafka_tools import Message

SHOWN = 5


def report(done: Done, recovery: Sequence[float]) -> str:
    """Markdown."""
    assert done.findings is not None
    assert done.collected is not None
    lines = [f"# Fault campaign, seed {done.settings.seed}", ""]
    lines += [*_summary(done, done.findings), "", *_faults(done), "", *_findings(done.findings), ""]
    lines += [*_recovery(recovery), "", *_ends(done)]
    lines += _stories(done.findings, done.collected)
    return "\n".join(lines) + "\n"


def is_good(findings: Findings) -> bool:
    """Whether nothing was found."""
    return not any(findings.problems.values())


def _summary(done: Done, findings: Findings) -> Iterator[str]:
    settings = done.settings
    yield "`0 dialled twice, 0 lost, 0 contradictions`" if not findings.is_fatal else "**A promise is broken.**"
    yield ""
    yield f"- command: `python -m tests.faults --seed {settings.seed} --commands {settings.commands} --faults {settings.faults} --replicas {settings.replicas} --rate {settings.rate:g}`"
    yield f"- {findings.commands} commands in {findings.records} records ({findings.duplicates} duplicates), {findings.results} results"
    yield f"- {settings.replicas} replicas (± {2}), {settings.partitions} partitions, session time-out {SESSION_SECONDS:g} s, Apache Kafka, one node"
    yield f"- {total(done)} faults; {done.sent_seconds:.0f} s of commands, {done.seconds:.0f} s in all"
    yield f"- last words: {_counts(findings.finals)}"
    yield f"- unknown at the end: {findings.share_unknown:.2%} of the commands; unknown at some time: {findings.ever_unknown}"


def total(done: Done) -> int:
    """All faults that were met or done."""
    return sum(done.faults.values())


def _faults(done: Done) -> Iterator[str]:
    yield "## Faults by kind"
    yield ""
    yield "| fault | count |"
    yield "| --- | ---: |"
    for name, count in sorted(done.faults.items()):
        yield f"| {name} | {count} |"
    if done.skipped:
        yield ""
        yield f"Planned, but there was nobody to do it to, or no request to do it with: {_counts(done.skipped)}."


def _findings(findings: Findings) -> Iterator[str]:
    yield "## What the history checker found"
    yield ""
    yield "| problem | count | |"
    yield "| --- | ---: | --- |"
    for name in PROBLEMS:
        found = findings.problems[name]
        yield f"| {name}{' (fatal)' if name in FATAL else ''} | {len(found)} | {', '.join(found[:SHOWN])} |"


def _recovery(seconds: Sequence[float]) -> Iterator[str]:
    yield "## From a kill to the next dial of an orphaned partition"
    yield ""
    if not seconds:
        yield "No replica that owned a partition was killed."
        return
    ordered = sorted(seconds)
    p90 = ordered[int(0.9 * (len(ordered) - 1))]
    yield (
        f"{len(ordered)} partitions: median {statistics.median(ordered):.1f} s, 90 % within {p90:.1f} s, "
        f"longest {ordered[-1]:.1f} s (session time-out {SESSION_SECONDS:g} s; other faults at the same time included)."
    )


def _ends(done: Done) -> Iterator[str]:
    yield "## Ends of replicas"
    yield ""
    yield f"Told to stop: {_counts({f'exit code {code}': count for code, count in done.removals.items()}) or 'none'}."
    yield f"Ended by themselves or not with 0: {len(done.own_ends)}."


def _stories(findings: Findings, collected: Collected) -> Iterator[str]:
    """For each problem the records of one command that shows it."""
    for name in PROBLEMS:
        for command_id in findings.problems[name][:1]:
            yield ""
            yield f"## {name}: {command_id}"
            yield ""
            yield from (f"    {line}" for line in _story(command_id, collected))


def _story(command_id: str, collected: Collected) -> Iterator[str]:
    for messages in (collected.commands, collected.ledger, collected.results):
        for message in messages:
            if _is_about(message, command_id):
                value = (message.value or b"erased").decode("utf-8", "replace")
                yield f"{message.topic.rpartition('-')[2]} {message.partition}/{message.offset} {message.key!r} {value}"
    number = next((m.json["to"].lstrip("+") for m in collected.commands if m.json["command_id"] == command_id), "")
    yield f"provider: {collected.numbers.get(number)}"


def _is_about(message: Message, command_id: str) -> bool:
    if (message.key or b"").decode("utf-8", "replace").startswith(f"{command_id}/"):
        return True
    return bool(message.value) and message.json.get("command_id") == command_id


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
