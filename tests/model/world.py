"""The states of the small world, and how large it is.

An owner that crashed is an owner that is never scheduled again, and so is one that is paused for ever: no step is
needed for either. Likewise an acknowledgement that is lost is one that the owner times out on, and a message that is
lost is one that never arrives. A lane that is opened anew in the same process is an owner like any other.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from tests.model.knowledge import Log
from tests.model.scripts import OutcomeName, Script

OWNERS = "ABCDE"


class Status(IntEnum):
    """The life of an owner."""

    OPENING = 0
    OPEN = 1
    ENDED = 2


class Flow(IntEnum):
    """What a lane does about a command, or of its own."""

    PLACE = 0
    DUE = 1
    """The command came out of the ledger because its time has come."""
    CANCEL = 2
    CONCLUDE = 3
    """Evidence is looked at, or given up waiting for."""
    PROBE = 4
    SWEEP = 5


class Job(NamedTuple):
    """The rest of a script. Its first line is what is waited for."""

    script: Script = ()
    flow: Flow = Flow.PLACE
    offset: int = -1
    """Where the record that is on its way was stored, if it was."""


class Owner(NamedTuple):
    """One incarnation of a lane."""

    status: Status
    fence: int = -1
    offset: int = -1
    """Where the fence was stored, if it was."""
    start: int = 0
    """The length of the log when it began."""
    knowledge: int = -1
    """While it opens: what its process has kept. Once it has ended: what the process keeps."""
    jobs: tuple[Job, ...] = ()
    """One a command, and one of the lane's own (its probe, its broom)."""
    doubts: tuple[int, ...] = ()
    """For each command the claim about which evidence is waited for."""
    timers: int = 0
    """Bits of the commands whose time is waited for."""
    looks: int = 0
    """Bits of the commands about which somebody else wrote, to be looked at."""


class World(NamedTuple):
    """Everything there is."""

    log: Log = ()
    owners: tuple[Owner, ...] = ()
    late: tuple[int, ...] = ()
    """Records under way whose writer no longer waits for them: they arrive at any time, or never."""
    orphans: tuple[int, ...] = ()
    """Claims that are being dialled for lanes that have ended."""
    dialled: int = 0
    """Bits of the commands for which a request left that may have dialled."""
    heard: int = 0
    """Bits of the commands of whose calls a webhook has told."""
    published: int = 0
    """Bits of the results that were published."""
    finished: int = 0
    """Bits of the commands of which a lane has no more need: the offset may be committed, and nobody bring them back."""
    cancelling: int = 0
    """Bits of the commands whose cancellation some lane has begun and none has finished with."""
    moment: int = 1
    retries: int = 0
    copies: int = 0
    probes: int = 0
    pauses: int = 0
    sweeps: int = 0


class Bounds(NamedTuple):
    """How large the world is: how often each thing may happen."""

    owners: int = 3
    outcomes: tuple[tuple[OutcomeName, ...], ...] = (("accepted", "not_sent", "unknown"),)
    """For each command, what the provider may answer."""
    retries: int = 0
    """Time-outs of a writer, which then writes again."""
    copies: int = 0
    """Records that the client or the network delivers once more, later."""
    copies_claims_only: bool = False
    """Of the first command, to keep a world with two of them small."""
    probes: int = 0
    """Looks into the log by a lane that has nothing to write."""
    pauses: int = 0
    """Commands that wait in the ledger because the account is busy or wants to be left alone."""
    sweeps: int = 0
    """Sweeps after the deduplication window."""
    second_command_from: int = 0
    """The first owner that is brought the second command, for the same reason."""
    attempts: int = 2
    compacts: bool = True
    keeps: bool = False
    """A new owner may be the next in its process and go on from what the last one knew."""
    hears: bool = False
    """Webhooks tell of calls."""
    defers: bool = False
    """Commands are not due at first."""
    expires: bool = False
    cancels: bool = False
    unconfigured: frozenset[int] = frozenset()
    """Owners whose configuration lacks the connection: a deployment is being rolled out."""

    @property
    def commands(self) -> int:
        """How many command ids there are."""
        return len(self.outcomes)


Label: TypeAlias = tuple[str, int, int, int]
"""A step for the trace: what happens, to which owner, about which command, and a fact or an offset."""


class Step(NamedTuple):
    """A step and where it leads; `broken` names the invariant it breaks."""

    label: Label
    world: World
    broken: str | None = None
