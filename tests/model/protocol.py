"""What can happen next: every step of every owner, of the network and of the clock, in every order.

A lane's step ends where it waits: asking a flow and handing its first record to the group commit is one step; so is
taking in an acknowledgement with all that follows without waiting (reading the gap, dialling, publishing). Joining
those loses no behaviour that an invariant could see: what an owner has in mind, and does not do yet, nobody notices.

Two writes of one lane are on their way independently of each other here; the real group commit hands them over
together, or one after the other, which is some of the same orders. Acknowledgements are taken in by ascending offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bridge.ledger.records import Fence, Sending
from tests.model.changes import (
    ENDED,
    FREE,
    bits,
    doubting,
    ended,
    is_claim,
    is_deferral,
    noted,
    put,
    sent_away,
    with_job,
    with_owner,
    without,
)
from tests.model.facts import COMMANDS, FACTS
from tests.model.judge import Judge
from tests.model.knowledge import Seen
from tests.model.scripts import Asked, OutcomeName, Script, Scripts
from tests.model.stage import Do
from tests.model.world import OWNERS, Bounds, Flow, Job, Label, Owner, Status, Step, World


class Protocol:
    """The steps under some rules within some bounds."""

    def __init__(self, rules: Scripts, bounds: Bounds, judge: Judge) -> None:
        self.rules = rules
        self.bounds = bounds
        self._judge = judge

    def first(self) -> World:
        """Nothing has happened yet."""
        bounds = self.bounds
        moment = 0 if bounds.defers else 1
        return World(
            moment=moment,
            retries=bounds.retries,
            copies=bounds.copies,
            probes=bounds.probes,
            pauses=bounds.pauses,
            sweeps=bounds.sweeps,
        )

    def steps(self, world: World) -> Iterator[Step]:
        """Everything that can happen next."""
        yield from self._surroundings(world)
        for index, owner in enumerate(world.owners):
            if owner.status is Status.OPENING:
                yield from self.opening(world, index)
            elif owner.status is Status.OPEN:
                yield from self.answered(world, index)
                for which in range(self.bounds.commands):
                    yield from self.job(world, index, which)
                yield from self.own(world, index)

    # -- time, network, provider --------------------------------------------------------------------------------------

    def _surroundings(self, world: World) -> Iterator[Step]:
        if len(world.owners) < self.bounds.owners:
            yield from self._starts(world)
        if world.moment < (2 if self.bounds.expires else 1):
            yield self.tick(world)
        for fact in sorted(set(world.late)):
            arrived = world._replace(log=(*world.log, fact), late=without(world.late, fact))
            yield Step(("late", -1, fact, len(world.log)), arrived)
        for claim in sorted(set(world.orphans)):
            yield from self._testimonies(world, claim)
        for which in range(self.bounds.commands):
            bit = 1 << which
            if self.bounds.hears and world.dialled & bit and not world.heard & bit:
                yield Step(("heard", -1, which, -1), world._replace(heard=world.heard | bit))

    def tick(self, world: World) -> Step:
        """Time passes."""
        return Step(("tick", -1, -1, world.moment + 1), world._replace(moment=world.moment + 1))

    def _starts(self, world: World) -> Iterator[Step]:
        """Nobody notices a fence on its way: it is stored as it is sent, unless that makes a difference."""
        yield from self._starts_with(self.start(world))
        for before, owner in enumerate(world.owners if self.bounds.keeps else ()):
            if owner.status is not Status.OPENING and owner.knowledge >= 0:
                revoked = ended(world, before)
                yield from self._starts_with(self.start(revoked, kept=owner.knowledge))

    def _starts_with(self, started: Step) -> Iterator[Step]:
        index = started.label[1]
        for step in self.opening(started.world, index):
            if step.label[0] != "timed out" or not self.rules.loads_at_the_start:
                yield step._replace(label=(f"{started.label[0]}s, {step.label[0]}", *step.label[1:]))
        if self.rules.loads_at_the_start:
            yield started

    def start(self, world: World, *, kept: int = -1) -> Step:
        """Another owner appears, whatever became of the last one, and sends its fence."""
        index = len(world.owners)
        fence = FACTS.number(Fence(OWNERS[index], 0))
        owner = Owner(Status.OPENING, fence=fence, start=len(world.log), knowledge=kept)
        what = "start" if kept < 0 else "go on as another: start"
        return Step((what, index, -1, -1), world._replace(owners=(*world.owners, owner)))

    def _testimonies(self, world: World, claim: int) -> Iterator[Step]:
        """A dial of a lane that has ended comes to something, and that is sent to the log."""
        which = COMMANDS.index(FACTS.all[claim].command_id or "")
        for name in self._possible(world, which):
            heard = self._answer(world, which, name)._replace(orphans=without(world.orphans, claim))
            for do, fact in self.rules.testify(claim, name):
                assert do is Do.WRITE
                heard = sent_away(heard, fact)
            yield Step((f"orphan {name}", -1, which, claim), heard)

    def _possible(self, world: World, which: int) -> Iterable[OutcomeName]:
        """What the provider may still say: of a call that was heard of, not that there is none."""
        names = self.bounds.outcomes[which]
        return names if not world.heard >> which & 1 else [each for each in names if each in {"accepted", "unknown"}]

    @staticmethod
    def _answer(world: World, which: int, name: OutcomeName) -> World:
        """Only proof that nothing left makes a dial undone."""
        return world._replace(dialled=world.dialled & ~(1 << which)) if name == "not_sent" else world

    def stored(self, world: World, fact: int) -> Iterator[tuple[str, World]]:
        """A record arrives that is waited for; perhaps it will arrive once more."""
        stored = world._replace(log=(*world.log, fact))
        yield "stored", stored
        if world.copies and (not self.bounds.copies_claims_only or is_claim(fact, COMMANDS[0])):
            yield "stored, and a copy is on its way", sent_away(stored._replace(copies=world.copies - 1), fact)

    def _timed_out(self, world: World, fact: int, offset: int) -> World:
        """The writer gives up waiting and will write again; what has not arrived may still arrive."""
        late = world if offset >= 0 else sent_away(world, fact)
        return late._replace(retries=world.retries - 1)

    # -- an owner that opens ------------------------------------------------------------------------------------------

    def opening(self, world: World, index: int) -> Iterator[Step]:
        """Its fence arrives, is acknowledged and the log is read up to it; or the wait was too long."""
        owner = world.owners[index]
        if owner.offset < 0:
            for what, stored in self.stored(world, owner.fence):
                yield Step((what, index, owner.fence, len(world.log)), with_owner(stored, index, offset=len(world.log)))
        else:
            yield from self.opened(world, index)
        if world.retries:
            after = self._timed_out(world, owner.fence, owner.offset)
            yield Step(("timed out", index, owner.fence, owner.offset), with_owner(after, index, offset=-1))

    def opened(self, world: World, index: int) -> Iterator[Step]:
        """The fence is acknowledged; the log is read up to it, and then what stands behind it."""
        owner, log, rules = world.owners[index], world.log, self.rules
        start = rules.kept_from(owner.knowledge)
        end = owner.start if rules.loads_at_the_start else owner.offset
        done: set[tuple[str, int]] = set()
        for front in rules.reads(log, start, end, compacts=self.bounds.compacts):
            for behind in rules.reads(log, owner.offset + 1, len(log), compacts=self.bounds.compacts):
                known = rules.load(OWNERS[index], (owner.offset, len(log)), (front, behind), kept=owner.knowledge)
                if known[:2] in done:
                    continue
                done.add(known[:2])
                hidden = end - start - len(front)
                if known.answer == "ended":
                    yield Step(("opened too late", index, -1, hidden), self._ended(world, index, known.knowledge))
                else:
                    opened = put(world, index, self._open(world, owner, known.knowledge))
                    yield Step(("opened", index, -1, hidden), opened)

    def _ended(self, world: World, index: int, knowledge: int) -> World:
        return ended(world, index, knowledge if self.bounds.keeps else -1)

    def _open(self, world: World, owner: Owner, knowledge: int) -> Owner:
        heard = frozenset(each for which, each in enumerate(COMMANDS) if world.heard >> which & 1)
        unsettled, at_once = self.rules.take_over(knowledge, heard)
        entries = self.rules.state(knowledge).entries
        opened = Owner(
            Status.OPEN,
            offset=owner.offset,
            knowledge=knowledge,
            jobs=(FREE,) * (self.bounds.commands + 1),
            doubts=(-1,) * self.bounds.commands,
            timers=bits(each for each, entry in entries.items() if entry.deferred is not None),
            looks=bits(at_once),
        )
        return doubting(opened, unsettled)

    # -- an open owner ------------------------------------------------------------------------------------------------

    def answered(self, world: World, index: int) -> Iterator[Step]:
        """The first acknowledgement that has come in is taken in."""
        owner = world.owners[index]
        waiting = [(job.offset, which) for which, job in enumerate(owner.jobs) if job.offset >= 0]
        if not waiting:
            return
        offset, which = min(waiting)
        start = self.rules.next_offset(owner.knowledge)
        done: set[World] = set()
        for seen in self.rules.reads(world.log, start, offset, compacts=self.bounds.compacts):
            step = self._account(world, index, which, seen)
            if step.world not in done:
                done.add(step.world)
                yield step

    def _account(self, world: World, index: int, which: int, seen: Seen) -> Step:
        owner = world.owners[index]
        job = owner.jobs[which]
        do, fact = job.script[0]
        accounted = self.rules.account(owner.knowledge, (fact, do is Do.CLAIM), job.offset, seen)
        label = (accounted.answer, index, fact, job.offset)
        if accounted.answer == "ended":
            return Step(label, self._ended(world, index, accounted.knowledge))
        wiser = owner._replace(
            knowledge=accounted.knowledge,
            looks=owner.looks | bits(accounted.foreign),
            timers=owner.timers | bits(accounted.deferred),
        )
        world = put(world, index, doubting(wiser, accounted.unsettled))
        if accounted.answer == "counted" and isinstance(FACTS.all[fact].record, Sending):
            return self._counted(world, index, which, label)
        rest = ((Do.AGAIN, 0),) if accounted.answer == "contested" else job.script[1:]
        return self.play(world, index, which, (label, Job(rest, job.flow)))

    def _counted(self, world: World, index: int, which: int, label: Label) -> Step:
        """A claim counts: the request leaves, unless the command has expired by now."""
        job = world.owners[index].jobs[which]
        claim = job.script[0][1]
        script = self.rules.counted(self._asked(world, index, which, job.flow), claim, None)
        broken = None
        if script[0][0] is Do.DIAL:
            owner = world.owners[index]
            broken = self._judge.dial(world, (claim, job.offset), OWNERS[index], owner.offset)
            world = world._replace(dialled=world.dialled | 1 << which)
        step = self.play(world, index, which, (label, Job(script, job.flow)))
        return step if broken is None else step._replace(broken=broken)

    def play(self, world: World, index: int, which: int, what: tuple[Label, Job]) -> Step:
        """Follow a script until it waits."""
        label, job = what
        script = list(job.script)
        broken: str | None = None
        while script and script[0][0] not in {Do.WRITE, Do.CLAIM, Do.DIAL, Do.AGAIN}:
            do, detail = script.pop(0)
            if do is Do.PUBLISH and not self._judge.reads_results:
                continue
            if do is Do.PUBLISH:
                world = world._replace(published=world.published | detail)
            elif do is Do.BREAK:
                broken = self._judge.process_broken()
            else:
                world = put(world, index, noted(world.owners[index], which, (do, detail)))
        after = Job(tuple(script), job.flow) if script else FREE
        if script and script[0][0] is Do.AGAIN and job.flow not in {Flow.PLACE, Flow.DUE}:
            after = FREE
            if job.flow is Flow.CONCLUDE:
                world = with_owner(world, index, looks=world.owners[index].looks | 1 << which)
        if self._judge.reads_results:
            world = _committed(world, index, (job.flow, 1 << which), bool(script))
        world = with_job(world, index, which, after)
        return Step(label, world, broken or self._judge.results(world))

    # -- jobs of an open owner ----------------------------------------------------------------------------------------

    def job(self, world: World, index: int, which: int) -> Iterator[Step]:
        """What can become of a command in this lane, acknowledgements aside."""
        job = world.owners[index].jobs[which]
        if not job.script:
            yield from self.asked(world, index, which)
            return
        match job.script[0][0]:
            case Do.AGAIN:
                yield from self.place(world, index, which, job.flow)
            case Do.DIAL:
                yield from self.outcomes(world, index, which)
            case _:
                yield from self.writing(world, index, which)

    def writing(self, world: World, index: int, which: int) -> Iterator[Step]:
        """Its record arrives, or the wait was too long."""
        job = world.owners[index].jobs[which]
        fact = job.script[0][1]
        offset = len(world.log)
        if job.offset < 0:
            for what, stored in self.stored(world, fact):
                yield Step((what, index, fact, offset), with_job(stored, index, which, job._replace(offset=offset)))
        if not world.retries:
            return
        after = self._timed_out(world, fact, job.offset)
        label = ("timed out", index, fact, job.offset)
        if self.rules.counts_timeouts and isinstance(FACTS.all[fact].record, Sending):
            yield self._counted(after, index, which, label)
        else:
            yield Step(label, with_job(after, index, which, job._replace(offset=-1)))

    def outcomes(self, world: World, index: int, which: int) -> Iterator[Step]:
        """The provider answers, or does not."""
        job = world.owners[index].jobs[which]
        for name in self._possible(world, which):
            asked = self._asked(world, index, which, job.flow)
            for postpones, paused in self._pauses(world, whether=name == "not_sent"):
                script = self.rules.counted(asked._replace(postpones=postpones), job.script[0][1], name)
                told = self._answer(paused, which, name)
                yield self.play(told, index, which, ((name, index, which, -1), Job(script, job.flow)))

    def asked(self, world: World, index: int, which: int) -> Iterator[Step]:
        """A command comes in (for the first time, or again), its time has come, it is cancelled, it is looked at."""
        yield from self.timed(world, index, which)
        yield from self.look(world, index, which)
        yield from self.give_up(world, index, which)
        if self._over(world) or (which == 1 and index < self.bounds.second_command_from):
            return
        yield from self.place(world, index, which, Flow.PLACE)
        if self.bounds.cancels and any(is_deferral(fact, which) for fact in world.log):
            yield from self.cancel(world, index, which)

    def cancel(self, world: World, index: int, which: int) -> Iterator[Step]:
        """A cancellation comes in."""
        for asked in self._looking_up(world, index, which):
            yield from self._begin(world, index, which, ("cancel", Job(self.rules.cancel(asked), Flow.CANCEL)))

    def timed(self, world: World, index: int, which: int) -> Iterator[Step]:
        """A command's time has come."""
        timers = world.owners[index].timers
        entry = self.rules.entry(world.owners[index].knowledge, COMMANDS[which])
        if timers >> which & 1 and world.moment and entry is not None and entry.deferred is not None:
            yield from self.place(with_owner(world, index, timers=timers & ~(1 << which)), index, which, Flow.DUE)

    def look(self, world: World, index: int, which: int) -> Iterator[Step]:
        """Evidence may have come, or somebody else has written about the command."""
        owner, bit = world.owners[index], 1 << which
        heard, doubt = bool(world.heard & bit), owner.doubts[which]
        if not owner.looks & bit and not heard and doubt < 0:
            return
        looked = with_owner(world, index, looks=owner.looks & ~bit)
        for asked in self._looking_up(world, index, which):
            script = self.rules.conclude(asked, doubt, heard=heard, over=False)
            yield from self._begin(looked, index, which, ("look", Job(script, Flow.CONCLUDE)), world)

    def give_up(self, world: World, index: int, which: int) -> Iterator[Step]:
        """The time for evidence is over."""
        doubt = world.owners[index].doubts[which]
        if doubt < 0:
            return
        for asked in self._looking_up(world, index, which):
            script = self.rules.conclude(asked, doubt, heard=bool(world.heard >> which & 1), over=True)
            yield from self._begin(world, index, which, ("give up", Job(script, Flow.CONCLUDE)))

    def place(self, world: World, index: int, which: int, flow: Flow) -> Iterator[Step]:
        """Ask what is to be done about a command, and begin it."""
        label = "due" if flow is Flow.DUE else "place"
        for asked in self._looking_up(world, index, which, flow):
            for postpones, paused in self._pauses(world, whether=True):
                job = Job(self.rules.place(asked._replace(postpones=postpones)), flow)
                if self.rules.dials_before_the_answer and _begins_with_a_claim(job):
                    sent = with_job(sent_away(world, job.script[0][1]), index, which, job)
                    yield self._counted(sent, index, which, (label, index, which, job.script[0][1]))
                else:
                    yield from self._begin(paused, index, which, (label, job), paused)

    @staticmethod
    def _pauses(world: World, *, whether: bool) -> Iterator[tuple[bool, World]]:
        """At once, or after a long pause in the ledger."""
        yield False, world
        if whether and world.pauses:
            yield True, world._replace(pauses=world.pauses - 1)

    def _begin(
        self, world: World, index: int, which: int, what: tuple[str, Job], before: World | None = None
    ) -> Iterator[Step]:
        """Begin a script. What changes nothing is no step."""
        name, job = what
        step = self.play(world, index, which, ((name, index, which, -1), job))
        if step.broken is not None or step.world != (before or world):
            yield step

    # -- the lane's own -----------------------------------------------------------------------------------------------

    def own(self, world: World, index: int) -> Iterator[Step]:
        """The lane looks into the log, or lets go of what is old."""
        which = self.bounds.commands
        owner = world.owners[index]
        if owner.jobs[which].script:
            yield from self.writing(world, index, which)
            return
        if world.probes:
            yield self.probe(world._replace(probes=world.probes - 1), index)
        seen = self.rules.next_offset(owner.knowledge) == len(world.log)
        if world.sweeps and seen and not world.late and not world.orphans and not any(job.script for job in owner.jobs):
            # So long after the window nobody else is still at anything, and the lane has seen what they did.
            alone = tuple(each if number == index else self._gone(each) for number, each in enumerate(world.owners))
            script = self.rules.sweep(Asked(owner.knowledge, "", world.moment))
            swept = world._replace(sweeps=world.sweeps - 1, owners=alone)
            yield from self._begin(swept, index, which, ("sweep", Job(script, Flow.SWEEP)), swept)

    def _gone(self, owner: Owner) -> Owner:
        """An owner after a week: what it kept is forgotten, too."""
        return ENDED._replace(knowledge=owner.knowledge) if self.rules.keeps_for_ever else ENDED

    def probe(self, world: World, index: int) -> Step:
        """A tombstone that erases nothing, to see what stands in front of it."""
        script: Script = ((Do.WRITE, FACTS.probe(OWNERS[index])),)
        which = self.bounds.commands
        return self.play(world, index, which, (("probe", index, which, -1), Job(script, Flow.PROBE)))

    def _over(self, world: World) -> bool:
        """Whether the deduplication window has ended: no command comes in again after that."""
        return world.sweeps < self.bounds.sweeps

    def _asked(self, world: World, index: int, which: int, flow: Flow) -> Asked:
        return Asked(
            world.owners[index].knowledge,
            COMMANDS[which],
            world.moment,
            due=flow is Flow.DUE,
            configured=index not in self.bounds.unconfigured,
        )

    def _looking_up(self, world: World, index: int, which: int, flow: Flow = Flow.PLACE) -> Iterator[Asked]:
        """The same, with what stands in the log where the command's stored result should."""
        asked = self._asked(world, index, which, flow)
        entry = self.rules.entry(asked.knowledge, asked.command_id)
        if entry is None or entry.archived is None:
            yield asked
            return
        offset = entry.archived.offset
        for seen in self.rules.reads(world.log, offset, offset + 1, compacts=self.bounds.compacts):
            yield asked._replace(found=seen[0][1] if seen else -1)


def _committed(world: World, index: int, what: tuple[Flow, int], under_way: bool) -> World:
    """A record is brought back until the lane that was brought it last has no more need of it."""
    flow, bit = what
    newest = index == len(world.owners) - 1
    if flow is Flow.PLACE and newest:
        return world._replace(finished=world.finished & ~bit if under_way else world.finished | bit)
    if flow is Flow.CANCEL and (newest or under_way):
        return world._replace(cancelling=world.cancelling | bit if under_way else world.cancelling & ~bit)
    return world


def _begins_with_a_claim(job: Job) -> bool:
    return bool(job.script) and isinstance(FACTS.all[job.script[0][1]].record, Sending)
