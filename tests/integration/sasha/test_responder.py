"""Questions about the rules over a real NATS server."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from adapters.nats.connection import settled
from adapters.responder import Responder
from pipeline.errors import DependencyUnavailable
from pipeline.events import RULE_QUESTIONS
from tests.eventually import PATIENCE_SECONDS, eventually, eventually_async
from tests.fixtures_sdlc import NatsServer
from tests.rule_asking import Asker, a_responder


@pytest.fixture
async def responder(nats_server: NatsServer) -> AsyncIterator[Responder]:
    responder = a_responder(nats_server)
    await responder.start()
    yield responder
    await responder.stop()


@pytest.fixture
async def asker(nats_server: NatsServer, responder: Responder) -> AsyncIterator[Asker]:
    async with Asker(nats_server) as asker:
        yield asker


async def test_an_asker_is_answered_and_everybody_hears_it(asker: Asker) -> None:
    answer = await asker.ask("May I downgrade this error?", correlationId="mine")

    assert (answer["answer"], answer["correlationId"]) == ("no", "mine")
    assert answer["rule"] == "Rule 2: Never downgrades errors"
    assert answer["requestingAgent"] == "roy"
    assert answer["question"] == "May I downgrade this error?"
    assert answer["source"] == "rules"
    assert answer["reason"]
    await eventually(lambda: asker.heard == [answer], "the same answer for everybody")


async def test_a_question_without_an_inbox_is_answered_to_everybody(asker: Asker) -> None:
    await asker.tell("May I restart NATS?")

    await eventually(lambda: len(asker.heard) == 1, "an answer")
    assert asker.heard[0]["answer"] == "no"
    assert asker.heard[0]["correlationId"]  # made by the responder


async def test_a_thousand_questions_get_one_answer_each(
    nats_server: NatsServer, asker: Asker
) -> None:
    other = a_responder(nats_server)
    await other.start()

    async with asyncio.timeout(PATIENCE_SECONDS):
        for index in range(1_000):
            await asker.tell("May I skip QA?", correlationId=str(index))
        await eventually(lambda: len(asker.heard) >= 1_000, "a thousand answers")
        await other.stop()
        await asker.ask("May I skip QA?", correlationId="last")

    count = Counter(str(answer["correlationId"]) for answer in asker.heard)
    assert {count[str(index)] for index in range(1_000)} == {1}


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "not JSON"),
        (b"May I?", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b"[]", "object"),
        (b"{}", "requestingAgent"),
        (b'{"requestingAgent": "roy"}', "question"),
        (b'{"requestingAgent": "roy", "question": " "}', "question"),
        (b'{"requestingAgent": 7, "question": "May I?"}', "requestingAgent"),
        (b'{"requestingAgent": "roy", "question": {"may": "I"}}', "question"),
        (b'{"requestingAgent": "roy", "question": "May I?", "context": []}', "context"),
        (b'{"requestingAgent": "roy", "question": "May I?", "reqNumber": "7"}', "reqNumber"),
        (json.dumps({"requestingAgent": "r", "question": "x" * 3_000}).encode(), "3000"),
        (b"x" * 1_048_576, "1048576 bytes"),
    ],
)
async def test_a_malformed_question_is_answered_with_what_is_wrong(
    asker: Asker, data: bytes, wrong: str
) -> None:
    answer = await asker.request(RULE_QUESTIONS, data)

    assert answer["answer"] == "unclear"
    assert wrong in answer["reason"]
    assert len(json.dumps(answer)) < 2_000
    # and the responder continues
    assert (await asker.ask("May I skip the test?"))["answer"] == "no"


async def test_half_a_character_is_no_trouble(asker: Asker) -> None:
    answer = await asker.ask("May I downgrade the error? \ud83d", context="\ud83d REQ-1 \0")

    assert answer["answer"] == "no"


async def test_an_inbox_that_cannot_be_written_leaves_the_other_answer(asker: Asker) -> None:
    question = json.dumps({"requestingAgent": "roy", "question": "May I skip QA?"}).encode()
    await asker.client.publish(RULE_QUESTIONS, question, reply="no.*.inbox")

    await eventually(lambda: len(asker.heard) == 1, "the answer to everybody")


async def test_the_responder_answers_again_after_nats_was_restarted(
    nats_server: NatsServer, asker: Asker
) -> None:
    question = json.dumps({"requestingAgent": "roy", "question": "May I skip QA?"}).encode()
    nats_server.stop()
    nats_server.start()

    async def is_answered() -> bool:
        try:
            answer = await asker.request(RULE_QUESTIONS, question, seconds=0.5)
        except TimeoutError:
            return False
        return bool(answer["answer"] == "no")

    await eventually_async(lambda: _connected(asker), "the asker's own connection")
    await eventually_async(is_answered, "an answer after the restart")


async def _connected(asker: Asker) -> bool:
    return asker.client.is_connected


async def test_a_responder_without_nats_does_not_open(nats_server: NatsServer) -> None:
    nats_server.stop()

    with pytest.raises(DependencyUnavailable, match="NATS"):
        await a_responder(nats_server).start()


async def test_a_responder_that_closes_answers_what_it_has_taken(
    responder: Responder, asker: Asker
) -> None:
    for index in range(50):
        await asker.tell("May I skip QA?", correlationId=str(index))
    await settled(asker.client)

    await responder.stop()

    await eventually(lambda: len(asker.heard) == 50, "every answer")


async def test_a_responder_that_closes_leaves_no_question_between_itself_and_the_next_one(
    nats_server: NatsServer, responder: Responder, asker: Asker, late_responder: None
) -> None:
    other = a_responder(nats_server)
    await other.start()
    closing = asyncio.create_task(responder.stop())
    asked = 0
    while not closing.done():
        await asker.tell("May I skip QA?", correlationId=str(asked))
        asked += 1
        await asyncio.sleep(0.001)

    await eventually(lambda: len(asker.heard) == asked, "every answer")
    await other.stop()


@pytest.fixture
def late_responder(monkeypatch: pytest.MonkeyPatch, asker: Asker) -> None:
    """A responder on a busy event loop: it comes to write what is pending only after a while."""
    kick, kicks = Client._flush_pending, set[asyncio.Future[None]]()

    async def late(client: Client) -> None:
        await asyncio.sleep(0.05)
        await kick(client)

    async def kick_late(client: Client, force_flush: bool = False) -> None:
        if client is asker.client:
            await kick(client)
        else:
            kicks.add(asyncio.ensure_future(late(client)))

    monkeypatch.setattr(Client, "_flush_pending", kick_late)
