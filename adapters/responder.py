"""Sasha on core NATS: she answers questions about the rules and requests for more time.

All workers share one queue group, so exactly one takes each message. A question is answered without
a slot, a stream or a workflow.
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

from adapters.nats.connection import (
    NatsLogin,
    close_connection,
    open_connection,
    settled,
    unavailable,
)
from adapters.rule_engine import RULES, RuleEngine
from pipeline.errors import (
    DependencyUnavailable,
    MessageRefused,
    RefusedInput,
    UnknownRequirement,
)
from pipeline.events import (
    EXTENSION_ANSWERS,
    EXTENSION_REQUESTS,
    RULE_ANSWERS,
    RULE_QUESTIONS,
)
from pipeline.extensions import (
    ExtensionAnswer,
    ExtensionMessage,
    check_message,
    extension_request,
    repeat_id,
    running_stage,
)
from pipeline.ports import Extender, RuleFacts
from pipeline.questions import NO_RULE, Decision, RuleAnswer, StageFacts, Verdict
from pipeline.rule_messages import (
    Document,
    answer_document,
    extension_document,
    read_extension,
    read_question,
    readable_extension,
    readable_question,
)

log = logging.getLogger(__name__)

QUEUE = "agog-sasha"
AT_ONCE = 64
"""Messages of one kind in progress; further ones wait in the client."""
STOP_SECONDS = 5.0
"""Questions are answered before the worker ends; an extension may take longer than that."""

Respond = Callable[[bytes], Awaitable[Document]]


_TRIES = 3
"""How often a deadline is read again that others move at the same time."""


class Extensions:
    """Grants more time to running agents, within the bound, through their requirement's workflow.

    A message asks for a new total; the workflow is asked for the minutes beyond what is recorded.
    """

    def __init__(self, facts: RuleFacts, extender: Extender) -> None:
        self._facts = facts
        self._extender = extender

    async def answer(self, message: ExtensionMessage) -> ExtensionAnswer:
        """Grant or refuse it; a repeated message has no second effect."""
        try:
            check_message(message)
            run_id = await self._grant(message)
        except (RefusedInput, UnknownRequirement, DependencyUnavailable) as refusal:
            return ExtensionAnswer(message, False, str(refusal))
        reason = f"{run_id} may run {message.minutes:g} minutes, counted from its start."
        return ExtensionAnswer(message, True, reason, run_id)

    async def _grant(self, message: ExtensionMessage, tries: int = _TRIES) -> str:
        facts = await self._facts.of(message.number)
        own = running_stage(message, facts)
        request = extension_request(message, facts, own)
        if request is None:
            return own.run_id
        try:
            return await self._extender.extend(message.number, request, repeat_id(message, own))
        except RefusedInput:
            if tries == 1 or not await self._was_moved(message, own):
                raise
        return await self._grant(message, tries - 1)

    async def _was_moved(self, message: ExtensionMessage, own: StageFacts) -> bool:
        facts = await self._facts.of(message.number)
        return running_stage(message, facts).deadline != own.deadline


class Responder:
    """Answers every message once: to its inbox if it has one, and on the subject of answers."""

    def __init__(self, nats: NatsLogin, engine: RuleEngine, extensions: Extensions) -> None:
        self._nats = nats
        self._engine = engine
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
        """Take no more messages, answer those already taken, disconnect; all within seconds."""
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
            log.warning(
                "Sasha's responder was closed with messages unanswered",
                extra={"reason": str(error)},
            )
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
            decision = Decision(Verdict.UNCLEAR, NO_RULE, str(refusal))
            answer = RuleAnswer(
                replace(asked, correlation=_marked(asked.correlation)), decision, RULES
            )
            return answer_document(answer, datetime.now(UTC))
        marked = replace(question, correlation=_marked(question.correlation))
        return answer_document(await self._engine.answer(marked), datetime.now(UTC))

    async def _extend(self, data: bytes) -> Document:
        try:
            request = read_extension(data)
            marked = replace(request, correlation=_marked(request.correlation))
            answer = await self._extensions.answer(marked)
        except MessageRefused as refusal:
            request = readable_extension(refusal.document)
            answer = ExtensionAnswer(request, accepted=False, reason=str(refusal))
        return extension_document(answer, datetime.now(UTC))


def _marked(correlation: str) -> str:
    return correlation or uuid.uuid4().hex


async def _send(client: Client, subjects: tuple[str, ...], document: Document) -> None:
    payload = json.dumps(document).encode()
    for subject in filter(None, subjects):
        try:
            await client.publish(subject, payload)
        except NatsError as error:
            # the asker's inbox may be invalid; the answer on the common subject still goes out
            log.warning("An answer of Sasha's could not be sent", extra={"reason": str(error)})
