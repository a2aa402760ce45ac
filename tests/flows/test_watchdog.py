"""Calls whose end nobody tells: looked up where the provider can be asked, closed by time where it cannot."""

from __future__ import annotations

import secrets
from pathlib import Path

import anyio
import pytest

from bridge.actions.watchdog import end_id
from bridge.demo.simulators.faults import WrongSecret
from bridge.demo.simulators.script import Callee, HangUp, Say, Script, WebhookRule
from tests.flows.test_other_providers import HMS, hms
from tests.flows.test_other_providers import stage as hms_stage
from tests.support.brokers import Broker
from tests.support.daemon import running, write_config
from tests.support.stage import stage
from tests.support.webhooks import answering, echo, new_session, post, started

pytestmark = pytest.mark.anyio

QUICK = {"silent_seconds": 1.0, "longest_pause_seconds": 2.0, "tick_seconds": 0.1}


async def test_a_call_of_hms_that_nobody_takes(apache_kafka: Broker, tmp_path: Path) -> None:
    """No webhook ever comes: the provider is asked, and what it says is the end. Once."""
    vendor = hms(Script(callees=(Callee(answers=False, rings_seconds=40),)))
    async with hms_stage(apache_kafka, tmp_path, vendor, lambda _: HMS, watchdog=QUICK) as here:
        result = await here.place("c-1")
        ended = await here.event("call.ended")
        assert (ended.json["session"], ended.json["call_id"]) == (result["provider_call_id"], result["call_id"])
        assert ended.json["data"]["reason"] != "unknown"
        assert "raw" not in ended.json
        assert ended.ce_id == end_id(f"x/{result['provider_call_id']}")
        assert await here.daemon.metric("look_ups_total", found="live") >= 1
        assert await here.daemon.metric("calls_closed_total", by="lookup") == 1
        assert await here.daemon.metric("watched_sessions") == 0


async def test_a_session_of_sipgate_whose_end_was_lost(apache_kafka: Broker, tmp_path: Path) -> None:
    """It is over when nothing was heard of it for `session_ttl_seconds`; then every replica knows that it is."""
    lost = WebhookRule(fault=WrongSecret(), on="session_end")
    callee = Callee(rings_seconds=1, turns=(Say(text="Yes"), HangUp()), webhook_faults=(lost,))
    connections = {"demo": {"session_ttl_seconds": 3}}
    async with stage(apache_kafka, tmp_path, connections=connections, watchdog=QUICK) as here:
        here.play(Script(callees=(callee,)))
        async with answering(here, echo):
            await here.place("c-1", metadata={"order": 7})
            await here.simulator.wait_for(lambda history: history.counts["calls.ended"] > 0, 60)
            [session] = [call.session for call in here.simulator.history.calls.values()]
            events = await here.events(session, count=7)
        assert [event.type for event in events].count("call.ended") == 1
        last = events[-1].json
        assert (last["type"], last["data"]) == ("call.ended", {"reason": "unknown"})
        assert (last["command_id"], last["metadata"]) == ("c-1", {"order": 7})
        await here.daemon.until(lambda: len(here.daemon.lines_of("call.closed")) > 0, "the line of it")
        [entry] = here.daemon.lines_of("call.closed")
        assert (entry["session"], entry["reason"], entry["settled_by"]) == (session, "unknown", "silence")


async def test_a_call_of_sipgate_that_nobody_takes(apache_kafka: Broker, tmp_path: Path) -> None:
    """No id and no word from sipgate: the call is over when no session can begin any more, under our id of it."""
    connections = {"demo": {"match_window_seconds": 1}}
    async with stage(apache_kafka, tmp_path, connections=connections, watchdog=QUICK) as here:
        await here.place("c-1")
        call_id = (await here.result("c-1"))["call_id"]
        [ended] = await here.events(call_id)
        assert (ended.json["data"], ended.json["command_id"]) == ({"reason": "unknown"}, "c-1")


async def test_an_end_is_not_told_again_after_a_restart(apache_kafka: Broker, tmp_path: Path) -> None:
    """What was closed is known by the index, and what is open is found there again."""
    connections = {"demo": {"session_ttl_seconds": 4}}
    async with stage(apache_kafka, tmp_path, connections=connections, watchdog=QUICK) as here:
        first, second = new_session(), new_session()
        await post(here, started(first))
        await here.events(first, count=2)
        await post(here, started(second))
        assert await here.stop() == 0
        await here.start()
        assert [each.type for each in await here.events(second, count=2)] == ["session.started", "call.ended"]
        await here.daemon.until_metric("calls_closed_total", 1, by="silence")
        assert [each.type for each in here.events_so_far(first)] == ["session.started", "call.ended"]


async def test_another_replica_takes_over(apache_kafka: Broker, tmp_path: Path) -> None:
    """Sessions that began on a replica which died are closed by the one that is left, each once."""
    connections = {"demo": {"session_ttl_seconds": 6}}
    async with stage(apache_kafka, tmp_path, connections=connections, watchdog=QUICK) as here:
        other = write_config(
            tmp_path / "other.toml",
            bootstrap=apache_kafka.bootstrap,
            prefix=here.prefix,
            simulator_url=here.simulator.base_url,
            connections=connections,
            watchdog=QUICK,
        )
        async with running(other) as daemon:
            sessions = [new_session() for _ in range(12)]
            async with anyio.create_task_group() as tasks:
                for session in sessions:
                    tasks.start_soon(post, here, started(session))
            here.kill()
            for session in sessions:
                types = [each.type for each in await here.events(session, count=2)]
                assert types == ["session.started", "call.ended"]
            await daemon.until_metric("calls_closed_total", 12)
            assert await daemon.metric("watched_sessions") == 0


async def test_an_end_that_comes_late_passes_as_it_comes(apache_kafka: Broker, tmp_path: Path) -> None:
    """With the metadata of its call, and nothing follows it."""
    connections = {"demo": {"session_ttl_seconds": 2}}
    async with stage(apache_kafka, tmp_path, connections=connections, watchdog=QUICK) as here:
        session = secrets.token_hex(8)
        await post(here, started(session))
        await here.events(session, count=2)
        await post(here, {"type": "session_end", "session": {"id": session}})
        other = new_session()
        await post(here, started(other))
        await here.events(other, count=2)  # time enough for a second end, if there were one
        assert [each.type for each in here.events_so_far(session)] == ["session.started", "call.ended", "session.ended"]
