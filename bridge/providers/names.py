"""Names by which a webhook may refer to a call before the provider has given it an id: ours, or the callee's.

They stand in `Plan.known_by` and `Heard.known_by`; the index keeps them for a connection.
"""

from __future__ import annotations

from bridge.model.phone import E164

_REFERENCE = "ref/"
_CALLEE = "callee/"


def reference_name(call_id: str) -> str:
    """The name of the call with our id: it means this call and no other."""
    return f"{_REFERENCE}{call_id}"


def call_id_in(known_by: tuple[str, ...]) -> str | None:
    """Our call id, where the first name is one that `reference_name` gave."""
    return known_by[0].removeprefix(_REFERENCE) if known_by else None


def callee_name(callee: E164) -> str:
    """The name of a call to this number: whoever is called again goes by it again."""
    return f"{_CALLEE}{callee}"


def is_callee(key: str) -> bool:
    """Whether this entry of the index is a callee's name."""
    return f"/{_CALLEE}" in key
