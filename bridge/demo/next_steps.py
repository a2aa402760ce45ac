"""What to type next, while `callbridge demo --keep` leaves everything running: whole lines for a shell with kcat.

It promises that each line works as it is printed (a test runs them), also where kcat is missing or too old: then the
first line is a stand-in. Two things in the lines are easily forgotten: records have keys, and the partitioner is that
of Kafka's own clients, because the default of kcat's library puts the same key elsewhere than they do.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from bridge.demo.plays import Mine, Play
from bridge.demo.quickstart import CONNECTION, QuickStart

MINE = "me"
ASK_SECONDS = 2

# librdkafka before 2.2 (Debian 12 has 2.0.2) miscounts tagged fields and can't read the quick-start broker's greeting.
_STAND_IN = f"""kcat() {{ '{sys.executable}' -m bridge.demo.kcat "$@"; }}"""


class NextStep(msgspec.Struct, frozen=True):
    """One line to type and why."""

    why: str
    line: str

    def __str__(self) -> str:
        return f"  # {self.why}\n  {self.line}\n"


def next_steps(settings: QuickStart, play: Play) -> Iterator[NextStep]:
    """The lines, in the order in which they make sense."""
    if not _kcat_works(settings.bootstrap):
        why = "in each terminal first, because kcat is missing here or too old (librdkafka before 2.2): a stand-in"
        yield NextStep(why, _STAND_IN)
    topics = settings.topics
    produce = f"kcat -b {settings.bootstrap} -P -X partitioner=murmur2_random"
    consume = f"kcat -b {settings.bootstrap} -C -q -u -f '%k %s\\n'"
    number, story = play.more
    place = f"echo '{_command('demo-2', number)}' | {produce} -t {topics.commands.name} -k demo-2"
    yield NextStep(f"one more call: {story}", place)
    yield NextStep("the same command again: no second dial, the same result again", place)
    yield NextStep("all results so far", f"{consume} -t {topics.results.name} -o beginning -e")
    yield NextStep("what happens in calls, until Ctrl-C", f"{consume} -t {topics.events.name} -o end")
    if play.mine is not None:
        listen = f"{consume} -X fetch.wait.max.ms=20 -t {topics.events.name} -o end | {_to_actions(play.mine)}"
        act = f"""while read -r key actions; do echo "$actions" | {produce} -t {topics.actions.name} -k "$key"; done"""
        what = "take the token of each call that asks for you, and answer with it"
        what = what if play.mine.answers else "hang up each call of yours when it is answered, although nobody asks"
        yield NextStep(f"be the agent, until Ctrl-C: {what}", f"{listen} | {act}")
        mine = _command("demo-3", play.mine.number, f'"metadata":{{"agent":"{MINE}"}}')
        why = "a call that asks for you, from another terminal: the sample agent leaves it alone"
        yield NextStep(why, f"echo '{mine}' | {produce} -t {topics.commands.name} -k demo-3")
    host, port = settings.management
    yield NextStep(
        "is it ready, and what has it counted", f"curl http://{host}:{port}/readyz http://{host}:{port}/metrics"
    )


def _to_actions(mine: Mine) -> str:
    """Of the event's line key and token, made into an answer: typing takes longer than the provider waits.

    A kcat for each answer, because kcat reads a pipe in blocks and would hold a single line back.
    """
    token, reply = (r'"token":"\([^"]*\)".*', r'"in_reply_to":"\2",') if mine.answers else ("", "")
    found = rf"""^\([^ ]*\) .*"{mine.event}".*"agent":"{MINE}".*{token}"""
    return rf"""sed -un 's/{found}/\1 {{{reply}"actions":{mine.actions}}}/p'"""


def _command(command_id: str, number: str, *more: str) -> str:
    fields = ('"type":"call.place"', f'"command_id":"{command_id}"', f'"connection":"{CONNECTION}"', f'"to":"{number}"')
    return "{" + ",".join([*fields, *more]) + "}"


def _kcat_works(bootstrap: str) -> bool:
    """Whether there is a kcat, and the broker and it understand each other."""
    kcat = shutil.which("kcat")
    if kcat is None:
        return False
    command = [kcat, "-b", bootstrap, "-L", "-m", str(ASK_SECONDS)]
    return subprocess.run(command, capture_output=True, timeout=10 * ASK_SECONDS, check=False).returncode == 0  # noqa: S603 - as found on the path
