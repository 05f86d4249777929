"""The messages about rules and deadlines on NATS: JSON in and out, bounded and checked."""

import json
from collections.abc import Mapping
from datetime import datetime

from pipeline.errors import MessageRefused
from pipeline.events import timestamp
from pipeline.extensions import ExtensionAnswer, ExtensionMessage
from pipeline.numbers import FIX_LENGTH
from pipeline.questions import NUMBER, Question, RuleAnswer, Verdict

MESSAGE_BYTES = 64 * 1024
NAME_LENGTH = 200
QUESTION_LENGTH = 2_000
CONTEXT_LENGTH = 4_000
MINUTES_LIMIT = 10_000_000
ECHO_LENGTH = 200
"""Characters of a refused value that are echoed."""

Document = Mapping[str, object]


def read_question(data: bytes) -> Question:
    """The question in a message. Raises: MessageRefused naming the field and what it must be."""
    document = _object(data)
    return Question(
        agent=_text(document, "requestingAgent", NAME_LENGTH),
        question=_text(document, "question", QUESTION_LENGTH),
        context=_text(document, "context", CONTEXT_LENGTH, may_lack=True),
        correlation=_text(document, "correlationId", NAME_LENGTH, may_lack=True),
        requirement=_number(document) if document.get("reqNumber") else "",
    )


def question_document(question: Question) -> Document:
    """A question as it goes out."""
    return {
        "requestingAgent": question.agent,
        "question": question.question,
        "context": question.context,
        "correlationId": question.correlation,
        "reqNumber": question.requirement,
    }


def readable_question(document: Document) -> Question:
    """The readable part of a refused question, to be echoed."""
    return Question(
        agent=_echo(document, "requestingAgent"),
        question=_echo(document, "question"),
        correlation=_echo(document, "correlationId"),
    )


def answer_document(answer: RuleAnswer, at: datetime) -> Document:
    """The answer as it goes out."""
    return {
        "requestingAgent": answer.question.agent,
        "question": answer.question.question,
        "correlationId": answer.question.correlation,
        "answer": str(answer.decision.answer),
        "rule": answer.decision.rule,
        "reason": answer.decision.reason,
        "source": answer.source,
        "timestamp": timestamp(at),
    }


def read_extension(data: bytes) -> ExtensionMessage:
    """The request for more time in a message. Raises: MessageRefused naming the field."""
    document = _object(data)
    return ExtensionMessage(
        number=_number(document),
        agent=_text(document, "agent", NAME_LENGTH),
        minutes=_minutes(document),
        reason=_text(document, "reason", QUESTION_LENGTH),
        who=_text(document, "extendedBy", NAME_LENGTH),
        correlation=_text(document, "correlationId", NAME_LENGTH, may_lack=True),
    )


def readable_extension(document: Document) -> ExtensionMessage:
    """The readable part of a refused request, to be echoed; its minutes count for nothing."""
    number, agent, who, mark = (
        _echo(document, key) for key in ("reqNumber", "agent", "extendedBy", "correlationId")
    )
    return ExtensionMessage(number, agent, 0.0, "", who, mark)


def extension_document(answer: ExtensionAnswer, at: datetime) -> Document:
    """The answer to a request for more time, as it goes out."""
    return {
        "reqNumber": answer.message.number,
        "agent": answer.message.agent,
        "newTimeout": answer.message.minutes,
        "extendedBy": answer.message.who,
        "correlationId": answer.message.correlation,
        "accepted": answer.accepted,
        "reason": answer.reason,
        "runId": answer.run_id,
        "timestamp": timestamp(at),
    }


def read_advice(data: bytes) -> tuple[Verdict, str]:
    """What Sasha's program answered. Raises: MessageRefused."""
    document = _object(data)
    said = _text(document, "answer", NAME_LENGTH)
    if said not in tuple(Verdict):
        raise MessageRefused("answer must be yes, no or unclear", document)
    return Verdict(said), _text(document, "reason", QUESTION_LENGTH)


def _object(data: bytes) -> Document:
    if len(data) > MESSAGE_BYTES:
        raise MessageRefused(f"The message has {len(data)} bytes: at most {MESSAGE_BYTES}.", {})
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MessageRefused(f"The message is not JSON: {str(error)[:ECHO_LENGTH]}", {}) from error
    if not isinstance(document, dict):
        raise MessageRefused("The message must be a JSON object.", {})
    return document


def _text(document: Document, key: str, most: int, *, may_lack: bool = False) -> str:
    value = document.get(key)
    if value is None and may_lack:
        return ""
    if not isinstance(value, str) or not (value.strip() or may_lack):
        raise MessageRefused(f"{key} must be a text that is not empty", document)
    if len(value) > most:
        raise MessageRefused(f"{key} has {len(value)} characters: at most {most}", document)
    # half a character of UTF-16 is valid JSON, and neither UTF-8 nor storable
    return value.encode(errors="replace").decode()


def _number(document: Document) -> str:
    number = _text(document, "reqNumber", FIX_LENGTH)
    if not NUMBER.fullmatch(number):
        raise MessageRefused(f"reqNumber {number!r} is not of the form REQ-…", document)
    return number


def _minutes(document: Document) -> float:
    value = document.get("newTimeout")
    # to Python a boolean is a number, and so is what is none
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MessageRefused("newTimeout must be a number of minutes", document)
    if not abs(value) < MINUTES_LIMIT:
        raise MessageRefused("newTimeout must be a number of minutes within reason", document)
    return float(value)


def _echo(document: Document, key: str) -> str:
    value = document.get(key)
    return value[:ECHO_LENGTH].encode(errors="replace").decode() if isinstance(value, str) else ""
