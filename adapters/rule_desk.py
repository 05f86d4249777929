"""Sasha's desk on core NATS: questions about the rules, and wishes for more time.

All workers answer in one queue group, so that one of them takes each message. No slot, no stream
and no workflow stands before an answer to a question.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from adapters.extension_desk import ExtensionDesk
from adapters.nats.connection import (
    NatsLogin,
    close_connection,
    open_connection,
    settled,
    unavailable,
)
from adapters.rule_counsel import RULES, RuleCounsel
from pipeline.errors import MessageRefused
from pipeline.events import (
    EXTENSION_ANSWERS,
    EXTENSION_REQUESTS,
    RULE_ANSWERS,
    RULE_QUESTIONS,
)
from pipeline.extensions import ExtensionAnswer
from pipeline.rule_messages import (
    Document,
    answer_document,
    extension_document,
    read_extension,
    read_question,
    readable_extension,
    readable_question,
)
from pipeline.rulings import NO_RULE, RuleAnswer, Ruling, Verdict

log = logging.getLogger(__name__)

QUEUE = "agog-sasha"
AT_ONCE = 64
"""Messages of one kind in work; what comes on top waits in the client."""
STOP_SECONDS = 5.0
"""What an asker waits for is answered before the end; an extension may take longer than that."""

Respond = Callable[[bytes], Awaitable[Document]]


class RuleDesk:
    """Answers every message once: to its inbox if it has one, and on the subject of answers."""

    def __init__(self, nats: NatsLogin, counsel: RuleCounsel, extensions: ExtensionDesk) -> None:
        self._nats = nats
        self._counsel = counsel
        self._extensions = extensions
        self._client: Client | None = None
        self._subscriptions: list[Subscription] = []
        self._working: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect and subscribe; after an outage of NATS both come back by themselves.

        Raises: DependencyUnavailable.
        """
        self._client = client = await open_connection(
            self._nats.url, self._nats.user, self._nats.password
        )
        with unavailable(self._nats.url):
            await self._serve(client, RULE_QUESTIONS, RULE_ANSWERS, self._answer)
            await self._serve(client, EXTENSION_REQUESTS, EXTENSION_ANSWERS, self._extend)
            await settled(client)

    async def stop(self) -> None:
        """Take no more messages, answer those that were taken, disconnect; within seconds."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                # First for the server, or what it still sends would find no subscription here.
                for subscription in self._subscriptions:
                    await client._send_unsubscribe(subscription._id)
                await settled(client)
                for subscription in self._subscriptions:
                    await subscription.drain()  # type: ignore[no-untyped-call] # theirs
                await asyncio.gather(*self._working, return_exceptions=True)
                await settled(client)
        except (NatsError, OSError) as error:  # TimeoutError is an OSError
            log.warning("Sasha's desk was closed with work on it", extra={"reason": str(error)})
        for task in self._working:
            task.cancel()
        await close_connection(client)

    async def _serve(self, client: Client, subject: str, answers: str, respond: Respond) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def work(message: Msg) -> None:
            try:
                await _send(client, (message.reply, answers), await respond(message.data))
            finally:
                room.release()

        async def take(message: Msg) -> None:
            await room.acquire()
            task = asyncio.create_task(work(message))
            self._working.add(task)
            task.add_done_callback(self._done)

        self._subscriptions.append(await client.subscribe(subject, queue=QUEUE, cb=take))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("Sasha could not answer a message", exc_info=error)

    async def _answer(self, data: bytes) -> Document:
        try:
            question = read_question(data)
        except MessageRefused as refusal:
            asked = readable_question(refusal.document)
            ruling = Ruling(Verdict.UNCLEAR, NO_RULE, str(refusal))
            answer = RuleAnswer(
                replace(asked, correlation=_marked(asked.correlation)), ruling, RULES
            )
            return answer_document(answer, datetime.now(UTC))
        marked = replace(question, correlation=_marked(question.correlation))
        return answer_document(await self._counsel.answer(marked), datetime.now(UTC))

    async def _extend(self, data: bytes) -> Document:
        try:
            wish = read_extension(data)
            marked = replace(wish, correlation=_marked(wish.correlation))
            answer = await self._extensions.answer(marked)
        except MessageRefused as refusal:
            wish = readable_extension(refusal.document)
            answer = ExtensionAnswer(wish, accepted=False, reason=str(refusal))
        return extension_document(answer, datetime.now(UTC))


def _marked(correlation: str) -> str:
    return correlation or uuid.uuid4().hex


async def _send(client: Client, subjects: tuple[str, ...], document: Document) -> None:
    payload = json.dumps(document).encode()
    for subject in filter(None, subjects):
        try:
            await client.publish(subject, payload)
        except NatsError as error:
            # an inbox of any name is the asker's; the other answer goes out all the same
            log.warning("An answer of Sasha's could not be sent", extra={"reason": str(error)})
