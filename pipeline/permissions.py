"""What is asked that no rule forbids outright: answered from the plan, the bounds and the records.

Without the records of the asking requirement the plain rule is answered, or `unclear`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from re import Pattern

from pipeline.graph import ancestors
from pipeline.model import Mode, StageState
from pipeline.rule_facts import RequirementFacts, StageFacts
from pipeline.rule_words import is_meant, words
from pipeline.rulings import Question, Ruling, Verdict
from pipeline.steering import longest_deadline
from pipeline.team import TEAM, Role

NAME_IT = "Name your requirement, REQ-…, in the question or its context."

HUMAN_ASKER = "human"
"""Who asks at the command line, unless told otherwise."""

Rule = Callable[[Question, str, RequirementFacts | None], Ruling]


@dataclass(frozen=True)
class Topic:
    """A kind of question: every expression occurs in it, the first one not negated.

    `rule` answers it from the question, its plain words and the facts.
    """

    needs: tuple[Pattern[str], ...]
    rule: Rule

    def matches(self, text: str) -> bool:
        """Whether plain words ask about it."""
        return is_meant(self.needs[0], text) and all(need.search(text) for need in self.needs)


def _groups(question: Question, _: str, facts: RequirementFacts | None) -> Ruling:
    said = (
        "Groups and needs are data of a pipeline file (TOML), checked before anything starts; a "
        "running requirement keeps the plan it was started with. For new requirements whoever owns "
        "the file may change it: `plan --pipeline FILE` shows what it brings, `start --pipeline "
        "FILE` uses it."
    )
    in_mid_run = facts is not None or question.number or question.agent != HUMAN_ASKER
    answer = Verdict.NO if in_mid_run else Verdict.YES
    who = "An agent does not change them in mid-run. " if in_mid_run else ""
    return Ruling(answer, "Fact: pipelines are checked data", f"{who}{said}")


def _parallel(question: Question, text: str, facts: RequirementFacts | None) -> Ruling:
    rule = "Fact: the plan of the requirement"
    if facts is None:
        said = "What depends on what stands in the plan of your requirement."
        return Ruling(Verdict.UNCLEAR, rule, f"{said} {NAME_IT}")
    named = [stage.name for stage in facts.named_in(text)]
    own = facts.of_agent(question.agent)
    if own and own.stage.name not in named and len(named) == 1:
        named.insert(0, own.stage.name)
    if len(named) != 2:
        stages = ", ".join(each.stage.name for each in facts.stages)
        return Ruling(Verdict.UNCLEAR, rule, f"Name the two stages or agents, of: {stages}.")
    if facts.mode is Mode.SEQUENTIAL:
        return Ruling(Verdict.NO, rule, f"{facts.number} runs sequentially, one stage at a time.")
    for later, earlier in (named, named[::-1]):
        if earlier in ancestors(facts.pipeline, later):
            reason = f"{later} needs {earlier}, itself or through others: it starts afterwards."
            return Ruling(Verdict.NO, rule, reason)
    reason = f"{named[0]} and {named[1]} do not need one another; the orchestrator starts both."
    return Ruling(Verdict.YES, rule, reason)


def _clones(question: Question, _: str, facts: RequirementFacts | None) -> Ruling:
    reason = (
        "Every run has a clone and a branch of its own, made from the integration branch; what "
        "others did is in it as soon as it is merged. Nothing is written anywhere else."
    )
    return Ruling(Verdict.NO, "Fact: parallel agents never share a tree", reason)


def _extension(question: Question, _: str, facts: RequirementFacts | None) -> Ruling:
    rule = "Fact: deadlines are extended within a bound"
    how = "by `extend`, or a message on agog.workflow.timeout.extend, with a reason"
    if facts is None:
        reason = f"A running stage is given more time {how}, within the bound of its pipeline."
        return Ruling(Verdict.YES, rule, reason)
    own = facts.of_agent(question.agent)
    if own is None or own.state is not StageState.RUNNING:
        reason = f"{question.agent} has no running stage in {facts.number}."
        return Ruling(Verdict.NO, rule, reason)
    most = longest_deadline(facts.pipeline, own.stage)
    if own.deadline >= most:
        reason = f"{own.stage.name} has all of its {_minutes(most)} minutes already."
        return Ruling(Verdict.NO, rule, reason)
    reason = (
        f"{own.stage.name} has {_minutes(own.deadline)} minutes and may be given up to "
        f"{_minutes(most)}, counted from its start, {how}."
    )
    return Ruling(Verdict.YES, rule, reason)


def _overrun(question: Question, _: str, facts: RequirementFacts | None) -> Ruling:
    reason = (
        "The run's supervisor ends it at its deadline and grace, whoever asks. More time is given "
        "before that, by `extend`, within the bound of its pipeline."
    )
    return Ruling(Verdict.NO, "Fact: deadlines belong to the run", reason)


def _retry(question: Question, _: str, facts: RequirementFacts | None) -> Ruling:
    rule = "Fact: retries are bounded and made by the orchestrator"
    how = (
        "A run that ends without a valid notice is made again by the orchestrator, as often as its "
        "stage has `retries`; a valid notice, FAILED included, is an answer and is not."
    )
    own = facts.of_agent(question.agent) if facts else None
    if own is None:
        return Ruling(Verdict.UNCLEAR, rule, f"{how} {NAME_IT}")
    left = retries_left(own)
    if left:
        return Ruling(Verdict.YES, rule, f"{left} left for {own.stage.name}. {how}")
    return Ruling(Verdict.NO, rule, f"None is left for {own.stage.name}: a human decides. {how}")


def retries_left(own: StageFacts) -> int:
    """How often a run of the stage may still be made again; an unfinished one is not counted."""
    ended = own.attempt - (own.state is StageState.RUNNING)
    return max(0, own.stage.retries - ended)


def _delivery(question: Question, text: str, facts: RequirementFacts | None) -> Ruling:
    rule = "Fact: merges and deliveries are the orchestrator's"
    agent = TEAM.get(question.agent)
    own = facts.of_agent(question.agent) if facts else None
    if agent and agent.role is Role.DEVOPS and _DEPLOY.search(text) and not _MERGE.search(text):
        reason = "Deploy the commit that your prompt names; to staging alone where it says so."
        if own and own.state is StageState.RUNNING:
            return Ruling(Verdict.YES, rule, reason)
        return Ruling(Verdict.UNCLEAR, rule, f"Only while your stage runs. {reason} {NAME_IT}")
    reason = (
        "Leave your changes in your clone: they are merged when your stage finishes, and the "
        "target branch moves once, when both builds are green on the exact commit. Deployments are "
        "a stage of their own."
    )
    return Ruling(Verdict.NO, rule, reason)


def _minutes(length: timedelta) -> str:
    return f"{length / timedelta(minutes=1):g}"


_DEPLOY = words("(?:re-?)?deploy~", "roll~ out")
_MERGE = words("merg~", "push~", "rebas~", "cherry-?pick~", "commit~")
_OURS = words("deadlines?", "time ?-?outs?", "time ?limits?")

PERMISSIONS = (
    Topic(
        (
            words(
                "modif~", "chang~", "edit~", "adjust~", "alter~", "custom~", "re-?arrang~",
                "re-?order~", "re-?configur~", "tun~", "re-?writ~", "re-?defin~", "optimi[sz]~",
                "add~", "remov~", "mov~", "updat~", "split~", "defin~", "set~",
            ),
            words(
                "(?:paralleli[sz]ation|parallel|stage|dependency|pipeline) groups?", "pipelines?",
                "barriers?", "groups?", "(?:the|my|our) plan", "dependency graph",
            ),
        ),
        _groups,
    ),
    Topic(
        (
            words(
                "writ~", "edit~", "chang~", "modif~", "touch~", "us(?:e|es|ing)", "work~",
                "shar~", "commit~", "delet~", "reset~", "copy~", "clean~", "fix~", "enter~",
            ),
            words("work-? ?trees?", "branch~", "checkouts?", "work-?spaces?", "director(?:y|ies)"),
            words("others?", "another", "else", "shared?", "same", *TEAM, "project ?root"),
        ),
        _clones,
    ),
    Topic(
        (
            words(
                "in parallel", "concurrent~", "simultan~", "(?:at )?the same time", "alongside",
                "beside", "side by side", "at once", "together with", "parallel (?:to|with)",
            ),
            words(
                "run~", "work(?:s|ing)?", "start~", "execut~", "begin~", "go", "implement~",
                "test~",
            ),
        ),
        _parallel,
    ),
    Topic(
        (
            words(
                "extend~", "extension", "(?<!no )longer", "more", "extra", "additional",
                "prolong~", "increas~", "rais~", "postpon~", "mov~", "another \\d+",
            ),
            words(
                "deadlines?", "time ?-?outs?", "time ?limits?", "time", "minutes?", "hours?",
                "longer",
            ),
        ),
        _extension,
    ),
    Topic(
        (
            words(
                "ignor~", "disabl~", "remov~", "exceed~", "over-?run~",
                "without (?:an?|any|the|my) (?:dead|time)~", "unlimited", "miss~", "overstep~",
                "turn~ off", "past",
            ),
            _OURS,
        ),
        _overrun,
    ),
    Topic(
        (
            words(
                "re-?tr(?:y|ied|ying)", "try~ (?:\\w+ ){0,4}again", "re-?run~",
                "run~ (?:\\w+ ){0,4}again", "another (?:attempt|try|go)", "redo~", "re-?attempt~",
                "re-?start~ (?:\\w+ ){0,3}(?:stage|run|work)",
            ),
        ),
        _retry,
    ),
    Topic(
        (
            words(
                "merg~", "push~", "(?:re-?)?deploy~", "deliver(?!abl)~", "ship~", "releas~",
                "rebas~", "cherry-?pick~", "roll~ out", "publish~",
                "commit~ (?:\\w+ ){0,4}(?:main|master|target|trunk|directly|default branch)",
            ),
        ),
        _delivery,
    ),
)  # fmt: skip
"""In the order in which they are named."""
