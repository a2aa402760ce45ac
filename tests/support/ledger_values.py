"""Records of the ledger for tests, where only what matters to the test is said; and random ones for hypothesis.

Everything else has a value that fits: one command `c`, attempt 1, written by the owner of epoch 1. The random ones are
whatever the types allow; which of them make sense together is the test's to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from hypothesis import strategies as st

from bridge.ledger.records import CommandRecord, Deferred, Fence, Record, Sending, Settled, Unsure
from bridge.ledger.state import LedgerState
from bridge.model.commands import PlaceCall
from bridge.model.outcome import Accepted, NotSent, NotSentReason, Outcome, Refused, Unknown
from bridge.model.results import CallCancelled, CallExpired, CallInitiated, CallRefused, CallUnknown, Result
from bridge.model.words import call_id_of

DIGEST = b"digest of a body"
ME = "me"
MY_EPOCH = 7
FOREIGN_EPOCH = 3


def place(command_id: str = "c", **fields: object) -> PlaceCall:
    """A command that can be placed."""
    return PlaceCall(**{"command_id": command_id, "connection": "demo", "to": "+49301234567", **fields})  # type: ignore[arg-type]


def sending(command_id: str = "c", attempt: int = 1, *, epoch: int = 1, at_ms: int = 1000) -> Sending:
    """A claim."""
    return Sending(
        command_id=command_id,
        attempt=attempt,
        epoch=epoch,
        at_ms=at_ms,
        digest=DIGEST,
        key=b"k",
        connection="demo",
        provider="sipgate",
    )


def initiated(command_id: str = "c", attempt: int = 1, *, settles_unknown: bool = False) -> CallInitiated:
    """The provider dials."""
    return CallInitiated(
        command_id=command_id,
        call_id=call_id_of(command_id),
        attempts=attempt,
        settled_by="answer",
        settles_unknown=settles_unknown,
    )


def cancelled(command_id: str = "c", attempt: int = 0) -> CallCancelled:
    """A cancel came in time."""
    return CallCancelled(command_id=command_id, call_id=call_id_of(command_id), attempts=attempt)


def settled(
    command_id: str = "c",
    attempt: int = 1,
    *,
    result: Result | None = None,
    outcome: Outcome | None = None,
    epoch: int = 1,
    at_ms: int = 1000,
    owed: bool = False,
    digest: bytes = DIGEST,
) -> Settled:
    """What an attempt came to; accepted, unless said otherwise."""
    if result is None and outcome is None:
        result, outcome = initiated(command_id, attempt), Accepted()
    return Settled(
        command_id=command_id,
        attempt=attempt,
        epoch=epoch,
        at_ms=at_ms,
        digest=digest,
        key=b"k",
        outcome=outcome,
        result=result,
        owed=owed,
    )


def not_sent(
    command_id: str = "c", attempt: int = 1, *, epoch: int = 1, reason: NotSentReason = "connection_refused"
) -> Settled:
    """Proof that the attempt did not dial."""
    return settled(command_id, attempt, outcome=NotSent(reason, detail="because"), epoch=epoch)


def decision(epoch: int, *, command_id: str = "c", attempt: int = 0, settles_unknown: bool = False) -> Settled:
    """An end without a dial: a refusal for want of an owner, that knows of this attempt."""
    result = CallRefused(
        command_id=command_id,
        call_id=call_id_of(command_id),
        attempts=attempt,
        reason="provider_unreachable",
        settles_unknown=settles_unknown,
    )
    outcome = NotSent("connection_refused")
    return settled(command_id, attempt, result=result, outcome=outcome, epoch=epoch, at_ms=5000)


def unsure(command_id: str = "c", attempt: int = 1, *, epoch: int = 1, at_ms: int = 1000, owed: bool = False) -> Unsure:
    """Nobody knows, and that was said."""
    result = CallUnknown(command_id=command_id, call_id=call_id_of(command_id), attempts=attempt, reason="timeout")
    return Unsure(
        command_id=command_id,
        attempt=attempt,
        epoch=epoch,
        at_ms=at_ms,
        digest=DIGEST,
        key=b"k",
        result=result,
        owed=owed,
    )


def deferred(command_id: str = "c", *, epoch: int = 1, at_ms: int = 1000, due_ms: int = 9000) -> Deferred:
    """Not due yet."""
    return Deferred(
        command_id=command_id,
        epoch=epoch,
        at_ms=at_ms,
        due_ms=due_ms,
        digest=DIGEST,
        key=b"k",
        command=place(command_id, metadata={"who": "me"}),
    )


def folded(records: Iterable[Record]) -> LedgerState:
    """What a lane knows after these, from offset 0 on."""
    state = LedgerState(ME)
    for offset, record in enumerate(records):
        state.fold(record, offset)
    return state


# -- anything the types allow -------------------------------------------------------------------------------------------

texts = st.text(max_size=20)
ids = st.text(min_size=1, max_size=128) | st.sampled_from(
    ["/", "a/b", "fence", "deferred", "sending", "settled/1", "x/sending/1", "x/deferred", "fence/me", "/1", "ü/☎", "1"]
)
attempts = st.integers(0, 99)
moments_ms = st.integers(0, 2**48)
keys = st.none() | st.binary(max_size=40)
digests = st.binary(max_size=16)
traces = st.lists(st.tuples(texts, st.binary(max_size=60)), max_size=3).map(tuple)
json_values: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)
moments = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- bounds are naive
outcomes: st.SearchStrategy[Outcome] = (
    st.builds(Accepted, st.none() | texts, st.none() | st.integers(100, 599))
    | st.builds(Refused, st.sampled_from(["busy", "rejected_by_provider"]), st.none() | st.just(404), st.none() | texts)
    | st.builds(NotSent, st.sampled_from(["connection_refused", "rate_limited"]), texts, st.none() | st.floats(0, 1e6))
    | st.builds(Unknown, st.sampled_from(["timeout", "server_error"]), st.none() | st.just(500), texts)
)
_common = {"command_id": ids, "call_id": texts, "attempts": attempts, "metadata": json_objects}
_optional = {"connection": st.none() | texts, "provider": st.none() | texts}
results: st.SearchStrategy[Result] = (
    st.builds(CallInitiated, **_common, **_optional, settled_by=st.just("webhook"), settles_unknown=st.booleans())
    | st.builds(CallRefused, **_common, **_optional, reason=st.just("busy"), detail=st.none() | texts)
    | st.builds(CallExpired, **_common, **_optional, expires_at=st.none() | moments)
    | st.builds(CallCancelled, **_common, **_optional)
)
unknowns = st.builds(CallUnknown, **_common, **_optional, reason=texts)
places = st.builds(
    PlaceCall,
    command_id=ids,
    connection=st.just("demo"),
    to=st.just("+49301234567"),
    metadata=json_objects,
    not_before=st.none() | moments,
    expires_at=st.none() | moments,
    options=json_objects,
)
_record = {"command_id": ids, "epoch": moments_ms, "at_ms": moments_ms, "digest": digests, "key": keys, "trace": traces}
_attempt = {**_record, "attempt": attempts}

fences = st.builds(Fence, owner=st.uuids(version=4).map(lambda each: each.hex), at_ms=moments_ms)
command_records: st.SearchStrategy[CommandRecord] = (
    st.builds(Sending, **_attempt, connection=texts, provider=texts, metadata=json_objects)
    | st.builds(Settled, **_attempt, outcome=st.none() | outcomes, result=st.none() | results, owed=st.booleans())
    | st.builds(Unsure, **_attempt, result=unknowns, owed=st.booleans())
    | st.builds(Deferred, **_record, due_ms=moments_ms, command=places)
)
all_records: st.SearchStrategy[Record] = fences | command_records
