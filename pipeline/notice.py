"""The completion notice: the agent's last fenced JSON object that names it and its requirement.

All else that an agent prints is noise, with one exception: a later block that is the agent's own
but no whole notice leaves open what the agent wanted to say, and what is open is never approved.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from types import MappingProxyType
from typing import NoReturn

from pipeline.errors import NoticeRefused
from pipeline.numbers import names_another
from pipeline.team import FLAGS, Agent, Role
from pipeline.transcript import Block, Reading, blocks, read_block, shown, spelling

NOTICE_LIMIT = 256 * 1024
"""Bytes; a larger notice is refused. NATS takes 1 MB per message."""

DEPTH_LIMIT = 64


class Verdict(StrEnum):
    """The fields of a notice that decide a gate."""

    CRITIQUE = "critique_verdict"
    TEST_RESULT = "test_result"
    OVERALL = "overall"


VERDICTS: Mapping[str, Verdict] = MappingProxyType(
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


_FIELDS = {
    spelling(name): name
    for name in (
        *("agent", "req_number", "status", "summary", "required_fixes", "reasons", "failures"),
        *("owner", "changes", "deliverable", "no_changes_needed", *Verdict, *FLAGS),
    )
}
"""The fields that we know, by their spelling; the flags of added specialists come to them."""

_HOW_TO_END = (
    "End the output with a line of three backticks and the word json, the object, and a line of "
    "three backticks."
)
_SHOWS_STATUS = re.compile(r"""\bstatus["']?\s*[:=]\s*["']?(COMPLETE|BLOCKED|FAILED)\b""", re.I)
_SAYS_VERDICT = re.compile(
    r"""\b(status|critique_?verdict|test_?result|overall)["']?\s*[:=]\s*["']?(\w+)""", re.I
)
_SAYS_NUMBER = re.compile(r"""\breq_?number["']?\s*[:=]\s*["']?([\w-]+)""", re.I)
_NEAR = 2000
"""Characters around the name of the agent in which a verdict counts as the agent's."""
_REASON = re.compile(r"[^\W_]")
_NO_REASONS = ("no", "none", "null", "n/a", "false", "true", "yes")


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
    no_changes_needed: str = ""
    """Why nothing had to be changed; empty if the agent gives no reason."""
    raw: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The last block of an agent in its output."""

    block: Block
    reading: Reading
    doubt: str = ""
    """Why it is no notice of the agent, though the agent's own; empty for one that is."""
    is_second: bool = False
    """Whether the agent had given a notice before it."""


def parse_notice(output: str, *, agent: Agent, number: str) -> Notice:
    """The agent's own notice: the last fenced JSON object naming this agent and requirement.

    Raises: NoticeRefused with the exact reason.
    """
    name = agent.name
    found = last_block(output, agent=name, number=number)
    if found is None or (found.doubt and not found.is_second):
        raise NoticeRefused(f"No notice of {name}: {_why_none(found, output, name, number)}")
    if found.doubt:
        raise NoticeRefused(
            f"The agent's notice is followed by another block of {name}, which {found.doubt}. "
            "Print one whole notice, as the last thing."
        )
    size = len(found.reading.text.encode(errors="replace"))
    if size > NOTICE_LIMIT:
        raise NoticeRefused(f"The agent's notice has {size} bytes, at most {NOTICE_LIMIT}.")
    notice = _notice(found.reading.fields, agent, number)
    if told := _contradiction(output, found.block, notice):
        raise NoticeRefused(
            f"The agent's notice is followed by text of {name} that says {told}. Print one whole "
            "notice, as the last thing."
        )
    return notice


def accept_notice(fields: Mapping[str, object], *, agent: Agent, number: str) -> Notice:
    """The notice that an agent gave by its schema, fields that it left empty (null) left out.

    Raises: NoticeRefused with the exact reason.
    """
    given = {key: value for key, value in fields.items() if value is not None}
    for key, wanted in (("agent", agent.name), ("req_number", number)):
        if given.get(key) != wanted:
            said = repr(given[key])[:80] if key in given else "nothing"
            raise NoticeRefused(f"The answer says {key} {said}, not {wanted!r}.")
    _check_storable(given)
    size = len(json.dumps(given, ensure_ascii=False).encode())
    if size > NOTICE_LIMIT:
        raise NoticeRefused(f"The agent's answer has {size} bytes, at most {NOTICE_LIMIT}.")
    return _notice(given, agent, number)


def notice_schema(agent: Agent, number: str) -> dict[str, object]:
    """The JSON schema of that agent's notice, in the strict form that all programs take.

    Strict: every property is required, one that may be left out is null, and nothing is added.
    """
    properties: dict[str, object] = {
        "agent": _one_of((agent.name,)),
        "req_number": _one_of((number,)),
        "status": _one_of(_STATUSES),
        "summary": {"type": "string", "description": "What you did, in one or two sentences."},
        **_schema_of_role(agent),
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema_of_role(agent: Agent) -> dict[str, object]:
    texts = {"type": "array", "items": {"type": "string"}}
    verdict = VERDICTS.get(agent.role)
    told: dict[str, object] = {}
    if verdict is Verdict.CRITIQUE:
        words = [word for word in _CRITIQUES if word == _CRITIQUES[word]]
        told = {verdict: _one_of(words, null=True), "required_fixes": texts, "reasons": texts}
    elif verdict:
        told = {verdict: _one_of(_TEST_RESULTS, null=True), "failures": texts}
    told |= {flag: {"type": "boolean"} for flag in agent.raises}
    if agent.owner_words:
        told["owner"] = _one_of(agent.owner_words, null=True)
    if agent.role == Role.IMPLEMENTATION:
        why = "Only if nothing had to be changed: why. Otherwise null."
        told["no_changes_needed"] = {"type": ["string", "null"], "description": why}
    if not verdict:
        told["deliverable"] = {"type": ["string", "null"]}
    return {str(key): value for key, value in told.items()}


def _one_of(words: Iterable[str], *, null: bool = False) -> dict[str, object]:
    if null:
        return {"type": ["string", "null"], "enum": [*words, None]}
    return {"type": "string", "enum": [*words]}


def _contradiction(output: str, block: Block, notice: Notice) -> str:
    """What a later text that names the agent says otherwise, whatever its form; empty if nothing.

    In a stream of a program nothing stands behind the last message that is not a block.
    """
    text = shown(output)
    begin = text.rfind(block.text)
    after = text[begin + len(block.text) :] if begin >= 0 else ""
    said = {
        "status": notice.status,
        Verdict.CRITIQUE: notice.critique_verdict,
        Verdict.TEST_RESULT: notice.test_result,
        Verdict.OVERALL: notice.overall,
    }
    for named in re.finditer(rf"""\bagent["']?\s*[:=]\s*["']?{re.escape(notice.agent)}\b""", after):
        region = after[max(0, named.start() - _NEAR) : named.end() + _NEAR]
        numbers = _SAYS_NUMBER.findall(region)
        if numbers and all(names_another(each, notice.number) for each in numbers):
            continue
        for key, word in _SAYS_VERDICT.findall(region):
            name = _FIELDS[spelling(key)]
            known = _CRITIQUES if name == Verdict.CRITIQUE else {**_STATUSES, **_TEST_RESULTS}
            told = known.get(word.upper())
            if told and said[name] and told != said[name]:
                return f"{name} {told}"
    return ""


def last_block(output: str, *, agent: str, number: str, is_whole: bool = True) -> Found | None:
    """The last block that is the agent's own: a notice, or what makes an earlier one doubtful.

    Its own is a block that names this agent. Only one with the number of another requirement is a
    quotation; a missing or misspelt number, broken JSON, or a block that names this requirement
    and no agent, or neither but a status, is a notice that went wrong. So is one that the end of
    the output cut off before it named anybody, and a program that reports its own failure.

    If more output follows what is given (`is_whole` is false), what is open there is ignored.
    """
    found: Found | None = None
    has_notice = False
    told = re.compile(rf"{re.escape(agent)}|{re.escape(number)}|status|\\u", re.IGNORECASE)
    for block in blocks(output):
        # Decoding is dear, and the output may hold megabytes of other blocks.
        is_cut = block.is_open and not is_whole
        if is_cut or not (block.problem or block.is_open or told.search(block.text)):
            continue
        reading = read_block(block)
        doubt = _doubt(block, reading, agent, number)
        if doubt is not None:
            found = Found(block, reading, doubt, is_second=has_notice)
            has_notice = has_notice or not doubt
    return found


def _doubt(block: Block, reading: Reading, agent: str, number: str) -> str | None:
    """Why a block is no notice of the agent; empty for one, None for noise."""
    if block.problem:
        return block.problem
    agents, numbers = reading.said("agent"), reading.said("req_number")
    is_own = any(_same(said, agent) or _adds_to(said, agent) for said in agents)
    if not is_own and any(isinstance(said, str) and said.strip() for said in agents):
        return None
    is_named = any(_same(said, number) for said in numbers)
    if numbers and not is_named and all(names_another(said, number) for said in numbers):
        return None
    if reading.problem:
        is_cut = block.is_open and reading.is_half
        is_ours = is_own or is_named or is_cut or _SHOWS_STATUS.search(reading.text)
        return reading.problem if is_ours else None
    if len(reading.fields) == 1 and not agents:
        ((key, inner),) = reading.fields.items()
        if isinstance(inner, dict) and _same(inner.get("agent"), agent):
            return f"wraps its notice in {key[:80]!r}"
    if not (is_own or is_named or (not numbers and _looks_like_one(reading.fields))):
        return None
    for key, wanted in (("agent", agent), ("req_number", number)):
        if reading.fields.get(key) != wanted:
            said = repr(reading.fields[key])[:80] if key in reading.fields else "nothing"
            return f"says {key} {said}, not {wanted!r}"
    return ""


def _adds_to(said: object, name: str) -> bool:
    """Whether it begins with the name, as in `billy (QA)`."""
    return isinstance(said, str) and said.strip().casefold().startswith(f"{name.casefold()} ")


def _same(said: object, name: str) -> bool:
    return isinstance(said, str) and said.strip().casefold() == name.casefold()


def _looks_like_one(fields: Mapping[str, object]) -> bool:
    """Whether an object that names nobody has the status of a notice and something to go with."""
    known = {spelling(key): value for key, value in fields.items()}
    said = {_FIELDS[key] for key in known if key in _FIELDS} - {"status"}
    return str(known.get("status")).strip().upper() in _STATUSES and bool(said)


def _why_none(found: Found | None, output: str, agent: str, number: str) -> str:
    """What the output holds instead of a notice, and what to do about it."""
    if found:
        return f"the last fenced JSON object {found.doubt}. {_HOW_TO_END}"
    *_, last = (None, *blocks(output))
    if last is None:
        return f"the output holds no fenced JSON object{_seen(output, agent)}. {_HOW_TO_END}"
    reading = read_block(last)
    if reading.problem:
        return f"the last fenced JSON object {reading.problem}. {_HOW_TO_END}"
    key, wanted = ("agent", agent) if agent not in reading.said("agent") else ("req_number", number)
    said = repr(reading.fields[key])[:80] if key in reading.fields else "nothing"
    return f"the last fenced JSON object says {key} {said}, not {wanted!r}. {_HOW_TO_END}"


def _seen(output: str, agent: str) -> str:
    """What of a notice there is in an output without a block."""
    lines = shown(output).strip()
    if not lines:
        return "; it is empty"
    named = re.search(rf"""agent\\?["']?\s*[:=]\s*\\?["']{re.escape(agent)}\b""", lines)
    fence = re.search(r"(`{3,}|~{3,})[^\n]{0,40}", lines)
    if named and fence:
        return (
            f", though something names {agent}: its fence {fence[0][:40]!r} must stand at the "
            "beginning of a line and say json"
        )
    if named:
        return f", though something outside of a fence names {agent}"
    return f"; it ends with {lines[-60:]!r}"


def _notice(fields: Mapping[str, object], agent: Agent, number: str) -> Notice:
    _check_storable(fields)
    _check_spelling(fields, agent)
    status = _word(fields, ("status",), _STATUSES)
    summary = _text(fields, "summary")
    if not status:
        _refuse("status is missing")
    if not summary:
        _refuse("summary is missing")
    return Notice(
        agent=agent.name,
        number=number,
        status=NoticeStatus(status),
        summary=summary,
        critique_verdict=_verdict(fields, agent, Verdict.CRITIQUE),
        required_fixes=_texts(fields, "required_fixes"),
        reasons=_texts(fields, "reasons"),
        test_result=_verdict(fields, agent, Verdict.TEST_RESULT),
        overall=_verdict(fields, agent, Verdict.OVERALL),
        flags=_flags(fields, agent),
        failures=_texts(fields, "failures"),
        owner=_text(fields, "owner"),
        no_changes_needed=_reason(fields.get("no_changes_needed")),
        raw=fields,
    )


def _verdict(fields: Mapping[str, object], agent: Agent, verdict: Verdict) -> str:
    if VERDICTS.get(agent.role) is not verdict:
        return ""
    if verdict is Verdict.CRITIQUE:
        return _word(fields, (verdict,), _CRITIQUES)
    return _word(fields, (verdict, *_ALIASES.get(verdict, ())), _TEST_RESULTS)


def _flags(fields: Mapping[str, object], agent: Agent) -> tuple[str, ...]:
    known = dict.fromkeys((*FLAGS, *agent.raises))
    raised = [flag for flag in known if _claim(fields, flag)]
    return tuple(flag for flag in agent.raises if flag in raised)


def _refuse(reason: str) -> NoReturn:
    raise NoticeRefused(f"The notice is not acceptable: {reason}.")


def _text(fields: Mapping[str, object], key: str) -> str:
    """A string, empty where it is absent or null."""
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        _refuse(f"{key} must be a string")
    return value.strip()


def _word(fields: Mapping[str, object], keys: tuple[str, ...], known: Mapping[str, str]) -> str:
    """A word out of a fixed vocabulary, in any case, under one of several keys; empty if absent.

    Two keys that contradict each other are refused.
    """
    said = {key: _text(fields, key) for key in keys}
    words = {_known(key, value, known) for key, value in said.items() if value}
    if len(words) > 1:
        _refuse(f"{' and '.join(keys)} contradict each other")
    return words.pop() if words else ""


def _texts(fields: Mapping[str, object], key: str) -> tuple[str, ...]:
    """A list of strings, empty where it is absent; an object in it is taken as its JSON text."""
    value = fields.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str | dict) for item in value):
        _refuse(f"{key} must be a list of strings")
    return tuple(
        item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in value
    )


def _claim(fields: Mapping[str, object], key: str) -> bool:
    """A strict boolean, false where it is absent."""
    value = fields.get(key, False)
    if not isinstance(value, bool):
        _refuse(f"{key} must be true or false")
    return value


def _check_storable(fields: Mapping[str, object]) -> None:
    """Refuse what a database or a JSON reader downstream could not hold.

    That is: null characters, half surrogate pairs, infinite numbers, nesting beyond `DEPTH_LIMIT`.
    """
    for value, depth in _values(fields):
        if depth > DEPTH_LIMIT:
            _refuse(f"it is nested deeper than {DEPTH_LIMIT} levels")
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, float) and not isfinite(value):
            _refuse("it holds a number that is not finite")


def _values(fields: Mapping[str, object]) -> Iterator[tuple[object, int]]:
    pending: list[tuple[object, int]] = [(fields, 1)]
    while pending:
        value, depth = pending.pop()
        yield value, depth
        if isinstance(value, list):
            pending.extend((item, depth + 1) for item in value)
        elif isinstance(value, Mapping):
            pending.extend((item, depth + 1) for pair in value.items() for item in pair)


def _check_text(string: str) -> None:
    if "\0" in string:
        _refuse("it holds a null character")
    try:
        string.encode()
    except UnicodeEncodeError:
        _refuse("it holds half a surrogate pair")


def _known(key: str, value: str, known: Mapping[str, str]) -> str:
    found = known.get(value.upper())
    if found is None:
        _refuse(f"unknown {key} {value[:80]!r}; known are {', '.join(known)}")
    return found


def _check_spelling(fields: Mapping[str, object], agent: Agent) -> None:
    """Refuse a field that is given twice in two spellings: nobody knows which one counts."""
    ours = _FIELDS | {spelling(flag): flag for flag in agent.raises}
    said: dict[str, str] = {}
    for key in fields:
        known = spelling(key)
        if known in ours and known in said and {key, said[known]} != {"test_result", "testResult"}:
            _refuse(f"{said[known]} and {key} are the same field")
        said[known] = key


def _reason(value: object) -> str:
    """A reason, empty for what only looks like one; an agent that changed something needs none."""
    said = value.strip() if isinstance(value, str) else ""
    return said if _REASON.search(said) and said.rstrip(".").lower() not in _NO_REASONS else ""
