"""`ask-sasha`: what the rules say, from a worker's desk or, where none answers, from here."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from nats.errors import Error as NatsError

from adapters.nats_connection import open_connection
from adapters.rule_counsel import RuleCounsel
from adapters.rule_facts import create_rule_facts
from cli import output
from cli.environment import load_settings
from cli.running import run
from pipeline.errors import DependencyUnavailable, RefusedInput
from pipeline.events import RULE_QUESTIONS
from pipeline.permissions import HUMAN_ASKER
from pipeline.rule_messages import answer_document, question_document, read_question
from pipeline.rulings import Question, RuleAnswer
from pipeline.team import TEAM
from settings import Settings

EXAMPLES = {
    "ask-sasha": """
Examples:

  python starter.py ask-sasha "May I downgrade this error?"

  python starter.py ask-sasha "Am I on hold?" --agent roy --requirement REQ-101 --json
"""
}

ANSWER_SECONDS = 3.0
"""A worker answers in milliseconds, two seconds later if its database is silent."""

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
    """Ask what the rules say: yes, no or unclear, with the rule and the reason."""
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
    return await _by_worker(settings, question) or await _from_here(settings, question)


async def _by_worker(settings: Settings, question: Question) -> Mapping[str, object] | None:
    """The answer of a worker's desk; None if there is none, or no NATS."""
    password = settings.nats_password
    try:
        client = await open_connection(
            settings.nats_url,
            settings.nats_user,
            password.get_secret_value() if password else None,
        )
    except DependencyUnavailable:
        return None
    try:
        reply = await client.request(RULE_QUESTIONS, _encoded(question), timeout=ANSWER_SECONDS)
    except (NatsError, OSError):  # nobody listens, or nobody answers in time
        return None
    finally:
        await client.close()
    document: dict[str, Any] = json.loads(reply.data)
    return document


async def _from_here(settings: Settings, question: Question) -> Mapping[str, object]:
    facts = create_rule_facts(settings.database_url.get_secret_value())
    try:
        answer = await RuleCounsel(facts).answer(question)
    finally:
        await facts.close()
    source = f"this command, as no worker answered: {answer.source}"
    return answer_document(RuleAnswer(answer.question, answer.ruling, source), datetime.now(UTC))


def _encoded(question: Question) -> bytes:
    return json.dumps(question_document(question)).encode()
