"""Pure: which events are turns of the user, and which of them make an older turn's answer stale.

A question that came from a turn is void as soon as the user speaks again: whatever is answered to it would be an answer
to what is no longer the matter. Questions of other kinds (a session that begins, a key, a tool, the end of a verb) stand
beside one another.
"""

from __future__ import annotations

from typing import Final

TURNS: Final = frozenset({"user.spoke", "user.silent"})
"""Their questions become void."""
NEWER: Final = frozenset({"user.spoke", "user.speech_started"})
"""They make older turns void."""
ENDS: Final = frozenset({"session.ended", "call.ended"})
"""After these the session asks nothing more."""


def voids(newer: str, newer_id: str, older: str, older_id: str) -> bool:
    """Whether a later event makes the question of an earlier one void. The same id is the same event, sent again."""
    return newer in NEWER and older in TURNS and newer_id != older_id
