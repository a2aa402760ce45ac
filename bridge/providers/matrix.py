"""The capability matrix: `callbridge providers` for a terminal, docs/providers.md for readers, from one list of rows.

Everything in it is read from the catalogue's kinds: their profiles, the capabilities that their classes have, and the
structs of their options. Which providers there are is the caller's to say.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from bridge.model.allowed import fields_of, in_words
from bridge.providers import capabilities
from bridge.providers.capabilities import Profile, Question
from bridge.providers.protocol import (
    AnswersQuestions,
    CanControl,
    CanFind,
    CanLookUp,
    ProviderKind,
    SpeaksWebSocket,
)

Row = tuple[str, Callable[[ProviderKind], str]]
_COLUMN, _FIRST = 23, 22
_NO = "no"


def facts() -> Sequence[Row]:
    """What is asked of each provider, and how it is read from its kind."""
    return (
        ("speaks with", lambda kind: kind.profile.title),
        ("dials", lambda kind: ", ".join(kind.profile.callees)),
        ("`from`", lambda kind: kind.profile.fields.get("from", _NO)),
        ("`ring_timeout_seconds`", lambda kind: kind.profile.fields.get("ring_timeout_seconds", _NO)),
        ("dial waits for callee", _waits),
        ("id in the answer", lambda kind: _code(kind.profile.id_in_answer)),
        ("our reference back", lambda kind: kind.profile.reference or "no: matched by callee and time"),
        ("proof of webhooks", lambda kind: kind.profile.proof),
        ("waits for an answer", lambda kind: "; ".join(_questions(kind.profile)) or _NO),
        ("unasked in a call", lambda kind: "yes" if issubclass(kind.profile.adapter, CanControl) else _NO),
        ("WebSocket", lambda kind: "yes" if issubclass(kind.profile.adapter, SpeaksWebSocket) else _NO),
        ("look-up", _look_up),
        ("options of a command", lambda kind: str(len(fields_of(_info(kind.options))) or "none")),
    )


def acts() -> Sequence[Row]:
    """The same for each type of action: by which ways it can be done."""
    return tuple((f"`{name}`", _way_of(name)) for name in capabilities.ACTION_TYPES)


def ways(profile: Profile, action_type: str) -> tuple[frozenset[str], Sequence[str]]:
    """The events in whose answers an action can be done, and the ways by which it can be done unasked."""
    asked = frozenset(
        event
        for event, question in profile.questions.items()
        if action_type in capabilities.types_of(question.takes) and issubclass(profile.adapter, AnswersQuestions)
    )
    unasked = (("control", CanControl, profile.controls), ("websocket", SpeaksWebSocket, profile.websocket))
    return asked, [
        way
        for way, capability, renders in unasked
        if issubclass(profile.adapter, capability) and action_type in capabilities.types_of(renders)
    ]


def as_text(kinds: Mapping[str, ProviderKind]) -> str:
    """The matrix for a terminal; long cells are wrapped."""
    lines = [_line(["", *kinds])]
    for rows in (facts(), acts()):
        lines.append("")
        for name, cell in rows:
            cells = [_wrapped(cell(kind), _COLUMN) for kind in kinds.values()]
            columns = [_wrapped(name, _FIRST), *cells]
            height = max(map(len, columns))
            lines += [_line([column[at] if at < len(column) else "" for column in columns]) for at in range(height)]
    return "\n".join(lines)


def one_as_text(kind: ProviderKind) -> str:
    """One provider, with its options."""
    rows = [f"  {name.replace('`', ''):<24}{cell(kind).replace('`', '')}" for name, cell in (*facts(), *acts())]
    return "\n".join([kind.name, *rows, *_options_as_text(kind)])


def as_markdown(kinds: Mapping[str, ProviderKind]) -> str:
    """The page for readers."""
    parts = [_HEAD, _table("", facts(), kinds), "", _table("action", acts(), kinds), ""]
    for kind in kinds.values():
        parts += [f"## `{kind.name}`", "", *_sections(kind)]
    return "\n".join(parts).rstrip() + "\n"


_HEAD = """# Providers

Written by `callbridge providers --markdown`; a test fails when it is stale. What is not in a table is refused with the
field, what was found and what is allowed, before anything is sent.

*answer*: in the answer to an event that waits (in brackets: only to this one); *control*: at any time in a live call;
*websocket*: at any time, where the provider comes by WebSocket.
"""


# --- cells -----------------------------------------------------------------------------------------------------------


def _waits(kind: ProviderKind) -> str:
    seconds = kind.profile.dial_seconds
    return f"up to {seconds:g} s" if seconds else _NO


def _questions(profile: Profile) -> Iterator[str]:
    """The events that wait, those with the same deadlines together."""
    if not issubclass(profile.adapter, AnswersQuestions):
        return
    alike: dict[tuple[float, float], list[str]] = {}
    for event, question in profile.questions.items():
        alike.setdefault((question.usual_seconds, question.longest_seconds), []).append(event)
    for (usual, longest), events in alike.items():
        words = f"{usual:g} s" if usual else "answered at once"
        yield f"{', '.join(events)}: {words}, at most {longest:g} s"


def _look_up(kind: ProviderKind) -> str:
    adapter = kind.profile.adapter
    found = ["by our reference"] * issubclass(adapter, CanFind) + ["of a silent call"] * issubclass(adapter, CanLookUp)
    return ", ".join(found) or _NO


def _way_of(name: str) -> Callable[[ProviderKind], str]:
    def cell(kind: ProviderKind) -> str:
        asked, unasked = ways(kind.profile, name)
        only = "" if len(asked) == len(kind.profile.questions) else f" ({', '.join(sorted(asked))})"
        found = [*([f"answer{only}"] if asked else []), *unasked]
        return ", ".join(found) or _NO

    return cell


def _code(name: str | None) -> str:
    return "none" if name is None else f"`{name}`"


# --- options ---------------------------------------------------------------------------------------------------------


def _info(struct: type[msgspec.Struct]) -> msgspec.inspect.Type:
    return msgspec.inspect.type_info(struct)


def _options(struct: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Each field and what it allows."""
    for name, node in fields_of(_info(struct)).items():
        yield name, in_words(node, None).removesuffix(" or null")


def _structs(kind: ProviderKind) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    yield "a command", kind.options
    for action, struct in sorted(kind.action_options.items()):
        yield f"{action}", struct


def _options_as_text(kind: ProviderKind) -> Iterator[str]:
    for whose, struct in _structs(kind):
        yield f"\n  options of {whose}{'' if fields_of(_info(struct)) else ': none'}"
        for name, words in _options(struct):
            yield textwrap.fill(f"{name}: {words}", 116, initial_indent="    ", subsequent_indent="      ")


def _sections(kind: ProviderKind) -> Iterator[str]:
    for event, question in kind.profile.questions.items():
        yield _question(event, question)
    if kind.profile.questions:
        yield ""
    for whose, struct in _structs(kind):
        rows = [f"| `{name}` | {words.replace('|', chr(92) + '|')} |" for name, words in _options(struct)]
        if rows:
            title = whose if whose == "a command" else f"`{whose}`"
            yield from (f"Options of {title}:", "", "| name | allowed |", "| --- | --- |", *rows, "")
        else:
            yield from (f"Options of {whose}: none.", "")


def _question(event: str, question: Question) -> str:
    takes = ", ".join(f"`{name}`" for name in capabilities.types_of(question.takes))
    return f"- `{event}` takes {takes}"


# --- layout ----------------------------------------------------------------------------------------------------------


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text.replace("`", ""), width - 2, break_on_hyphens=False) or [""]


def _line(cells: Sequence[str]) -> str:
    first, *others = cells
    return "".join([f"{first:<{_FIRST}}", *(f"{cell:<{_COLUMN}}" for cell in others)]).rstrip()


def _table(title: str, rows: Iterable[Row], kinds: Mapping[str, ProviderKind]) -> str:
    lines = [[title, *(f"[`{name}`](#{name})" for name in kinds)], ["---"] * (len(kinds) + 1)]
    lines += [[name, *(cell(kind) for kind in kinds.values())] for name, cell in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
