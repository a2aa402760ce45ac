"""Reply tokens: they name one open question of one replica, and nobody can make one without our secret.

A token is random and signed with HMAC-SHA256 over itself and the session's reference, so it cannot be forged, altered
or used for another session. Several secrets may be live: the first signs, all are accepted. The same secrets prove that
a note among the actions is the bridge's own (`sign`, `signed`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

_RANDOM_BYTES = 12
_MAC_BYTES = 16
_TOKEN_LENGTH = 38


class Tokens:
    """Mints and checks."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = list(keys) or [secrets.token_bytes(32)]
        # Keys of their own, so that a proof of one kind can never pass for the other.
        self._note_keys = [hmac.digest(key, b"callbridge/notes", hashlib.sha256) for key in self._keys]

    def mint(self, reference: str) -> str:
        """A new token for a question of this session."""
        nonce = secrets.token_bytes(_RANDOM_BYTES)
        return _text(nonce + _mac(self._keys[0], _named(nonce, reference)))

    def genuine(self, token: str, reference: str) -> bool:
        """Whether one of our replicas minted this token for this session."""
        raw = _bytes(token)
        if raw is None:
            return False
        nonce, mac = raw[:_RANDOM_BYTES], raw[_RANDOM_BYTES:]
        return _proves(self._keys, mac, _named(nonce, reference))

    def sign(self, reference: str, note: bytes) -> bytes:
        """The proof of a note of ours to this session."""
        return base64.urlsafe_b64encode(_mac(self._note_keys[0], _about(note, reference)))

    def signed(self, proof: bytes, reference: str, note: bytes) -> bool:
        """Whether one of our replicas wrote exactly this note to this session."""
        try:
            mac = base64.b64decode(proof, altchars=b"-_", validate=True)
        except ValueError:
            return False
        return _proves(self._note_keys, mac, _about(note, reference))


def _proves(keys: Sequence[bytes], mac: bytes, content: bytes) -> bool:
    good = False
    for key in keys:
        good |= hmac.compare_digest(mac, _mac(key, content))
    return good


def _named(nonce: bytes, reference: str) -> bytes:
    return nonce + b"/" + reference.encode()


def _about(note: bytes, reference: str) -> bytes:
    """The length of the name is told, so that nothing can be moved from one part to the other."""
    name = reference.encode()
    return b"%d/" % len(name) + name + note


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)[:_MAC_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(token: str) -> bytes | None:
    """The token's bytes, or None for any text that `mint` would not have written (so no token has two spellings)."""
    if len(token) != _TOKEN_LENGTH or not token.isascii():
        return None
    try:
        raw = base64.b64decode(token + "==", altchars=b"-_", validate=True)
    except ValueError:
        return None
    return raw if _text(raw) == token else None
