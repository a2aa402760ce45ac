"""What every connection is put together from: its settings, secrets and HTTP client, each checked at the start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from bridge.model.errors import Broken
from bridge.providers.http import HttpClient
from bridge.providers.protocol import ConnectionContext, Plan
from bridge.providers.settings import HttpSettings, Place
from bridge.runtime.secrets import Secret, SecretSource

S = TypeVar("S", bound=msgspec.Struct)

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, 2.1. Anything else could not be put into a header, which would only show in the first call."""
_USER_IN_URL = re.compile(r"//[^/]*@")


def settings_of(context: ConnectionContext, kind: type[S]) -> tuple[S, Place]:
    """A connection's settings, and where they stand.

    Raises:
        Broken: they are another provider's.
    """
    if not isinstance(context.settings, kind):
        raise Broken(f"settings of another provider: {type(context.settings).__name__}")
    return context.settings, Place(context.config_file, context.connection)


def resolved(source: SecretSource, place: Place, tail: str) -> Secret:
    """A secret.

    Raises:
        Misconfigured: it cannot be had.
    """
    return source.resolve(config_file=place.file, path=place.path(tail))


def all_resolved(sources: Iterable[SecretSource], place: Place, tail: str) -> list[Secret]:
    """The secrets of a list.

    Raises:
        Misconfigured: one cannot be had.
    """
    return [resolved(source, place, f"{tail}[{index}]") for index, source in enumerate(sources)]


def header_token(source: SecretSource, place: Place) -> Secret:
    """The secret of `token`, which goes into a header.

    Raises:
        Misconfigured: it cannot be had, or no header can hold it.
    """
    token = resolved(source, place, "token")
    if not _TOKEN.fullmatch(token.reveal()):
        found = "a secret with characters that a token in a header cannot have"
        raise place.wrong("token", found=found, allowed="letters, digits and ._~+/-, with = at the end (RFC 6750)")
    return token


def bearer(token: Secret) -> dict[str, str]:
    """The header with this token."""
    return {"authorization": f"Bearer {token.reveal()}"}


def http_client(base_url: str, http: HttpSettings, place: Place, *, headers: Mapping[str, str]) -> HttpClient:
    """A client of `base_url` that sends these headers with each request; to be opened by the caller.

    Raises:
        Misconfigured: `base_url` is no address, or one with a password.
    """
    try:
        return HttpClient(base_url, http, headers=headers)
    except ValueError as error:
        shown = _USER_IN_URL.sub("//***@", base_url)
        raise place.wrong("base_url", found=f"'{shown}'", allowed=str(error)) from error


def request_of(plan: Plan, kind: type[S]) -> S:
    """The request of a plan.

    Raises:
        Broken: another provider made it.
    """
    if not isinstance(plan.request, kind):
        raise Broken("the plan was made by another provider")
    return plan.request
