"""The completion notice: the agent's last fenced JSON object that names it and its requirement.

Everything else an agent prints is noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from pipeline import notice_fields as read
from pipeline.errors import NoticeRefused
from pipeline.fences import Block, fenced_json, read_block
from pipeline.team import FLAGS, TEAM, Role

NOTICE_LIMIT = 256 * 1024
"""Bytes; a larger notice is refused. NATS takes 1 MB per message."""


class Verdict(StrEnum):
    """The fields of a notice that decide a gate."""

    CRITIQUE = "critique_verdict"
    TEST_RESULT = "test_result"
    OVERALL = "overall"


VERDICTS: Mapping[Role, Verdict] = MappingProxyType(
    {
        Role.CRITIQUE: Verdict.CRITIQUE,
        Role.QA: Verdict.TEST_RESULT,
        Role.SPECIALIST: Verdict.TEST_RESULT,
        Role.STATISTICS: Verdict.OVERALL,
    }
)
"""The verdict that a role must give; the others' notices carry none."""

_ALIASES = {Verdict.TEST_RESULT: ("testResult",)}
_STATUSES = {word: word for word in ("COMPLETE", "BLOCKED", "FAILED")}
_TEST_RESULTS = {word: word for word in ("PASS", "FAIL")}
_CRITIQUES = {
    **{word: word for word in ("APPROVED", "APPROVED_WITH_CONDITIONS", "REQUEST_CHANGES")},
    "REJECTED": "REQUEST_CHANGES",
    "ESCALATE": "ESCALATE",
}


class NoticeStatus(StrEnum):
    """What the agent says of its work."""

    COMPLETE = "COMPLETE"
    BLOCKED = "BLOCKED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Notice:
    """An accepted notice. `flags` are the `needs_…` that were strictly true.

    Verdicts and flags are those that the agent's role gives, verdicts in upper case.
    `raw` is the whole object, for the deliverable and for those downstream.
    """

    agent: str
    number: str
    status: NoticeStatus
    summary: str
    critique_verdict: str = ""
    required_fixes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    test_result: str = ""
    overall: str = ""
    flags: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    owner: str = ""
    raw: Mapping[str, object] = field(default_factory=dict)


def parse_notice(output: str, *, agent: str, number: str) -> Notice:
    """The agent's own notice: the last fenced JSON object naming this agent and requirement.

    Blocks of others are noise. A later block that is broken and could be the agent's is not: an
    earlier notice, perhaps a quoted one, must not stand in for it.

    Raises: NoticeRefused with the exact reason; KeyError for an unknown agent.
    """
    own: Block | None = None
    last: str | None = None
    for last in fenced_json(output):
        # Decoding is dear, and the output may hold megabytes of other blocks.
        if agent in last or "\\u" in last:
            block = read_block(last)
            own = block if _is_own(block, agent, number) else own
    if own is None:
        raise NoticeRefused(_why_none(last, agent, number))
    if own.problem:
        raise NoticeRefused(f"The agent's notice {own.problem}.")
    size = len(own.text.encode(errors="replace"))
    if size > NOTICE_LIMIT:
        raise NoticeRefused(f"The agent's notice has {size} bytes, at most {NOTICE_LIMIT}.")
    return _notice(own.fields, agent, number)


def _why_none(last: str | None, agent: str, number: str) -> str:
    if last is None:
        return f"No notice of {agent}: the output holds no fenced JSON object."
    block = read_block(last)
    if block.problem:
        return f"No notice of {agent}: the last fenced JSON object {block.problem}."
    key, wanted = ("agent", agent) if block.said("agent") != agent else ("req_number", number)
    said = repr(block.said(key))[:80] if key in block.fields else "nothing"
    return f"No notice of {agent}: the last fenced JSON object says {key} {said}, not {wanted!r}."


def _is_own(block: Block, agent: str, number: str) -> bool:
    numbers = (number, None) if block.problem else (number,)
    return block.said("agent") == agent and block.said("req_number") in numbers


def _notice(fields: Mapping[str, object], agent: str, number: str) -> Notice:
    read.check_storable(fields)
    status = read.word(fields, ("status",), _STATUSES)
    summary = read.text(fields, "summary")
    if not status:
        read.refuse("status is missing")
    if not summary:
        read.refuse("summary is missing")
    return Notice(
        agent=agent,
        number=number,
        status=NoticeStatus(status),
        summary=summary,
        critique_verdict=_verdict(fields, agent, Verdict.CRITIQUE),
        required_fixes=read.texts(fields, "required_fixes"),
        reasons=read.texts(fields, "reasons"),
        test_result=_verdict(fields, agent, Verdict.TEST_RESULT),
        overall=_verdict(fields, agent, Verdict.OVERALL),
        flags=_flags(fields, agent),
        failures=read.texts(fields, "failures"),
        owner=read.text(fields, "owner"),
        raw=fields,
    )


def _verdict(fields: Mapping[str, object], agent: str, verdict: Verdict) -> str:
    if VERDICTS.get(TEAM[agent].role) is not verdict:
        return ""
    if verdict is Verdict.CRITIQUE:
        return read.word(fields, (verdict,), _CRITIQUES)
    return read.word(fields, (verdict, *_ALIASES.get(verdict, ())), _TEST_RESULTS)


def _flags(fields: Mapping[str, object], agent: str) -> tuple[str, ...]:
    raised = tuple(flag for flag in FLAGS if read.claim(fields, flag))
    return raised if TEAM[agent].raises_flags else ()
