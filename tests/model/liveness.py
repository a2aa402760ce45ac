"""Does every command come to a result? From every state that can be reached, with nothing going wrong from there on.

Two futures are tried: the present owner goes on alone, and a fresh owner takes over from whatever stands in the log (one
that knows nothing, and one that goes on from what its process has kept). A
command that some lane has finished with is not brought back by anybody: its offset may be committed. A lane that has
been succeeded, or has ended, is well: the fresh owner is its future. Sooner or later a lane writes something, and then
it sees what others have written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bridge.ledger.records import Fence
from tests.model.changes import ENDED
from tests.model.facts import COMMANDS, FACTS
from tests.model.protocol import Protocol
from tests.model.world import OWNERS, Flow, Label, Status, Step, World


class Stuck(NamedTuple):
    """A state from which a command never comes to a result, and what happens from there."""

    world: World
    future: tuple[Label, ...]


def find_stuck(protocol: Protocol, worlds: Iterable[World]) -> Stuck | None:
    """The first of these states that has no good future."""
    good: set[World] = set()
    for world in worlds:
        for future in (world, *_abandoned(protocol, world)):
            stuck = _follow(protocol, future, good)
            if stuck is not None:
                return Stuck(world, stuck)
    return None


def _follow(protocol: Protocol, world: World, good: set[World]) -> tuple[Label, ...] | None:
    """Go on until nothing is left to do; None if that is a good end."""
    passed: dict[World, Label] = {}
    while world not in good:
        step = next(_alone(protocol, world), None)
        if step is None and not _is_well(protocol, world):
            return tuple(passed.values())
        if step is None:
            break
        if world in passed:
            return tuple(passed.values())
        passed[world] = step.label
        world = step.world
    good.update(passed, (world,))
    return None


def _abandoned(protocol: Protocol, world: World) -> Iterator[World]:
    """Everybody is gone, with all that was under way; somebody else starts, perhaps in a process that was there before."""
    gone = world._replace(owners=(ENDED,) * len(world.owners), late=(), orphans=())
    yield protocol.start(gone).world
    if protocol.bounds.keeps:
        kept = {owner.knowledge for owner in world.owners if owner.status is not Status.OPENING}
        yield from (protocol.start(gone, kept=each).world for each in sorted(kept) if each >= 0)


def _is_well(protocol: Protocol, world: World) -> bool:
    """Every command has a result, or there is no present owner."""
    told = {each.command_id for each in FACTS.published(world.published)}
    return _present(world) < 0 or told.issuperset(COMMANDS[: protocol.bounds.commands])


def _present(world: World) -> int:
    """The owner behind whose fence no other stands; -1 if it has ended, or there is none."""
    for index, owner in enumerate(world.owners):
        if owner.status is not Status.ENDED and (
            owner.offset < 0 or not _succeeded(world, OWNERS[index], owner.offset)
        ):
            return index
    return -1


def _succeeded(world: World, name: str, fence: int) -> bool:
    """Whether somebody else's fence stands behind this one."""
    behind = (FACTS.all[fact].record for fact in world.log[fence + 1 :])
    return any(isinstance(record, Fence) and record.owner != name for record in behind)


def _alone(protocol: Protocol, world: World) -> Iterator[Step]:
    """What the present owner does next, if nobody disturbs it."""
    index = _present(world)
    if index < 0:
        return
    owner = world.owners[index]
    if owner.status is Status.OPENING:
        yield from protocol.opening(world, index)
    elif owner.status is Status.OPEN:
        yield from protocol.answered(world, index)
        for which in range(len(owner.jobs)):
            yield from _work(protocol, world, index, which)
        if not world.moment:
            yield protocol.tick(world)
        if protocol.rules.next_offset(owner.knowledge) < len(world.log):
            yield protocol.probe(world, index)


def _work(protocol: Protocol, world: World, index: int, which: int) -> Iterator[Step]:
    job = world.owners[index].jobs[which]
    if job.script:
        yield from (
            protocol.writing(world, index, which)
            if which == protocol.bounds.commands
            else protocol.job(world, index, which)
        )
    elif which < protocol.bounds.commands:
        yield from protocol.look(world, index, which)
        yield from protocol.timed(world, index, which)
        if not world.finished >> which & 1:
            yield from protocol.place(world, index, which, Flow.PLACE)
        if world.cancelling >> which & 1:
            yield from protocol.cancel(world, index, which)
        yield from protocol.give_up(world, index, which)
