"""`ask-sasha` beside a responder that takes its time: a worker's answer is waited for, or owed."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from cli import ask_sasha, output
from pipeline.questions import Decision, Question, Verdict
from settings import Settings
from tests.eventually import eventually
from tests.fixtures_sdlc import NatsServer
from tests.rule_asking import USER, Answer, Asker, a_responder

MAY_EXTEND = Question("roy", "May I extend my deadline?")
DOWNGRADE = Question("roy", "May I downgrade this error?")


class SlowAdviser:
    """Says no, once it may speak."""

    def __init__(self) -> None:
        self.may_speak = asyncio.Event()

    async def advise(self, question: Question, decision: Decision) -> tuple[Verdict, str]:
        await self.may_speak.wait()
        return Verdict.NO, "Not on a Friday."


@pytest.fixture
def settings(nats_server: NatsServer, database_url: str) -> Settings:
    return Settings(
        NATS_URL=nats_server.url,
        NATS_USER=USER,
        NATS_PASSWORD=nats_server.password,
        DATABASE_URL=database_url,
    )


async def ask(
    server: NatsServer, settings: Settings, adviser: SlowAdviser
) -> tuple[Answer, list[Answer]]:
    """What the command prints, and what everybody else hears in the end."""
    async with AsyncExitStack() as stack:
        responder = a_responder(server, second_opinion=adviser.advise)
        await responder.start()
        stack.push_async_callback(responder.stop)
        asker = await stack.enter_async_context(Asker(server))
        said = await ask_sasha._answered(settings, MAY_EXTEND)  # the command less its settings
        adviser.may_speak.set()
        await eventually(lambda: bool(asker.heard), "the answer for everybody")
        return said, asker.heard


async def test_program_is_waited_for_and_there_is_one_answer(
    nats_server: NatsServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    adviser = SlowAdviser()
    monkeypatch.setattr(ask_sasha, "HINT_SECONDS", 0.1)
    monkeypatch.setattr(output, "say", lambda _: adviser.may_speak.set())

    said, heard = await ask(nats_server, settings, adviser)

    assert (said["answer"], said["source"]) == ("no", "rules; advised by Sasha's program")
    assert heard == [said]


async def test_owed_answer_is_never_a_yes(
    nats_server: NatsServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_sasha, "PATIENCE_SECONDS", 0.2)

    said, heard = await ask(nats_server, settings, SlowAdviser())

    assert (said["answer"], [answer["answer"] for answer in heard]) == ("unclear", ["no"])
    assert "Ask again" in said["reason"]
    assert (
        said["source"] == "this command, as a worker has the question and has not answered: rules"
    )


async def test_no_of_the_rules_needs_no_worker(settings: Settings, nats_server: NatsServer) -> None:
    said = await ask_sasha._answered(settings, DOWNGRADE)

    assert said["answer"] == "no"
    assert said["source"] == "this command, as no worker answered: rules"
