"""`ask-sasha`: what the rules say; a worker answers or, without one, this command itself."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from adapters.nats.connection import open_connection
from adapters.rule_engine import RuleEngine
from adapters.sdlc.rule_facts import create_rule_facts
from cli import output
from cli.inputs import find_pipeline
from cli.running import AsJson, load_settings, run
from pipeline.agents_file import ADVICE_SECONDS_LIMIT
from pipeline.errors import DependencyUnavailable, RefusedInput
from pipeline.events import RULE_QUESTIONS
from pipeline.questions import HUMAN_ASKER, Question, RuleAnswer, Verdict, under_floor
from pipeline.rule_messages import answer_document, question_document, read_question
from pipeline.team import TEAM, is_agent_name
from settings import Settings

EXAMPLES = {
    "ask-sasha": """
Examples:

  python starter.py ask-sasha "May I downgrade this error?"

  python starter.py ask-sasha "Am I on hold?" --requirement REQ-101 --json
"""
}

PATIENCE_SECONDS = ADVICE_SECONDS_LIMIT + 5.0
"""The longest answer of a worker: it waits for a silent database, then for its program."""
HINT_SECONDS = 3.0
"""A worker without a program answers in milliseconds, or in two seconds without its database."""

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
    as_json: AsJson = False,
) -> None:
    """Ask what the rules say: yes, no or unclear, and why.

    A worker answers and asks its program first, if it has one. Without a worker, only the rules
    answer.
    """
    _check_asker(agent, requirement)
    asked = Question(agent, question, context, requirement=requirement)
    read_question(_encoded(asked))  # refuses what a worker would refuse
    document = run(_answered(load_settings(), asked))
    if as_json:
        output.write_json(document)
    else:
        for key in _ANSWER:
            output.write(output.plain(f"{key:8}{document[key]}"))


def _check_asker(agent: str, requirement: str) -> None:
    """Refuse a slip. A requirement may have agents of its own, whom its rows know."""
    if agent in (HUMAN_ASKER, *TEAM) or (requirement and is_agent_name(agent)):
        return
    usual = find_pipeline(load_settings().pipeline)
    names = dict.fromkeys((HUMAN_ASKER, *TEAM, *(stage.agent for stage in usual.stages)))
    if agent not in names:
        raise RefusedInput(f"There is no agent {agent[:80]!r}: {', '.join(names)}.")


async def _answered(settings: Settings, question: Question) -> Mapping[str, object]:
    """A worker's answer, or ours without a worker; ours is never a yes while a worker owes one."""
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
    """A worker's answer, over NATS.

    Raises: DependencyUnavailable without NATS, NoRespondersError without a worker; NatsError or
        OSError if a worker may have the question but has not answered.
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
