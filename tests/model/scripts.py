"""What a lane does with a command, by the real code: `Dispatch`, `Settlement`, `Recovery` and `Sweep`, up to their next wait.

Each flow is run to its end on a stage where everything is done at once. That gives a script: what is written, published
and dialled, in this order. The model plays scripts step by step, with everything that may happen in between. None of
the flows looks at the ledger in the middle of a script; where one does, after a claim, a dial, or a look into the log
that found nothing, the script ends and the flow is asked again with what is known then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal, NamedTuple, TypeAlias

from bridge.commands.dispatch import Dispatch, Origin, World
from bridge.commands.policy import Limits
from bridge.commands.recovery import Recovery, RecoverySettings
from bridge.commands.settle import Settlement
from bridge.commands.sweep import Sweep, SweepSettings
from bridge.ledger.partition import LedgerPartition
from bridge.ledger.records import Fence, Sending, Settled
from bridge.ledger.state import LedgerState
from bridge.model.commands import CancelCall
from bridge.model.errors import Broken
from bridge.model.outcome import Accepted, NotSent, Outcome, Refused, Unknown
from tests.model.facts import FACTS, MOMENTS, place_call
from tests.model.knowledge import Broker, Knowledge, new_partition
from tests.model.stage import Do, Line, Paper, Stage, Stopped

OutcomeName: TypeAlias = Literal["accepted", "refused", "not_sent", "unknown"]
Script: TypeAlias = tuple[Line, ...]

OUTCOMES: dict[OutcomeName, Outcome] = {
    "accepted": Accepted(),
    "refused": Refused("rejected_by_provider"),
    "not_sent": NotSent("connection_refused"),
    "unknown": Unknown("timeout"),
}
NOW, LATER = RecoverySettings(evidence_seconds=-1e6, least_wait_seconds=-1e6), RecoverySettings()


class Asked(NamedTuple):
    """What a flow is asked: about which command, by a lane that knows what, when."""

    knowledge: int
    command_id: str
    moment: int = 1
    found: int = -1
    """What stands in the log where the stored result should; -1 where compaction took it."""
    due: bool = False
    """The command comes out of the ledger because its time has come."""
    postpones: bool = False
    """The account is busy, or wants to be left alone for long."""
    configured: bool = True
    """The lane's configuration has the connection."""


class Scripts(Knowledge):
    """Scripts by the real flows. A mutant overrides what it breaks (`mutants`)."""

    dials_before_the_answer = False
    """Mutant: the request leaves together with the claim."""
    counts_timeouts = False
    """Mutant: a time-out is taken for an acknowledgement."""
    loads_at_the_start = False
    """Mutant: what is read ends where the log ended when the fence was sent, not at the fence."""
    keeps_for_ever = False
    """Mutant: what a process has kept outlives the deduplication window."""

    def __init__(self, *, defers: bool = False, expires: bool = False, max_attempts: int = 2) -> None:
        super().__init__()
        self._defers, self._expires = defers, expires
        self._limits = Limits(max_attempts=max_attempts, retry_base_seconds=0.0)
        self._scripts: dict[object, Script] = {}
        self._take_overs: dict[object, tuple[tuple[int, ...], tuple[str, ...]]] = {}

    # -- flows --------------------------------------------------------------------------------------------------------

    def place(self, asked: Asked) -> Script:
        """A command comes in, or its time has come: up to its claim, or to its end."""
        return self._once(("place", asked), lambda: self._place(asked, self.paper(asked)))

    def counted(self, asked: Asked, claim: int, outcome: OutcomeName | None) -> Script:
        """The claim has been counted: up to the dial, or, with an outcome, from there to the end."""
        return self._once(("counted", asked, claim, outcome), lambda: self._counted(asked, claim, outcome))

    def cancel(self, asked: Asked) -> Script:
        """The command is taken back."""

        def run() -> Script:
            stage, dispatch = self._dispatch(asked, self.paper(asked))
            return self._script(stage, dispatch.cancel(CancelCall(command_id=asked.command_id), _origin(asked)))

        return self._once(("cancel", asked), run)

    def conclude(self, asked: Asked, doubt: int, *, heard: bool, over: bool) -> Script:
        """What is in doubt is looked at: `heard` of by a webhook, or the time for evidence is `over`."""
        return self._once(("conclude", asked, doubt, heard, over), lambda: self._conclude(asked, doubt, heard, over))

    def testify(self, claim: int, outcome: OutcomeName) -> Script:
        """A dial ended whose lane is no more."""

        def run() -> Script:
            sending = _sending(claim)
            paper = new_partition(Paper, "", Broker(0, ()))
            paper.lines, paper.state = [], _opened("", sending.epoch)
            stage = Stage(paper, 1, self._limits)
            settlement = Settlement(paper, stage.results(), stage, stage.world().metrics)
            return self._script(stage, settlement.testify(sending, OUTCOMES[outcome], duration_ms=0))

        return self._once(("testify", claim, outcome), run)

    def sweep(self, asked: Asked) -> Script:
        """What is past the deduplication window is let go."""

        def run() -> Script:
            paper = self.paper(asked)
            stage = Stage(paper, asked.moment, self._limits)
            stage.time += timedelta(days=365)
            return self._script(stage, Sweep(paper, stage, SweepSettings()).once())

        return self._once(("sweep", asked), run)

    def take_over(self, knowledge: int, heard: frozenset[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """What a lane finds when it opens: claims in doubt, and commands to look at at once."""
        question = (knowledge, heard)
        if question not in self._take_overs:
            self._take_overs[question] = self._take_over(knowledge, heard)
        return self._take_overs[question]

    def _take_over(self, knowledge: int, heard: frozenset[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        paper = self.paper(Asked(knowledge, ""))
        stage = Stage(paper, 1, self._limits)
        stage.heard_of = lambda command_id: True if command_id in heard else None  # type: ignore[method-assign]
        world = stage.world()
        recovery = _Noting(world, paper, Settlement(paper, stage.results(), stage, world.metrics), LATER)
        at_once = tuple(sorted(recovery.take_over()))
        return tuple(recovery.noted), at_once

    # -- running them -------------------------------------------------------------------------------------------------

    def paper(self, asked: Asked) -> Paper:
        """The ledger that is written on."""
        entry = self.entry(asked.knowledge, asked.command_id)
        offset = -1 if entry is None or entry.archived is None else entry.archived.offset
        paper = self.revive(asked.knowledge, Paper, Broker(0, ((offset, asked.found),) if asked.found >= 0 else ()))
        paper.lines = []
        return paper

    def _dispatch(self, asked: Asked, paper: Paper) -> tuple[Stage, Dispatch]:
        stage = Stage(paper, asked.moment, self._limits, configured=asked.configured)
        stage.postpones = asked.postpones
        world = stage.world()
        settlement = Settlement(paper, world.results, stage, world.metrics)
        return stage, Dispatch(world, paper, settlement, stage)

    def _place(self, asked: Asked, paper: Paper) -> Script:
        stage, dispatch = self._dispatch(asked, paper)
        return self._script(stage, self._as_job(stage, dispatch, asked))

    def _counted(self, asked: Asked, claim: int, outcome: OutcomeName | None) -> Script:
        """Run `place` from a ledger that knows only what leads to this claim; when it counts, what the lane knows now."""
        paper = self.paper(asked)
        known = paper.state
        sending = _sending(claim)
        paper.state = _opened(known.owner, sending.epoch)
        for attempt in range(1, sending.attempt):
            paper.state.fold(_not_sent(sending, attempt), sending.epoch)
        stage, dispatch = self._dispatch(asked, paper)
        stage.time = MOMENTS[1]
        stage.claim = claim
        stage.outcome = None if outcome is None else OUTCOMES[outcome]

        def counted() -> LedgerState:
            if outcome is None:
                stage.time = MOMENTS[asked.moment]
            return known

        paper.counted = counted
        return self._script(stage, self._as_job(stage, dispatch, asked))

    async def _as_job(self, stage: Stage, dispatch: Dispatch, asked: Asked) -> None:
        """What `Ownership` does with a command that came in, or whose time has come."""
        command = place_call(asked.command_id, defers=self._defers, expires=self._expires)
        again = await dispatch.place(command, _origin(asked))
        if again is not None:
            stage.lines.append((Do.SCHEDULE, 0))
        elif asked.due:
            stage.lines.append((Do.WRITE, FACTS.tombstone(f"{asked.command_id}/deferred".encode())))

    def _conclude(self, asked: Asked, doubt: int, heard: bool, over: bool) -> Script:
        paper = self.paper(asked)
        stage = Stage(paper, asked.moment, self._limits)
        stage.heard = heard
        world = stage.world()
        settlement = Settlement(paper, stage.results(), stage, world.metrics)
        recovery = Recovery(world, paper, settlement, NOW if over else LATER)
        if doubt >= 0:
            recovery.add(_sending(doubt), Unknown("owner_gone"), None)

        async def run() -> None:
            await recovery.conclude(asked.command_id)
            if doubt >= 0 and not len(recovery):
                stage.lines.append((Do.SETTLED, 0))

        return self._script(stage, run())

    def _once(self, question: object, run: Callable[[], Script]) -> Script:
        if question not in self._scripts:
            self._scripts[question] = run()
        return self._scripts[question]

    def _script(self, stage: Stage, flow: Awaitable[object]) -> Script:
        async def run() -> None:
            try:
                await flow
            except Stopped:
                if not stage.lines or stage.lines[-1][0] not in {Do.CLAIM, Do.DIAL}:
                    stage.lines.append((Do.AGAIN, 0))
            except Broken:
                stage.lines.append((Do.BREAK, 0))

        self.runner.run(run())
        return tuple(stage.lines)


class _Noting(Recovery):
    """Notes what it is to doubt."""

    def __init__(
        self, world: World, ledger: LedgerPartition, settlement: Settlement, settings: RecoverySettings
    ) -> None:
        super().__init__(world, ledger, settlement, settings)
        self.noted: list[int] = []

    def add(self, sending: Sending, outcome: Unknown, duration_ms: int | None) -> None:
        """Doubt a claim."""
        self.noted.append(FACTS.number(sending))
        super().add(sending, outcome, duration_ms)


def _origin(asked: Asked) -> Origin:
    return Origin(asked.command_id.encode(), due=asked.due)


def _sending(claim: int) -> Sending:
    record = FACTS.all[claim].record
    assert isinstance(record, Sending)
    return record


def _opened(owner: str, epoch: int) -> LedgerState:
    """The knowledge of a lane whose fence is all there is."""
    state = LedgerState(owner)
    state.fold(Fence(owner, 0), epoch)
    return state


def _not_sent(sending: Sending, attempt: int) -> Settled:
    """What leads to the next attempt."""
    return Settled(
        command_id=sending.command_id,
        attempt=attempt,
        epoch=sending.epoch,
        at_ms=sending.at_ms,
        digest=sending.digest,
        key=sending.key,
        outcome=OUTCOMES["not_sent"],
    )
