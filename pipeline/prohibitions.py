"""What the five rules forbid, as a table: what is done, to what, the rule and the reason.

The rows are meant to be wide: a no that is too strict costs a question to a human, a missed one is
a green light that is wrong.
"""

import re
from dataclasses import dataclass

from pipeline import rule_vocabulary as vocabulary
from pipeline.rule_words import is_meant
from pipeline.rulings import Rule, Ruling, Verdict


@dataclass(frozen=True)
class Prohibition:
    """Something that nobody may do: an action that is meant, and every object of it named.

    `asked` says that the action must stand in the question itself: where many a context tells of
    such a thing without asking for it.
    """

    rule: Rule
    reason: str
    action: re.Pattern[str]
    objects: tuple[re.Pattern[str], ...] = ()
    asked: bool = False

    def matches(self, question: str, *told: str) -> bool:
        """Whether the question asks for it, alone or with any one sentence that was told with it.

        All in plain words. "May I skip it?" asks for what stands in the sentence before.
        """
        return any(self._fits(question, sentence) for sentence in ("", *told))

    def _fits(self, question: str, sentence: str) -> bool:
        meant = is_meant(self.action, question) or (
            not self.asked and is_meant(self.action, sentence)
        )
        return meant and all(
            each.search(question) or each.search(sentence) for each in self.objects
        )


_CAUSE = "Fix the cause, or end with status FAILED or BLOCKED and say why: then its owner gets it."
_NO_GATE_SKIPPED = (
    "A missing verdict or a skipped gate is a failure, never an approval. Only the pipeline says "
    "which stages a requirement has; todd and vic run only if billy or liz asks for them."
)

PROHIBITIONS = (
    Prohibition(
        Rule.FAIL_FAST,
        "There is no degraded mode: while Temporal, NATS or the SDLC database cannot be reached, "
        "everything holds at its next stage boundary and goes on by itself afterwards.",
        vocabulary.GO_ON,
        (vocabulary.DEPENDENCIES, vocabulary.ABSENT),
    ),
    Prohibition(
        Rule.FAIL_FAST,
        "There is no degraded mode, no fallback and no buffer beside NATS and the SDLC database: "
        "what cannot be recorded is not done.",
        vocabulary.DEGRADED,
    ),
    Prohibition(
        Rule.NEVER_DOWNGRADE,
        f"No error loses severity, and no failing check is set aside. {_CAUSE}",
        vocabulary.PLAY_DOWN,
        (vocabulary.ERRORS_OR_CHECKS,),
    ),
    Prohibition(
        Rule.NEVER_DOWNGRADE,
        f"No check is switched off or repeated until it is green. {_CAUSE}",
        vocabulary.SWITCH_OFF,
        (vocabulary.ERRORS_OR_CHECKS,),
    ),
    Prohibition(
        Rule.NEVER_DOWNGRADE,
        f"An error is not called anything less. {_CAUSE}",
        vocabulary.AS_LESS,
        (vocabulary.ERRORS,),
    ),
    Prohibition(
        Rule.NEVER_DOWNGRADE,
        f"An error is reported and repaired, not left where it is. {_CAUSE}",
        vocabulary.NEGLECT,
    ),
    Prohibition(
        Rule.NEVER_DOWNGRADE,
        f"Nothing goes on over something red. {_CAUSE}",
        vocabulary.GO_ON,
        (vocabulary.REGARDLESS, vocabulary.ERRORS),
        asked=True,
    ),
    Prohibition(
        Rule.NEVER_DOWNGRADE,
        f"Nothing goes on over something red. {_CAUSE}",
        vocabulary.CONTINUE,
        (vocabulary.ERRORS,),
        asked=True,
    ),
    Prohibition(
        Rule.NEVER_DOWNGRADE,
        "A result is what was measured on the exact commit; an exit code or a verdict is not made "
        f"up. {_CAUSE}",
        vocabulary.FAKE,
    ),
    Prohibition(Rule.NEVER_DOWNGRADE, _NO_GATE_SKIPPED, vocabulary.LEAVE_OUT, (vocabulary.STEPS,)),
    Prohibition(
        Rule.NEVER_DOWNGRADE,
        "A verdict belongs to the agent of its stage; what it says is not overruled by another.",
        vocabulary.SELF_APPROVE,
        (vocabulary.OWN_WORK,),
    ),
    Prohibition(
        Rule.RECOVERABLE,
        "Sasha repairs the infrastructure, by her rule table and with a bound. End with status "
        "BLOCKED and say what you see.",
        vocabulary.TEND,
        (vocabulary.SERVERS,),
    ),
    Prohibition(
        Rule.RECOVERABLE,
        "Runs are started, watched and ended by the orchestrator alone. `cancel` is a human's.",
        vocabulary.PROCESSES,
    ),
    Prohibition(
        Rule.TRACKED,
        "Work without a row in the SDLC database does not exist: it is started by `start`, and "
        "every transition of it is recorded.",
        vocabulary.UNTRACKED,
    ),
    Prohibition(
        Rule.TRACKED,
        "The orchestrator alone writes its records, each in the transaction that it tells of.",
        vocabulary.WRITE,
        (vocabulary.RECORDS,),
    ),
)  # fmt: skip
"""In the order in which they are named; the P0 gate knows exceptions and stands apart."""

ANYTHING_ELSE = Ruling(
    Verdict.NO,
    Rule.NEVER_DOWNGRADE,
    f"What is done to an error, other than to repair or report it, plays it down. {_CAUSE}",
)
"""For leave to do to an error what no row names."""

P0_GATE = Prohibition(
    Rule.P0_FIRST,
    "While a P0 is open, in any state, every requirement of P1 to P4 holds at its next stage "
    "boundary, and goes on by itself when the last one has ended. Only the P0 itself and what "
    "blocks it go on.",
    vocabulary.BESIDE_P0,
    (vocabulary.P0,),
)
"""What a requirement may not do beside an open P0, unless it is one or blocks one."""


def plays_down_somehow(text: str) -> bool:
    """Whether plain words ask leave to do something to an error, by a verb that nobody knows."""
    known = (vocabulary.CONSTRUCTIVE, vocabulary.PLAY_DOWN, vocabulary.SWITCH_OFF)
    return asks_leave_near(text, vocabulary.ERRORS) and not any(each.search(text) for each in known)


def asks_leave_near(text: str, what: re.Pattern[str] = vocabulary.ERRORS_OR_CHECKS) -> bool:
    """Whether plain words ask leave for anything and name such a thing."""
    return bool(vocabulary.PERMISSION.search(text) and what.search(text))
