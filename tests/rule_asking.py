"""Another program on NATS: it asks Sasha and collects what is answered to everybody."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self

from nats.aio.client import Client
from nats.aio.msg import Msg

from adapters.nats.connection import NatsLogin, open_connection, settled
from adapters.responder import Extensions, Responder
from adapters.rule_engine import RuleEngine, SecondOpinion
from pipeline.errors import UnknownRequirement
from pipeline.events import EXTENSION_ANSWERS, EXTENSION_REQUESTS, RULE_ANSWERS, RULE_QUESTIONS
from pipeline.model import ExtensionRequest
from pipeline.ports import Extender, RuleFacts
from pipeline.questions import RequirementFacts
from tests.fixtures_sdlc import NatsServer

USER = "agog"
Answer = Mapping[str, Any]


class FixedFacts:
    """RuleFacts of one requirement, or of none."""

    def __init__(self, facts: RequirementFacts | None = None) -> None:
        self.facts = facts

    async def of(self, number: str) -> RequirementFacts:
        if self.facts is None or self.facts.number != number:
            raise UnknownRequirement(f"There is no requirement {number}.")
        return self.facts


class RecordingExtender:
    """Extender that grants everything."""

    def __init__(self) -> None:
        self.requests: list[ExtensionRequest] = []

    async def extend(self, number: str, request: ExtensionRequest, repeat_id: str) -> str:
        self.requests.append(request)
        return f"{number}/run/{request.stage}/1"


def a_responder(
    server: NatsServer,
    facts: RuleFacts | None = None,
    extender: Extender | None = None,
    second_opinion: SecondOpinion | None = None,
) -> Responder:
    facts = facts or FixedFacts()
    extensions = Extensions(facts, extender or RecordingExtender())
    login = NatsLogin(server.url, USER, server.password)
    return Responder(login, RuleEngine(facts, second_opinion), extensions)


class Asker:
    """Asks, with an inbox or without one."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server
        self.heard: list[Answer] = []
        self.extended: list[Answer] = []

    async def __aenter__(self) -> Self:
        self.client: Client = await open_connection(self._server.url, USER, self._server.password)
        await self.client.subscribe(RULE_ANSWERS, cb=self._listen(self.heard))
        await self.client.subscribe(EXTENSION_ANSWERS, cb=self._listen(self.extended))
        await settled(self.client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def ask(self, question: str, **fields: object) -> Answer:
        """The answer that comes to the inbox."""
        message = {"requestingAgent": "roy", "question": question, **fields}
        return await self.request(RULE_QUESTIONS, json.dumps(message).encode())

    async def extend(self, **fields: object) -> Answer:
        return await self.request(EXTENSION_REQUESTS, json.dumps(fields).encode())

    async def request(self, subject: str, data: bytes, seconds: float = 20) -> Answer:
        """Exactly one answer comes to the inbox; a second one would stand in the way."""
        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        await self.client.publish(subject, data, reply=inbox)
        message = await subscription.next_msg(timeout=seconds)
        if not message.data:  # the server itself: nobody listens
            raise TimeoutError
        await settled(self.client)
        assert subscription.pending_msgs == 0
        await subscription.unsubscribe()
        answer: Answer = json.loads(message.data)
        return answer

    async def tell(self, question: str, **fields: object) -> None:
        """Ask without an inbox."""
        message = {"requestingAgent": "roy", "question": question, **fields}
        await self.client.publish(RULE_QUESTIONS, json.dumps(message).encode())

    @staticmethod
    def _listen(heard: list[Answer]) -> Any:
        async def listen(message: Msg) -> None:
            heard.append(json.loads(message.data))
            await asyncio.sleep(0)

        return listen
