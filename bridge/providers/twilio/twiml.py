"""TwiML as a value: made from elements, so that every text is escaped; and read, where a consumer brings his own.

Promises that what is written is well-formed, has something in it and is no larger than Twilio reads. What may stand in
it and means what is left to `actions` and `verbs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from bridge.model.errors import Poison

LARGEST_BYTES = 64_000
"""An answer of more than 64 kB is an error of ours (contract 9)."""
LONGEST_IN_REQUEST = 4_000
"""Characters of the parameter `Twiml` (contract 3, 10)."""
MOST_LEVELS = 32

_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DOCTYPE = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)


def element(name: str, attributes: Mapping[str, str] | None = None, text: str | None = None) -> Element:
    """One element; attributes and text are escaped when they are written."""
    made = Element(name, dict(attributes or {}))
    made.text = text
    return made


def document(verbs: Iterable[Element]) -> bytes:
    """The whole answer, in UTF-8."""
    response = Element("Response")
    response.extend(list(verbs))
    written: bytes = ElementTree.tostring(response, encoding="utf-8")
    return _DECLARATION + written


def checked_text(text: str, field: str) -> str:
    """The text, which XML can hold.

    Raises:
        Poison: a control character; XML 1.0 has no way to write it.
    """
    if found := _NOT_XML.search(text):
        raise Poison(field, found=f"the character U+{ord(found[0]):04X}", allowed="characters that XML can hold")
    return text


def read(text: str, *, root: str, field: str) -> Element:
    """A consumer's XML, whose outermost element is `root`.

    Raises:
        Poison: not well-formed, another root, a namespace, a document type (which could define entities), or too long.
    """
    allowed = f"well-formed XML in <{root}>, at most {LARGEST_BYTES} bytes, without DOCTYPE and namespaces"
    if len(text.encode("utf-8", "replace")) > LARGEST_BYTES:
        raise Poison(field, found=f"{len(text)} characters", allowed=allowed)
    if _DOCTYPE.search(text):
        raise Poison(field, found="a document type", allowed=allowed)
    try:
        # Without a document type there are no entities to expand and nothing external to fetch. As text, not as bytes:
        # then the encoding that it declares is not looked for.
        found = ElementTree.fromstring(checked_text(text, field))  # noqa: S314
    except ElementTree.ParseError as error:
        line, column = error.position
        raise Poison(field, found=f"XML with a fault at line {line}, column {column}", allowed=allowed) from None
    if any("}" in str(each.tag) for each in found.iter()):
        raise Poison(field, found="a namespace", allowed=allowed)
    if _is_deep(found):
        raise Poison(field, found="elements nested more deeply", allowed=f"{MOST_LEVELS} levels of elements")
    if found.tag != root:
        raise Poison(field, found="another outermost element", allowed=allowed)
    return found


def _is_deep(root: Element) -> bool:
    """Whether it is nested so deeply that it could be read but not be written again."""
    level = [root]
    for _ in range(MOST_LEVELS):
        level = [inner for each in level for inner in each]
    return bool(level)
