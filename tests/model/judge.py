"""What must hold, said of the whole log as it was written, whatever compaction left of it and whoever has read it.

The judge uses no rule of the ledger. It names only what it is told to watch.
"""

from __future__ import annotations

from bridge.ledger.records import Fence, Record, Sending, Settled, Unsure
from bridge.model.outcome import Accepted, Refused
from tests.model.facts import COMMANDS, FACTS
from tests.model.knowledge import Log
from tests.model.world import World

TWICE = "a command is dialled while an earlier request for it may have dialled"
UNCOUNTED = "a dial without an acknowledged claim in front of every later fence"
DOUBT = "a dial of a command of which the log in front of the claim holds a claim, a doubt or an end"
"""But for what a former owner says behind the claimant's fence, without knowledge: it cannot have been told."""
CONTRADICTION = "two results of one command contradict each other"
DENIAL = "a result says that nothing was dialled, of a command for which a request may have dialled"
ONE_ID = "two different results are published under one event id"
BROKEN = "the process ends, because the ledger is not as the lane thinks"

SAFETY = frozenset({TWICE, UNCOUNTED, DOUBT})
HONESTY = frozenset({CONTRADICTION, DENIAL, ONE_ID, BROKEN})
ALL = SAFETY | HONESTY


class Judge:
    """Looks at each dial and at each publication."""

    def __init__(self, watched: frozenset[str] = ALL, *, reads_results: bool = False) -> None:
        self._watched = watched
        self.reads_results = reads_results or bool(watched & HONESTY)
        """Whether what is published matters; where it does not, states that differ in nothing else are one."""
        self._results: dict[tuple[int, int], str | None] = {}

    def dial(self, world: World, claim: tuple[int, int], owner: str, fence: int) -> str | None:
        """A request leaves for a claim `(fact, offset)` of an owner whose fence stands at `fence`."""
        fact, offset = claim
        which = COMMANDS.index(FACTS.all[fact].command_id or "")
        found = {
            TWICE: bool(world.dialled >> which & 1),
            UNCOUNTED: offset < 0 or any(_is_foreign_fence(each, owner) for each in world.log[fence + 1 : offset]),
            DOUBT: _over_doubt(world.log[:fence], world.log[fence : None if offset < 0 else offset], fact),
        }
        return next((name for name, is_so in found.items() if is_so and name in self._watched), None)

    def results(self, world: World) -> str | None:
        """All that was published until now, and what was dialled."""
        question = (world.published, world.dialled)
        if question not in self._results:
            broken = {name for index in range(len(COMMANDS)) for name in _results_broken(world, index)}
            self._results[question] = min(broken & self._watched, default=None)
        return self._results[question]

    def process_broken(self) -> str | None:
        """A lane ends the process."""
        return BROKEN if BROKEN in self._watched else None


def _results_broken(world: World, which: int) -> set[str]:
    results = [each for each in FACTS.published(world.published) if each.command_id == COMMANDS[which]]
    ends = {each.kind for each in results} - {"call.unknown"}
    broken: set[str] = set()
    if len(ends) > 1:
        broken.add(CONTRADICTION)
    if any(each.denies for each in results) and world.dialled >> which & 1:
        broken.add(DENIAL)
    if len({each.event_id for each in results}) < len({(each.event_id, each.kind) for each in results}):
        broken.add(ONE_ID)
    return broken


def _over_doubt(before: Log, behind: Log, claim: int) -> bool:
    """Whether something before the claimant's fence, or behind it in front of the claim, forbids the claim."""
    record = FACTS.all[claim].record
    assert isinstance(record, Sending)
    known = [FACTS.all[fact].record for fact in (*before, *behind) if FACTS.all[fact].command_id == record.command_id]
    untold = [FACTS.all[fact].record for fact in behind if fact not in before]
    not_sent = {each.attempt for each in known if isinstance(each, Settled) and each.result is None}
    return any(
        (_says_an_end(each) and not (_is_no_knowledge(each, record) and each in untold))
        or (isinstance(each, Sending) and not _same(each, record) and each.attempt not in not_sent)
        for each in known
    )


def _says_an_end(record: Record | None) -> bool:
    return isinstance(record, Unsure) or (isinstance(record, Settled) and record.result is not None)


def _is_no_knowledge(end: Record | None, claim: Sending) -> bool:
    """Whether this is an end without a dial, or a doubt, by somebody else who came before."""
    knows = isinstance(end, Settled) and isinstance(end.outcome, Accepted | Refused)
    return isinstance(end, Settled | Unsure) and not knows and end.epoch < claim.epoch


def _same(one: Sending, other: Sending) -> bool:
    return one.epoch == other.epoch and one.attempt == other.attempt


def _is_foreign_fence(fact: int, owner: str) -> bool:
    record = FACTS.all[fact].record
    return isinstance(record, Fence) and record.owner != owner
