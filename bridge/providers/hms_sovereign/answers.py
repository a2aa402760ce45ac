"""What a waiting webhook is answered with: tool results, or who takes an inbound call. Pure; renders all or refuses.

Shapes are those of the contract's section 3.4: `{"results": [{tool_call_id, result}]}`, and for `assistant-request` one
of its four forms. A tool that nobody answered gets an error as its result, because a missing one is not documented.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from bridge.model.actions import Action, Configure, ToolResult
from bridge.model.errors import Poison
from bridge.model.events import ToolCalls
from bridge.model.scrub import describe
from bridge.model.validation import convert_json
from bridge.providers.capabilities import not_offered, one_of
from bridge.providers.hms_sovereign.options import ConfigureOptions, NoOptions
from bridge.providers.protocol import Answer, Heard

NOTHING = Answer(status=200, body=b"{}")
"""Any 2xx acknowledges; `{}` as an answer to `assistant-request` asks for the number's own assistant."""
NO_RESULT = "no result was given"
TOO_LATE = "no answer in time"

_encoder = msgspec.json.Encoder()


def render(heard: Heard, actions: Sequence[Action]) -> Answer:
    """The HTTP answer to a webhook that waits.

    Raises:
        Poison: an action that this question does not take, or with a value HMS Sovereign would not take.
    """
    if isinstance(heard.data, ToolCalls):
        return _results(heard.data, actions)
    return configuration(actions)


def unanswered(heard: Heard) -> Answer:
    """The answer without the consumer: an error for each tool, else the vendor's own default."""
    if isinstance(heard.data, ToolCalls):
        return _encoded({call.tool_call_id: {"error": TOO_LATE} for call in heard.data.calls})
    return NOTHING


def configuration(actions: Sequence[Action]) -> Answer:
    """The answer to `assistant-request`.

    Raises:
        Poison: something else than one `configure`.
    """
    if not actions:
        return NOTHING
    action = actions[0]
    if not isinstance(action, Configure):
        allowed = f"{one_of(Configure)}: assistant.requested is answered with one"
        raise not_offered(action, "$.actions[0]", provider="HMS Sovereign", allowed=allowed)
    if len(actions) > 1:
        raise Poison("$.actions", found=f"{len(actions)} actions", allowed="one 'configure'")
    options = convert_json(action.options, ConfigureOptions, path="$.actions[0].options")
    return Answer(status=200, body=_encoder.encode(options))


def _results(asked: ToolCalls, actions: Sequence[Action]) -> Answer:
    results: dict[str, object] = {}
    ids = [call.tool_call_id for call in asked.calls]
    for index, action in enumerate(actions):
        if not isinstance(action, ToolResult):
            allowed = f"{one_of(ToolResult)}: tool.requested is answered with one for each call"
            raise not_offered(action, f"$.actions[{index}]", provider="HMS Sovereign", allowed=allowed)
        convert_json(action.options, NoOptions, path=f"$.actions[{index}].options")
        field = f"$.actions[{index}].tool_call_id"
        if action.tool_call_id not in ids:
            raise Poison(field, found=describe(action.tool_call_id), allowed=f"one of {', '.join(ids)}")
        if action.tool_call_id in results:
            raise Poison(field, found="a second result", allowed="one result for each call")
        results[action.tool_call_id] = action.result
    return _encoded({each: results.get(each, {"error": NO_RESULT}) for each in ids})


def _encoded(results: dict[str, object]) -> Answer:
    entries = [{"tool_call_id": tool_call_id, "result": result} for tool_call_id, result in results.items()]
    return Answer(status=200, body=_encoder.encode({"results": entries}))
