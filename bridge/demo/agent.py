"""A voice agent in one file, the example for consumers: it hears calls on `calls.events` and acts on `calls.actions`.

It promises an answer to every question of its own calls, be it "nothing to do", so that no provider waits in vain. It
is written with `bridge.client`, which sees to keys, order, offsets and an orderly end; what callers would really want to
hear is left out. docs/client.md tells the rest.

    python -m bridge.demo.agent --bootstrap 127.0.0.1:9092
"""

from __future__ import annotations

import argparse

import anyio

from bridge.client import (
    Agent,
    CallAmd,
    CallAnswered,
    ClientSettings,
    Event,
    Hangup,
    Heard,
    Hearing,
    InjectContext,
    KafkaSettings,
    SessionStarted,
    Speak,
    ToolRequested,
    ToolResult,
    UserDtmf,
    UserSilent,
    UserSpoke,
    VerbFinished,
    serve,
)

NAME = "sample"
LISTENS_SECONDS = 20.0
QUESTION = Speak(
    text="You have an appointment on Tuesday at ten. Will you come?", user_input_timeout_seconds=LISTENS_SECONDS
)


def is_ours(event: Event) -> bool:
    """Whether this agent is meant: a command's `metadata` comes back on the events of its call, and may name another."""
    return bool((event.metadata or {}).get("agent", NAME) == NAME)


agent = Agent(f"{NAME}-agent", is_mine=is_ours)


@agent.on(SessionStarted)
async def greet(heard: Heard[SessionStarted]) -> None:
    """The callee has answered."""
    greeting = "Hello, Doctor Example's practice. Am I speaking to the patient?"
    await heard.answer(Speak(text=greeting, user_input_timeout_seconds=LISTENS_SECONDS))


@agent.on(UserSpoke)
async def listen(heard: Heard[UserSpoke]) -> None:
    """The conversation."""
    text = heard.event.data.text
    if "cancel" in text:
        await heard.answer(Speak(text="That is a pity. The appointment is cancelled. Goodbye!"), Hangup())
    elif "Tuesday" in text:
        await heard.answer(Speak(text="Thank you, we will see you on Tuesday. Goodbye!"), Hangup())
    else:
        await heard.answer(QUESTION)


@agent.on(UserDtmf)
async def count_keys(heard: Heard[UserDtmf]) -> None:
    """1 confirms."""
    await confirm_by_key(heard, heard.event.data.digit)


@agent.on(VerbFinished)
async def count_gathered(heard: Heard[VerbFinished]) -> None:
    """The same where keys come together; else a verb has ended, and what follows is the user's turn."""
    if heard.event.data.digits is None:
        await heard.release()
    else:
        await confirm_by_key(heard, heard.event.data.digits)


async def confirm_by_key(heard: Heard[UserDtmf] | Heard[VerbFinished], digits: str) -> None:
    """The conversation by keys."""
    if digits == "1":
        await heard.answer(Speak(text="Thank you for confirming. Goodbye!"), Hangup())
    else:
        await heard.answer(QUESTION)


@agent.on(UserSilent)
async def ask_again(heard: Heard[UserSilent]) -> None:
    """Perhaps it was not understood."""
    await heard.answer(QUESTION)


# Where the provider's own assistant or application talks, there is less to say and something to be said unasked.


@agent.on(CallAnswered)
async def tell(heard: Heard[CallAnswered]) -> None:
    """Tell HMS Sovereign's assistant, which nobody asked for, what it is calling about."""
    if heard.event.provider == "hms_sovereign":
        await heard.act(InjectContext(text="The appointment is on Tuesday at ten."))


@agent.on(ToolRequested)
async def look_up(heard: Heard[ToolRequested]) -> None:
    """The provider's assistant wants to know something."""
    first, *others = [
        ToolResult(tool_call_id=call.tool_call_id, result={"slot": "Tuesday at ten"}) for call in heard.event.data.calls
    ]
    await heard.answer(first, *others)


@agent.on(CallAmd)
async def leave_no_message(heard: Heard[CallAmd]) -> None:
    """Hang up on answering machines."""
    if heard.event.data.verdict == "machine":
        await heard.act(Hangup())


@agent.on_other
async def go_on(heard: Heard[Event]) -> None:
    """Such as `assistant.finished`: our words were heard, now it is the user's turn."""
    await heard.release()


def settings(bootstrap: str) -> ClientSettings:
    """Old calls are over: after a pause the agent does not talk to them. Results are not looked at."""
    return ClientSettings(
        # The quick-start broker does not wake a waiting fetch; others do.
        kafka=KafkaSettings(bootstrap_servers=bootstrap.split(","), client_id=NAME, fetch_max_wait_seconds=0.02),
        hearing=Hearing(stale_after_seconds=60.0),
        follows=(),
    )


def main() -> None:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(
        prog="python -m bridge.demo.agent", description="A sample voice agent.", allow_abbrev=False
    )
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    mine = settings(parser.parse_args().bootstrap)
    anyio.run(lambda: serve(agent, mine, on_ready=lambda: print(f"listening to {mine.topics.events}", flush=True)))


if __name__ == "__main__":
    main()
