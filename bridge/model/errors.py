"""The five exceptions, named for who must act next rather than for the layer that noticed.

Talking to a provider does not raise: it ends in one of four values (`outcome.py`). Errors of libraries are turned
into these at the adapter's edge and nowhere else. Messages never hold a phone number, a transcript or a secret.
"""

from __future__ import annotations


class CallbridgeError(Exception):
    """Base of the five, so that one `except` at a flow's boundary can tell ours from a bug."""


class Poison(CallbridgeError):
    """This record or body can never be processed: the sender must act. It goes to dead letters with the reason.

    Attributes:
        field: path of the offending field in JSON (`$.to`), or `$` for the whole value.
        found: what stood there, described without personal data.
        allowed: what may stand there.
    """

    def __init__(self, field: str, *, found: str, allowed: str) -> None:
        super().__init__(f"{field}: found {found}; allowed: {allowed}")
        self.field = field
        self.found = found
        self.allowed = allowed


class Unverified(CallbridgeError):
    """A webhook's secret or signature is missing or wrong: the caller gets 401 and learns no more than that."""


class Unavailable(CallbridgeError):
    """A dependency of ours (Kafka) did not answer in time. What was asked of it may or may not have happened."""


class Misconfigured(CallbridgeError):
    """Configuration or credentials are wrong: the operator must act, the process does not start.

    Attributes:
        file: the file the setting is read from.
        path: where in the file (`connections.demo.flow_id`).
        found: what stood there, secrets masked.
        allowed: what may stand there.
    """

    def __init__(self, file: str, path: str, *, found: str, allowed: str) -> None:
        super().__init__(f"{file}: {path}: found {found}; allowed: {allowed}")
        self.file = file
        self.path = path
        self.found = found
        self.allowed = allowed


class Broken(CallbridgeError):
    """An invariant of ours does not hold: we must act. The process ends rather than go on wrongly."""
