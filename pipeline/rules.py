"""Answers to questions about the rules: deterministic, from the rules and the project's own facts.

A yes needs a question that was recognised as a whole: what a rule may forbid, what is asked in
twos, and what nobody has thought of is answered no or unclear.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.permissions import PERMISSIONS, Topic
from pipeline.prohibitions import (
    ANYTHING_ELSE,
    P0_GATE,
    PROHIBITIONS,
    asks_leave_near,
    plays_down_somehow,
)
from pipeline.rule_facts import RequirementFacts
from pipeline.rule_vocabulary import PERMISSION
from pipeline.rule_words import plain_words, sentences, words
from pipeline.rulings import NO_RULE, NUMBER, Question, Ruling, Verdict, strictest
from pipeline.standings import STANDINGS

_TOPICS: tuple[Topic, ...] = (*PERMISSIONS, *STANDINGS)
_TURNED_ROUND = words(
    "forbidden", "prohibited", "disallowed",
    "(?:it|to|be) not (?:allowed|permitted|ok|okay|fine)", "against the rules?", "illegal",
    "not supposed", "wrong to",
)  # fmt: skip
_AND = re.compile(
    r"[,;:.?!]*\s+\b(?:and|or|but|then|also|plus)\b\s+|\b(?:by|while|through|via|after|before)\s+(?=\w+ing\b)"
)
_COMMA = re.compile(r"[,:]")
_OTHERS_WORK = words("other", "others", "another", "else", "p-?[1-4]")
_NO_VERB = words(
    "i", "we", "it", "he", "she", "they", "you", "my", "our", "its", "their", "the", "a", "an",
    "this", "that", "these", "those", "there", "if", "when", "because", "since", "as", "so",
    "for", "in", "on", "to", "of", "why", "how", "what", "who", "not", "\\d+", "half", "more",
)  # fmt: skip

UNRECOGNISED = Ruling(
    Verdict.UNCLEAR,
    NO_RULE,
    "This was not recognised, and nothing is permitted by it. Ask about one thing as `May I …?`: "
    "an error or a check, a stage, a P0, a server, the records, a deadline, a retry, a merge, the "
    "groups, two stages in parallel, or where REQ-… stands. Everything else a human decides.",
)


def rule_on(question: Question, facts: RequirementFacts | None) -> Ruling:
    """The ruling on a question; the strictest of all that apply stands.

    `facts` are those of the requirement that the question names; None where it names none, or where
    they cannot be had.
    """
    text = _plain(question.question)
    told = sentences(_plain(question.context))
    if forbidden := list(_forbidden(text, told, facts)):
        return _straight(text, strictest(forbidden))
    topics = [topic for topic in _TOPICS if topic.matches(text)]
    if not topics:
        return ANYTHING_ELSE if plays_down_somehow(text) else UNRECOGNISED
    ruling = strictest([topic.rule(question, text, facts) for topic in topics])
    return _whole(text, _straight(text, ruling), facts)


def _plain(text: str) -> str:
    """Even words; a requirement's number may hold any word and means none."""
    return plain_words(NUMBER.sub(" req ", text))


def _forbidden(
    text: str, told: tuple[str, ...], facts: RequirementFacts | None
) -> Iterator[Ruling]:
    for row in PROHIBITIONS:
        if row.matches(text, *told):
            yield Ruling(Verdict.NO, row.rule, row.reason)
    if P0_GATE.matches(text, *told):
        yield _beside_p0(text, facts)


def _beside_p0(text: str, facts: RequirementFacts | None) -> Ruling:
    if facts is None:
        return Ruling(Verdict.NO, P0_GATE.rule, P0_GATE.reason)
    if facts.passes_p0_gate and not _OTHERS_WORK.search(text):
        why = "is a P0 itself" if facts.priority.rank == 0 else "blocks an open P0"
        reason = f"{facts.number} {why}, so no P0 holds it."
        return Ruling(Verdict.YES, P0_GATE.rule, reason)
    is_open = f"Open now: {', '.join(facts.open_p0s)}." if facts.open_p0s else "None is open now."
    return Ruling(Verdict.NO, P0_GATE.rule, f"{P0_GATE.reason} {is_open}")


def _straight(text: str, ruling: Ruling) -> Ruling:
    """To "is it forbidden" a no would be a permission."""
    if not _TURNED_ROUND.search(text):
        return ruling
    return Ruling(Verdict.UNCLEAR, ruling.rule, f"Ask as `May I …?`. {ruling.reason}")


def _whole(text: str, ruling: Ruling, facts: RequirementFacts | None) -> Ruling:
    """A yes is for all that was asked: what was not recognised beside it takes it away."""
    if ruling.answer is not Verdict.YES:
        return ruling
    if any(asks_leave_near(sentence) for sentence in sentences(text)):
        said = "What may be done about errors and checks is a question of its own."
    elif strange := next(_strange(text, facts), ""):
        said = f"`{strange[:80]}` was not recognised; ask one thing at a time."
    else:
        return ruling
    return replace(ruling, answer=Verdict.UNCLEAR, reason=f"{said} {ruling.reason}")


def _strange(text: str, facts: RequirementFacts | None) -> Iterator[str]:
    """Parts that ask for something which no topic knows."""
    for sentence in sentences(text):
        first, *further = _AND.split(sentence)
        asked = [part for part in (*_COMMA.split(first), *further) if PERMISSION.search(part)]
        done = [part for part in further if not _NO_VERB.match(part)]
        for part in (*asked, *done):
            is_stage = facts is not None and facts.named_in(part)
            if not is_stage and not any(topic.matches(part) for topic in _TOPICS):
                yield part
