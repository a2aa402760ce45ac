"""What to type next, while `callbridge demo --keep` leaves everything running: whole lines for a shell with kcat.

It promises that each line works as it is printed (a test runs them). Two things in them are easily forgotten: records
have keys, and the partitioner is the one that Kafka's own clients use, because librdkafka's default puts the same key
elsewhere than they do.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bridge.demo.quickstart import CONNECTION, QuickStart

PRESSES_ONE = "+4915790000688"
ANYBODY = "+4915790000700"
MINE = "me"
COMMENT = "#"


class Step(msgspec.Struct, frozen=True):
    """One line to type and why."""

    why: str
    line: str

    def __str__(self) -> str:
        return f"  {COMMENT} {self.why}\n  {self.line}\n"


def steps(settings: QuickStart) -> Iterator[Step]:
    """The lines, in the order in which they make sense."""
    topics = settings.topics
    host, port = settings.management
    kcat = f"kcat -b {settings.bootstrap}"
    produce = f"{kcat} -P -X partitioner=murmur2_random"
    commands = f"{produce} -t {topics.commands.name}"
    place = f"echo '{_place('demo-2', PRESSES_ONE)}' | {commands} -k demo-2"
    yield Step("one more call: the sample agent answers, the callee presses 1", place)
    yield Step("the same command again: no second dial, the same result again", place)
    yield Step("all results so far", f"{kcat} -C -t {topics.results.name} -o beginning -q -e -f '%k %s\\n'")
    yield Step("what happens in calls, until Ctrl-C", f"{kcat} -C -t {topics.events.name} -o end -q -u -f '%k %s\\n'")
    yield Step(
        "be the agent, in a second terminal: take the token of each call that asks for you, and answer with it",
        f"{kcat} -C -t {topics.events.name} -o end -q -u -X fetch.wait.max.ms=20 -f '%k %s\\n' | {_tokens()}"
        f' | while read -r key token; do {_answer()} | {produce} -t {topics.actions.name} -k "$key"; done',
    )
    mine = _place("demo-3", ANYBODY, f'"metadata":{{"agent":"{MINE}"}}')
    yield Step("a call that asks for you: the sample agent leaves it alone", f"echo '{mine}' | {commands} -k demo-3")
    yield Step("is it ready, and what has it counted", f"curl http://{host}:{port}/readyz http://{host}:{port}/metrics")


def _place(command_id: str, number: str, *more: str) -> str:
    fields = ('"type":"call.place"', f'"command_id":"{command_id}"', f'"connection":"{CONNECTION}"', f'"to":"{number}"')
    return "{" + ",".join([*fields, *more]) + "}"


def _tokens() -> str:
    """Of the first event of each call of ours its key and its token; anything faster than typing must do that."""
    return rf"""sed -un 's/^\([^ ]*\) .*"session.started".*"agent":"{MINE}".*"token":"\([^"]*\)".*/\1 \2/p'"""


def _answer() -> str:
    said = r"{\"type\":\"speak\",\"text\":\"Hello from a shell.\"}"
    return rf'echo "{{\"in_reply_to\":\"$token\",\"actions\":[{said}]}}"'
