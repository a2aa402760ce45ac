"""Where jambonz is told to ask us: the URLs of one call's hooks, and what a path that was asked says.

Five words follow `/webhooks/NAME`: `call` (answer hook), `status`, `amd`, `verb` (action hooks) and `redirect` (where a
live action sends a call, to fetch its verbs), each alone or with our call id behind it. Bodies carry the call id too, in the tag, and signed; the path is for those that do not.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias, cast
from urllib.parse import quote

from bridge.providers.jambonz.options import Hook
from bridge.runtime.secrets import Secret

Word: TypeAlias = Literal["call", "status", "amd", "verb", "redirect"]

RETRIED = "#rc=3&rp=ct,5xx"
"""jambonz repeats nothing of itself; this asks for three more tries after a refused connection and a 5xx, which is how
we say that Kafka is away (contract 6). Not after a time-out: the question would be asked twice."""

_PATH = re.compile(r"/(?P<word>call|status|amd|verb|redirect)(?:/(?P<call_id>[A-Za-z0-9_-]{1,64}))?/?")


class Hooks:
    """The hooks of one connection, under its public URL."""

    def __init__(self, public_url: str, *, socket: tuple[str, Secret] | None = None) -> None:
        """`socket`: user and password, if calls are to be told over a WebSocket."""
        self._base = public_url.rstrip("/")
        self._socket = socket

    def url(self, word: Word, call_id: str | None) -> str:
        """The absolute URL of a hook; without a call id that of calls which are not ours (inbound)."""
        tail = f"/{quote(call_id, safe='')}" if call_id else ""
        return f"{self._base}/{word}{tail}{RETRIED}"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What `of_call` gives away."""
        return () if self._socket is None else (self._socket[1],)

    def of_call(self, word: Word, call_id: str) -> str | Hook:
        """What a dial says: the URL of this hook, or the one WebSocket for all of them."""
        if self._socket is None:
            return self.url(word, call_id)
        user, password = self._socket
        url = f"ws{self._base.removeprefix('http')}{RETRIED}"
        return Hook(url=url, username=user, password=password.reveal())


def read_path(path: str) -> tuple[Word | None, str | None]:
    """The word and the call id of a path behind `/webhooks/NAME`; None for what it does not say."""
    found = _PATH.fullmatch(path)
    return (cast("Word", found["word"]), found["call_id"]) if found else (None, None)
