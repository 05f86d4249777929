"""The rule engine: decides a question about the five rules by the tables in `rule_table`.

Nothing here understands English. A yes needs a sentence that matches a row of `KNOWN` as a whole;
`FORBIDDEN` is wide and only refuses. Everything else is `unclear`.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

from pipeline.questions import NO_RULE, NUMBER, Decision, Question, RequirementFacts, Rule, Verdict
from pipeline.rule_table import FORBIDDEN, KNOWN, Asked, Forbidden, words

UNRECOGNISED = Decision(
    Verdict.UNCLEAR,
    NO_RULE,
    "This question is not in the table of rules, and nothing is permitted by this answer. Ask one "
    "thing at a time, for example: `May I extend my deadline?`, `May I retry?`, `May I continue?`, "
    "`May I run in parallel with jen?`, `Can I modify parallelization groups?`, `Am I on hold?`, "
    "`Where does REQ-… stand?`, `How many retries are left?`. A human decides everything else.",
)


_LEAVE = words(
"may can could might would shall let allow~ permi(?:t|ssion)~ ok okay fine "
"all_?right acceptable possible objections? mind want why_not"
)  # fmt: skip
"""How people ask for leave."""
_DUTY = words(
"(?:should|must|ought)_(?:not_)?(?:i|we|it|this|that|the) "
"not_(?:allowed|permitted|ok|okay|fine|supposed) forbidden prohibited disallowed "
"illegal against_the_rules? wrong_to"
)  # fmt: skip
"""How people ask whether they must, or must not."""
_POINTS_BACK = words("it this that these those them so on anyway")
_CONSTRUCTIVE = re.compile(
    r"\b(?:may|can|could|might|would|let|want|ok|okay|fine|possible|allowed) "
    r"(?:(?!not |never |stop |without )\w+ ){1,3}?"
    r"(?:fix|fixed|repair|repaired|correct|solve|resolve|address|investigate|analy[sz]e|debug|"
    r"reproduce|report|reported|raise|explain|understand|ask|help|read|see|find|show|diagnose|"
    r"describe|improve|handle|extend|look (?:at|into)|"
    r"(?:add|write|run) (?:(?:an?|the|my|our|more|new|another|all) )*(?:\w+ )?(?:tests?|checks?))\b"
)
"""Leave to do what is welcome; unclear all the same, as nobody knows what comes with it."""


def decide(question: Question, facts: RequirementFacts | None) -> Decision:
    """The decision on a question.

    `facts` are those of the requirement that the question names; None where it names none, or where
    they cannot be had.
    """
    asked, told = _sentences(question.question), _sentences(question.context)
    for index, sentence in enumerate(asked):
        for row in KNOWN:
            if match := row.pattern.fullmatch(sentence):
                decision = row.decide(Asked(question, match, facts))
                others = (*asked[:index], *asked[index + 1 :])
                if row.permits or any(map(_LEAVE.search, others)):
                    return _beside(decision, others, told)
                return decision
    return _refused(asked, told, facts) or UNRECOGNISED


def _beside(decision: Decision, others: tuple[str, ...], told: tuple[str, ...]) -> Decision:
    """The decision with all that was said beside the known question: a yes is for that alone."""
    found = next((row for text in (*others, *told) for row in _forbids(text)), None)
    if found is not None and decision.answer is Verdict.UNCLEAR:
        return found.refusal(None)
    if decision.answer is Verdict.YES and (found or others):
        said = f"Ask this alone, with what led to it as context. {decision.reason}"
        return replace(decision, answer=Verdict.UNCLEAR, reason=said)
    return decision


def _refused(
    asked: tuple[str, ...], told: tuple[str, ...], facts: RequirementFacts | None
) -> Decision | None:
    """What `FORBIDDEN` says of leave that is asked for; None if it says nothing."""
    text = " . ".join(asked)
    if not _LEAVE.search(text) and not _DUTY.search(text):
        return None
    found = next(_forbids(text), None)
    if found is None and _POINTS_BACK.search(text):  # "May I skip it?", and `it` is in the context
        found = next((row for sentence in told for row in _forbids(f"{text} . {sentence}")), None)
    if found is None:
        return None
    decision = found.refusal(facts)
    if _DUTY.search(text):  # a no to "is it forbidden …?" or "should I report …?" would permit it
        return Decision(Verdict.UNCLEAR, found.rule, f"Ask as `May I …?`. {decision.reason}")
    if found.rule is Rule.NEVER_DOWNGRADE and _CONSTRUCTIVE.search(text):
        return Decision(Verdict.UNCLEAR, found.rule, f"Repair and report errors. {decision.reason}")
    return decision


def _forbids(text: str) -> Iterator[Forbidden]:
    return (row for row in FORBIDDEN if all(each.search(text) for each in row.words))


_APOSTROPHES = str.maketrans("’‘`´", "''''")
_CONTRACTIONS = (
    (re.compile(r"\b(?:can't|cannot)\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"'s\b"), ""),
)
_POLITE = re.compile(r"\b(?:please|sasha|dear|hello|hi|just|kindly|now|thanks|thank you)\b")


def _sentences(text: str) -> tuple[str, ...]:
    """Lower-case sentences of words alone; a number may hold any word and becomes `req`."""
    even = unicodedata.normalize("NFKC", NUMBER.sub(" req ", text)).casefold()
    even = even.translate(_APOSTROPHES)
    even = "".join(sign for sign in even if unicodedata.category(sign) != "Cf")
    for pattern, spelt in _CONTRACTIONS:
        even = pattern.sub(spelt, even)
    parts = re.split(r"[.!?;\n]+", _POLITE.sub(" ", even))
    plain = (" ".join(re.sub(r"[^\w]|_", " ", part).split()) for part in parts)
    return tuple(filter(None, plain))
