"""Four answers, not two: what came of asking a provider to dial.

Only `NotSent` may be tried again, because only `NotSent` is proof that no byte of the request left (or, for 429, that
the provider says it did not execute it). A time-out or a 5xx is `Unknown`: the phone may be ringing. Nothing leads
from `Unknown` to a second dial; evidence may settle it later.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

RefusalReason: TypeAlias = Literal[
    # decided here, before any effect
    "command_id_reused",  # the id is known with another body
    "unknown_connection",  # no such connection in the configuration
    "invalid_number",  # not E.164, or a form the provider does not take
    "invalid_options",  # options are not those of the connection's provider
    "too_late_to_cancel",  # the command was claimed or finished before the cancel came
    "unsupported",  # the provider has no way to do what was asked
    # said by the provider
    "rejected_by_provider",  # the request was understood and refused
    "unauthorized",  # credentials of the connection are refused: the operator must act
    "not_found",  # flow, agent or application does not exist
    "no_credit",  # the account cannot pay
    "no_answer",  # the provider waited and nobody answered
    "busy",  # the callee is busy
    # given up after attempts that provably did not dial
    "rate_limited",  # 429 until attempts ran out
    "provider_unreachable",  # no connection until attempts ran out
]

NotSentReason: TypeAlias = Literal[
    "connection_refused",
    "connect_timeout",
    "name_not_resolved",
    "tls_failed",
    "pool_timeout",
    "rate_limited",
    "unavailable",  # the provider says that it could not even try
    "not_tried",
]

UnknownReason: TypeAlias = Literal[
    "timeout",  # sent, no answer in time
    "connection_lost",  # sent, the connection ended before an answer
    "garbled_answer",  # an answer that is not HTTP, or half of one
    "server_error",  # 5xx: the provider may have dialled before it failed
    "unexpected_answer",  # a status the contract does not know
    "owner_gone",  # the claim's owner died or lost its partition before it settled
    "cut_off",  # the process had to stop while the request was in flight
]


class Accepted(msgspec.Struct, frozen=True, tag_field="outcome", tag="accepted"):
    """The provider has taken the call. `provider_call_id` is its handle, where it gives one."""

    provider_call_id: str | None = None
    provider_status: int | None = None


class Refused(msgspec.Struct, frozen=True, tag_field="outcome", tag="refused"):
    """The call will not be placed, and asking again would not change it. `detail` is scrubbed."""

    reason: RefusalReason
    provider_status: int | None = None
    detail: str | None = None


class NotSent(msgspec.Struct, frozen=True, tag_field="outcome", tag="not_sent"):
    """Proof that nothing was dialled: the one outcome after which a new attempt is allowed."""

    reason: NotSentReason
    detail: str | None = None
    retry_after_seconds: float | None = None


class Unknown(msgspec.Struct, frozen=True, tag_field="outcome", tag="unknown"):
    """Nobody can say whether the phone rings. Never retried; settled by evidence or reported as unknown."""

    reason: UnknownReason
    provider_status: int | None = None
    detail: str | None = None


Outcome: TypeAlias = Accepted | Refused | NotSent | Unknown
