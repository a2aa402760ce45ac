"""Small changes of a world, each a new one."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.ledger.records import Deferred, Sending
from tests.model.facts import COMMANDS, FACTS
from tests.model.stage import Do
from tests.model.world import Job, Owner, Status, World

FREE = Job()
ENDED = Owner(Status.ENDED)


def ended(world: World, index: int, kept: int = -1) -> World:
    """The lane was succeeded: what it has sent is still on its way, what it dials goes on. It may keep what it knows."""
    for job in world.owners[index].jobs:
        if job.script and job.script[0][0] is Do.DIAL:
            world = world._replace(orphans=tuple(sorted((*world.orphans, job.script[0][1]))))
        elif job.script and job.script[0][0] in {Do.WRITE, Do.CLAIM} and job.offset < 0:
            world = sent_away(world, job.script[0][1])
    return put(world, index, ENDED._replace(knowledge=kept))


def noted(owner: Owner, which: int, line: tuple[Do, int]) -> Owner:
    """What a lane keeps in mind."""
    do, detail = line
    match do:
        case Do.SCHEDULE:
            return owner._replace(timers=owner.timers | 1 << which)
        case Do.SETTLED:
            return owner._replace(doubts=(*owner.doubts[:which], -1, *owner.doubts[which + 1 :]))
        case _:
            return doubting(owner, (detail,))


def doubting(owner: Owner, claims: Iterable[int]) -> Owner:
    """Doubting a claim again, or an earlier one, changes nothing (`Recovery.add`)."""
    doubts = list(owner.doubts)
    for claim in claims:
        which = COMMANDS.index(FACTS.all[claim].command_id or "")
        if _attempt(claim) > _attempt(doubts[which]):
            doubts[which] = claim
    return owner._replace(doubts=tuple(doubts))


def _attempt(claim: int) -> int:
    record = FACTS.all[claim].record if claim >= 0 else None
    return record.attempt if isinstance(record, Sending) else -1


def bits(command_ids: Iterable[str]) -> int:
    """Commands as bits."""
    return sum(1 << COMMANDS.index(each) for each in set(command_ids))


def put(world: World, index: int, owner: Owner) -> World:
    """With this owner."""
    return world._replace(owners=(*world.owners[:index], owner, *world.owners[index + 1 :]))


def with_owner(world: World, index: int, **changed: int) -> World:
    """With an owner who differs in this."""
    return put(world, index, world.owners[index]._replace(**changed))  # type: ignore[arg-type]


def with_job(world: World, index: int, which: int, job: Job) -> World:
    """With this job of an owner."""
    jobs = world.owners[index].jobs
    return put(world, index, world.owners[index]._replace(jobs=(*jobs[:which], job, *jobs[which + 1 :])))


def sent_away(world: World, fact: int) -> World:
    """With a record under way that nobody waits for."""
    return world._replace(late=tuple(sorted((*world.late, fact))))


def without(facts: tuple[int, ...], fact: int) -> tuple[int, ...]:
    """One of them less."""
    at = facts.index(fact)
    return (*facts[:at], *facts[at + 1 :])


def is_claim(fact: int, command_id: str) -> bool:
    """Whether a record claims this command."""
    entry = FACTS.all[fact]
    return isinstance(entry.record, Sending) and entry.command_id == command_id


def is_deferral(fact: int, which: int) -> bool:
    """Whether a record defers this command."""
    entry = FACTS.all[fact]
    return isinstance(entry.record, Deferred) and entry.command_id == COMMANDS[which]
