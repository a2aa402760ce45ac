"""What only an answer can bring is refused in a live call in its own way, so that it may wait for the next question."""

from __future__ import annotations

import pytest

from bridge.model import actions as ours
from bridge.model.errors import Poison
from bridge.providers.hms_sovereign.control import render
from bridge.providers.jambonz.control import requests_for
from bridge.providers.protocol import NotThisWay


@pytest.mark.parametrize(
    "action", [ours.Speak(text="x"), ours.Play(url="https://x"), ours.Transfer(to="+491"), ours.Configure()]
)
def test_jambonz_takes_verbs_in_answers_only(action: ours.Action) -> None:
    """A `PUT` on a call has no verbs."""
    with pytest.raises(NotThisWay) as caught:
        requests_for(action, "$.actions[0]")
    assert caught.value.field == "$.actions[0].type"


@pytest.mark.parametrize("action", [ours.ToolResult(tool_call_id="t", result=1), ours.Configure()])
def test_hms_sovereign_takes_results_in_answers_only(action: ours.Action) -> None:
    """A live call has no tool that waits."""
    with pytest.raises(NotThisWay) as caught:
        render(action, "$.actions[2]")
    assert caught.value.field == "$.actions[2].type"


def test_what_there_is_nowhere() -> None:
    """It waits for nothing: no question would take it either."""
    for call in (
        lambda: requests_for(ours.SendSms(to="+491", text="x"), "$.actions[0]"),
        lambda: render(ours.SendSms(to="+491", text="x"), "$.actions[0]"),
    ):
        with pytest.raises(Poison) as caught:
            call()
        assert not isinstance(caught.value, NotThisWay)
