"""`ask-sasha`: what the rules say, from a worker or, where none answers, from here."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from adapters.nats_connection import open_connection
from adapters.rule_engine import RuleEngine
from adapters.rule_facts import create_rule_facts
from cli import output
from cli.environment import load_settings
from cli.running import run
from pipeline.errors import DependencyUnavailable, RefusedInput
from pipeline.events import RULE_QUESTIONS
from pipeline.policy_hook_file import ADVICE_SECONDS_LIMIT
from pipeline.questions import HUMAN_ASKER, Question, RuleAnswer, Verdict, under_floor
from pipeline.rule_messages import answer_document, question_document, read_question
from pipeline.team import TEAM
from settings import Settings

EXAMPLES = {
    "ask-sasha": """
Examples:

  python starter.py ask-sasha "May I downgrade this error?"

  python starter.py ask-sasha "Am I on hold?" --requirement REQ-101 --json
"""
}

PATIENCE_SECONDS = ADVICE_SECONDS_LIMIT + 5.0
"""The longest that a worker may take: its program, and before that a database that is silent."""
HINT_SECONDS = 3.0
"""A worker without a program answers in milliseconds, two seconds later without its database."""

_HINT = f"A worker asks its program, which may take {ADVICE_SECONDS_LIMIT} s at most. Waiting …"
_OWED = "A worker has the question, and its answer may be stricter. Ask again."

_ANSWER = ("answer", "rule", "reason", "source")


def ask_sasha(
    question: Annotated[str, typer.Argument(help="What you want to know, as `May I …?`.")],
    agent: Annotated[str, typer.Option("--agent", help="Who asks.")] = HUMAN_ASKER,
    requirement: Annotated[
        str, typer.Option("--requirement", help="The requirement that it is about.")
    ] = "",
    context: Annotated[str, typer.Option("--context", help="What led to the question.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Ask what the rules say: yes, no or unclear, and why.

    A worker answers, after its program if it has one; without a worker the rules alone.
    """
    _check_asker(agent)
    asked = Question(agent, question, context, requirement=requirement)
    read_question(_encoded(asked))  # refused here as a worker would refuse it
    document = run(_answered(load_settings(), asked))
    if as_json:
        output.write_json(document)
    else:
        for key in _ANSWER:
            output.write(output.plain(f"{key:8}{document[key]}"))


def _check_asker(agent: str) -> None:
    if agent not in (HUMAN_ASKER, *TEAM):
        names = ", ".join((HUMAN_ASKER, *TEAM))
        raise RefusedInput(f"There is no agent {agent[:80]!r}: {names}.")


async def _answered(settings: Settings, question: Question) -> Mapping[str, object]:
    """A worker's answer. Without one it is ours; if a worker owes one, ours is never a yes."""
    try:
        return await _by_worker(settings, question)
    except (DependencyUnavailable, NoRespondersError):
        answer = await _from_here(settings, question)
        return _document(answer, "no worker answered")
    except (NatsError, OSError):  # TimeoutError is an OSError
        answer = await _from_here(settings, question)
        decision = under_floor(answer.decision, Verdict.UNCLEAR, _OWED)
        why = "a worker has the question and has not answered"
        return _document(replace(answer, decision=decision), why)


async def _by_worker(settings: Settings, question: Question) -> Mapping[str, object]:
    """The answer of a worker.

    Raises: DependencyUnavailable without NATS, NoRespondersError without a worker; NatsError,
        OSError if a worker may have the question and its answer has not come.
    """
    password = settings.nats_password
    client = await open_connection(
        settings.nats_url, settings.nats_user, password.get_secret_value() if password else None
    )
    hint = asyncio.get_running_loop().call_later(HINT_SECONDS, output.say, _HINT)
    try:
        reply = await client.request(RULE_QUESTIONS, _encoded(question), timeout=PATIENCE_SECONDS)
    finally:
        hint.cancel()
        await client.close()
    document: dict[str, Any] = json.loads(reply.data)
    return document


async def _from_here(settings: Settings, question: Question) -> RuleAnswer:
    facts = create_rule_facts(settings.database_url.get_secret_value())
    try:
        return await RuleEngine(facts).answer(question)
    finally:
        await facts.close()


def _document(answer: RuleAnswer, why: str) -> Mapping[str, object]:
    source = f"this command, as {why}: {answer.source}"
    return answer_document(replace(answer, source=source), datetime.now(UTC))


def _encoded(question: Question) -> bytes:
    return json.dumps(question_document(question)).encode()
