"""What Sasha knows about the rules: a table of what is forbidden, and one of known questions.

`rules.py` reads them. A question that is in neither is `unclear`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from pipeline.graph import ancestors
from pipeline.model import Mode, RequirementState, StageState
from pipeline.numbers import slug
from pipeline.questions import (
    HUMAN_ASKER,
    Decision,
    Question,
    RequirementFacts,
    Rule,
    StageFacts,
    Verdict,
)
from pipeline.steering import longest_deadline
from pipeline.team import TEAM, Role


@dataclass(frozen=True)
class Asked:
    """A known question: the match of its row, and the facts, None if there are none."""

    question: Question
    match: re.Match[str]
    facts: RequirementFacts | None

    @property
    def own(self) -> StageFacts | None:
        """The asking agent's stage."""
        return self.facts.of_agent(self.question.agent) if self.facts else None


Decide = Callable[[Asked], Decision]


def words(alternatives: str) -> re.Pattern[str]:
    """Any of these expressions as whole words; `~` leaves a word's end open, `_` is a space."""
    spelt = "|".join(alternatives.replace("~", r"\w*").split()).replace("_", " ")
    return re.compile(rf"\b(?:{spelt})\b")


def _question(*alternatives: str) -> re.Pattern[str]:
    """A question in any of these wordings; `MAY_I` and `REQ` stand for their usual forms."""
    spelt = "|".join(alternatives).replace("MAY_I", _MAY_I).replace("REQ", _REQ)
    return re.compile(rf"(?:{spelt})(?: for {_REQ})?")


_MAY_I = (
    "(?:(?:may|can|could) (?:i|we)|am i allowed to|"
    "is it (?:ok|okay|fine|all ?right|allowed|possible)(?: for me)? (?:to|if (?:i|we)))"
)
_REQ = "(?:req|it|(?:my|the|our) (?:requirement|stage))"


# --- what is forbidden ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Forbidden:
    """Something nobody may do: a question that holds one of each `words`.

    Wide on purpose: a refusal too many costs a question to a human, a missed one is only unclear.
    """

    rule: str
    reason: str
    words: tuple[re.Pattern[str], ...]

    def refusal(self, facts: RequirementFacts | None) -> Decision:
        """The no, with the open P0s where they are the reason."""
        reason = self.reason
        if self.rule is Rule.P0_FIRST and facts is not None:
            open_p0s = ", ".join(facts.open_p0s)
            reason += f" Open now: {open_p0s}." if open_p0s else " None is open now."
        return Decision(Verdict.NO, self.rule, reason)


_TEAM = " ".join(TEAM)
_CAUSE = "Fix the cause, or end with status FAILED or BLOCKED and say why: then its owner gets it."
_BESIDE_OPEN_P0 = Forbidden(
    Rule.P0_FIRST,
    "While a P0 is open, in any state, every requirement of P1 to P4 holds at its next stage "
    "boundary and continues by itself when the last P0 has ended. Only the P0 itself and what "
    "blocks it continue.",
    (words("p_?0s? p_zero priority_(?:0|zero) catastroph~ emergenc~"),),
)
_DELIVERY = Forbidden(
    "Fact: merges and deliveries are the orchestrator's",
    "Leave your changes in your clone: they are merged when your stage finishes, and the target "
    "branch moves once, when both builds are green on the exact commit. Deployments are a stage of "
    "their own.",
    (
        words(
            "merg~ push~ (?:re_?)?deploy~ deliver(?!abl)~ ship~ releas~ rebas~ cherry_?pick~ "
            r"roll~_out publish~ commit~_(?:\w+_){0,4}(?:main|master|target|trunk)"
        ),
    ),
)

FORBIDDEN = (
    Forbidden(
        Rule.TRACKED,
        "Work without a row in the SDLC database does not exist: `start` begins it, and every "
        "transition of it is recorded.",
        (
            words(
                "un_?(?:track|record|regist|logg)~ off_the_(?:books|record) secret~ "
                r"(?:without|not|avoid~|skip~|bypass~)_(?:\w+_){0,3}"
                "(?:record|track|sdlc|row|regist|logg|ticket)~ "
                "outside_(?:of_)?(?:the_|our_|your_)*(?:sdlc|database|record|orchestrat|workflow)~"
            ),
        ),
    ),
    Forbidden(
        Rule.TRACKED,
        "Only the orchestrator writes its records, each in the transaction that it tells of.",
        (
            words(
                "(?:edit|modif|updat|chang|writ|alter|insert|delet|clear|patch|set|correct|fix)~"
            ),
            words(
                "(?:requirement|stage|phase|gate|run|failure|blocker)s?_"
                "(?:row|record|table|state|status)~ "
                "sdlc phase_history deadline_file run_directory"
            ),
        ),
    ),
    Forbidden(
        Rule.FAIL_FAST,
        "There is no degraded mode and no buffer beside NATS and the SDLC database. While "
        "Temporal, NATS or the database is down, everything holds at its next stage boundary and "
        "continues by itself afterwards.",
        (words("degrad~ fall_?back buffer~ best_effort in_memory offline_mode"),),
    ),
    Forbidden(
        Rule.FAIL_FAST,
        "While Temporal, NATS or the SDLC database is down, everything holds at its next stage "
        "boundary and continues by itself afterwards.",
        (
            words(
                "nats jet_?stream databases? db postgres~ temporal dependenc~ sdlc brokers? "
                "servers? services? infrastructure"
            ),
            words(
                "without despite down off_?line unavailable unreachable lost "
                "not_(?:running|available|reachable|there|up|responding|working|answering) "
                "missing unresponsive dead gone stopped outage disconnected fail~ broken "
                "unhealthy no_(?:nats|db|database|temporal|connection)"
            ),
        ),
    ),
    Forbidden(
        Rule.RECOVERABLE,
        "Sasha repairs the infrastructure, by her rule table and with a bound, and the "
        "orchestrator alone starts and ends runs. End with status BLOCKED and say what you see.",
        (
            words(
                "re_?(?:start|boot|creat|install|configur|set|cover)~ start~ stop~ kill~ end~ "
                "terminat~ launch~ bring~ shut~ tak(?:e|ing) tear~ purg~ flush~ wip~ truncat~ "
                "repair~ heal~ migrat~ upgrad~"
            ),
            words(
                "nats jet_?stream databases? db postgres~ temporal servers? infrastructure docker "
                "containers? workers? hosts? services? brokers? machines? supervisors? "
                "orchestrator process~ agents?"
            ),
        ),
    ),
    _BESIDE_OPEN_P0,
    Forbidden(
        Rule.NEVER_DOWNGRADE,
        "A missing verdict or a skipped gate is a failure, never an approval. Only the pipeline "
        "says which stages a requirement has; todd and vic run only if billy or liz asks for them.",
        (
            words(
                "skip~ omit~ by_?pass~ leav~ jump~ drop~ avoid~ disabl~ ignor~ without no_need "
                "straight directly forgo~ cut~ waiv~"
            ),
            words(
                "stages? steps? groups? research statistics documentation docs devops qa "
                "critiques? reviews? gates? tests? " + _TEAM
            ),
        ),
    ),
    Forbidden(
        Rule.NEVER_DOWNGRADE,
        "A result is what was measured on the exact commit; an exit code or a verdict is not made "
        f"up. {_CAUSE}",
        (
            words(
                "fak~ forg(?:e|ed|ing) falsif~ tamper~ cheat~ pretend~ invent~ "
                "as_(?:passed|complete|completed|done|green|ok|successful) to_(?:pass|green)"
            ),
        ),
    ),
    Forbidden(
        Rule.NEVER_DOWNGRADE,
        "No error loses severity, no failing check is set aside or switched off, nothing goes on "
        f"over something red, and no verdict is overruled. {_CAUSE}",
        (
            words(
                "errors? fail~ exceptions? warnings? bugs? defects? crash~ red broken assert~ "
                r"stack_?traces? ts\d{3,5} problems? flak~ regressions? severit~ faults? issues? "
                "exit_codes? tests? testing test_?suites? checks? checkers? lint~ type_?check~ "
                "builds? gates? validat~ verif~ verdicts? coverage hooks? pre_?commit compil~ "
                "mypy ruff eslint tsc ci specs? alarms? alerts? findings? rules? qa "
                "quality_assurance critiques? reviews? approv~ audits? notices?"
            ),
        ),
    ),
    Forbidden(
        "Fact: deadlines belong to the run",
        "The run's supervisor ends it at its deadline and grace, whoever asks. More time is given "
        "before that, by `extend`, within the bound of its pipeline.",
        (
            words("deadlines? time_?outs? time_limits?"),
            words(
                "ignor~ disabl~ remov~ exceed~ over_?run~ without unlimited miss~ turn~_off past"
            ),
        ),
    ),
    Forbidden(
        "Fact: parallel agents never share a tree",
        "Every run has a clone and a branch of its own, made from the integration branch; what "
        "others did is in it as soon as it is merged. Nothing is written anywhere else.",
        (
            words("work_?trees? branch~ checkouts? work_?spaces? director(?:y|ies)"),
            words("others? another else shar~ same project_?root " + _TEAM),
        ),
    ),
    _DELIVERY,
)
"""The first row that matches decides."""


# --- what is known --------------------------------------------------------------------------------

_NAME_IT = "Name your requirement, REQ-…, in the question or its context."
_RECORDS = "Fact: the records of the requirement"
_STATES = {
    RequirementState.ACCEPTED: ("accepted",),
    RequirementState.RUNNING: ("running", "in progress", "active"),
    RequirementState.BLOCKED: ("blocked", "stuck"),
    RequirementState.DELIVERED: ("delivered", "done", "finished", "complete", "completed"),
    RequirementState.FAILED: ("failed",),
    RequirementState.CANCELLED: ("cancelled", "canceled"),
}
_GOING_ON = (RequirementState.ACCEPTED, RequirementState.RUNNING)


def _groups(asked: Asked) -> Decision:
    by_hand = asked.facts is None and not asked.question.number
    is_owner = by_hand and asked.question.agent == HUMAN_ASKER
    return Decision(
        Verdict.YES if is_owner else Verdict.NO,
        "Fact: pipelines are checked data",
        ("" if is_owner else "An agent does not change them in mid-run. ")
        + "Groups and needs are data of a pipeline file (TOML), checked before anything starts; a "
        "running requirement keeps the plan it was started with. For new requirements whoever owns "
        "the file may change it: `plan --pipeline FILE` shows what it brings, `start --pipeline "
        "FILE` uses it.",
    )


def _parallel(asked: Asked) -> Decision:
    rule, facts = "Fact: the plan of the requirement", asked.facts
    if facts is None:
        said = "What depends on what stands in the plan of your requirement."
        return Decision(Verdict.UNCLEAR, rule, f"{said} {_NAME_IT}")
    stages = {each.stage.agent: each.stage.name for each in facts.stages}
    names = {slug(name): name for name in stages.values()} | stages
    one = asked.match["one"] or asked.question.agent
    other = asked.match["other"] or asked.match["second"]
    first, second = names.get(slug(one)), names.get(slug(other))
    if first is None or second is None or first == second:
        said = f"Name two stages or agents, of: {', '.join(stages.values())}."
        return Decision(Verdict.UNCLEAR, rule, said)
    if facts.mode is Mode.SEQUENTIAL:
        said = f"{facts.number} runs sequentially, one stage at a time."
        return Decision(Verdict.NO, rule, said)
    for later, earlier in ((first, second), (second, first)):
        if earlier in ancestors(facts.pipeline, later):
            said = f"{later} needs {earlier}, itself or through others: it starts afterwards."
            return Decision(Verdict.NO, rule, said)
    said = f"{first} and {second} do not need one another; the orchestrator starts both."
    return Decision(Verdict.YES, rule, said)


def _p0(asked: Asked) -> Decision:
    facts = asked.facts
    if facts is None or not facts.passes_p0_gate:
        return _BESIDE_OPEN_P0.refusal(facts)
    why = "is a P0 itself" if facts.priority.rank == 0 else "blocks an open P0"
    said = f"{facts.number} {why}, so no P0 holds it."
    return Decision(Verdict.YES, Rule.P0_FIRST, said)


def _extension(asked: Asked) -> Decision:
    rule, facts = "Fact: deadlines are extended within a bound", asked.facts
    how = "by `extend`, or a message on agog.workflow.timeout.extend, with a reason"
    if facts is None:
        reason = f"A running stage is given more time {how}, within the bound of its pipeline."
        return Decision(Verdict.YES, rule, reason)
    own = asked.own
    if own is None or own.state is not StageState.RUNNING:
        reason = f"{asked.question.agent} has no running stage in {facts.number}."
        return Decision(Verdict.NO, rule, reason)
    most = longest_deadline(facts.pipeline, own.stage)
    if own.deadline >= most:
        reason = f"{own.stage.name} has all of its {_minutes(most)} minutes already."
        return Decision(Verdict.NO, rule, reason)
    reason = (
        f"{own.stage.name} has {_minutes(own.deadline)} minutes and may be given up to "
        f"{_minutes(most)}, counted from its start, {how}."
    )
    return Decision(Verdict.YES, rule, reason)


def _minutes(length: timedelta) -> str:
    return f"{length / timedelta(minutes=1):g}"


def _retry(asked: Asked) -> Decision:
    rule = "Fact: retries are bounded and made by the orchestrator"
    how = (
        "A run that ends without a valid notice is made again by the orchestrator, as often as its "
        "stage has `retries`; a valid notice, FAILED included, is an answer and is not."
    )
    own = asked.own
    if own is None:
        return Decision(Verdict.UNCLEAR, rule, f"{how} {_NAME_IT}")
    if left := _retries_left(own):
        return Decision(Verdict.YES, rule, f"{left} left for {own.stage.name}. {how}")
    reason = f"None is left for {own.stage.name}: a human decides. {how}"
    return Decision(Verdict.NO, rule, reason)


def _retries_left(own: StageFacts) -> int:
    """How often the stage may still be run again; an unfinished run is not counted."""
    ended = own.attempt - (own.state is StageState.RUNNING)
    return max(0, own.stage.retries - ended)


def _deployment(asked: Asked) -> Decision:
    """Berry's own work; everybody else is refused like for any delivery."""
    own = asked.own
    agent = own.stage.member if own else TEAM.get(asked.question.agent)
    if agent is None or agent.role != Role.DEVOPS:
        return _DELIVERY.refusal(asked.facts)
    reason = "Deploy the commit that your prompt names; to staging alone where it says so."
    if own and own.state is StageState.RUNNING:
        return Decision(Verdict.YES, _DELIVERY.rule, reason)
    reason = f"Only while your stage runs. {reason} {_NAME_IT}"
    return Decision(Verdict.UNCLEAR, _DELIVERY.rule, reason)


def _continuing(asked: Asked) -> Decision:
    facts = asked.facts
    if facts is None:
        return _unknown()
    if facts.state.is_final:
        return _over(asked)
    if facts.state not in _GOING_ON:
        return Decision(
            Verdict.NO, _RECORDS, f"{_status(asked)} It continues by itself afterwards."
        )
    reason = "A running agent works until its notice; the orchestrator starts what comes next."
    return Decision(Verdict.UNCLEAR, _RECORDS, f"{_status(asked)} {reason}")


def _waiting(asked: Asked) -> Decision:
    facts, own = asked.facts, asked.own
    if facts is None:
        return _unknown()
    if facts.state.is_final:
        return _over(asked)
    waits = facts.state not in _GOING_ON or bool(facts.waiting_for)
    stage_waits = own is not None and own.state in (StageState.WAITING, StageState.HELD)
    answer = Verdict.YES if waits or stage_waits else Verdict.NO
    return Decision(answer, _RECORDS, _status(asked))


def _state(asked: Asked) -> Decision:
    if asked.facts is None:
        return _unknown()
    named = [state for state, said in _STATES.items() if asked.match["state"] in said]
    if not named:
        reason = f"{_status(asked)} That is no question for yes or no."
        return Decision(Verdict.UNCLEAR, _RECORDS, reason)
    answer = Verdict.YES if asked.facts.state in named else Verdict.NO
    return Decision(answer, _RECORDS, _status(asked))


def _left(asked: Asked) -> Decision:
    facts, own = asked.facts, asked.own
    if facts is None:
        return _unknown()
    bounds = facts.pipeline.bounds
    fixes = max(0, bounds.reds - 1)
    used = ", ".join(f"{count} for {gate}" for gate, count in sorted(facts.fixes.items()))
    said = [
        f"A gate gets at most {fixes} fixes; opened so far: {used or 'none'}.",
        f"REQUEST_CHANGES sends research back at most {bounds.reviews} times.",
    ]
    left = fixes - max(facts.fixes.values(), default=0)
    if own:
        retries = _retries_left(own)
        said.append(f"{own.stage.name} has {retries} of {own.stage.retries} retries left.")
        left = left if asked.match["what"] in ("fixes", "reviews") else retries
    answer = Verdict.YES if left > 0 else Verdict.NO
    return Decision(answer, "Fact: the bounds of the requirement's pipeline", " ".join(said))


def _unknown() -> Decision:
    said = f"It is not known which requirement asks. {_NAME_IT}"
    return Decision(Verdict.UNCLEAR, _RECORDS, said)


def _over(asked: Asked) -> Decision:
    said = f"{_status(asked)} It has ended: it neither waits nor continues."
    return Decision(Verdict.NO, _RECORDS, said)


def _status(asked: Asked) -> str:
    """Where the requirement and the asking agent's stage stand."""
    facts, own = asked.facts, asked.own
    assert facts
    waits = f", waiting for {facts.waiting_for}" if facts.waiting_for else ""
    why = f" ({facts.reason})" if facts.reason else ""
    said = f"{facts.number} ({facts.priority}) is {facts.state}{waits}{why}."
    if own is None:
        return said
    undone = [
        each.stage.name
        for each in facts.stages
        if each.stage.name in own.stage.needs and not each.state.is_done
    ]
    needs = f" for {', '.join(undone)}" if own.state is StageState.WAITING and undone else ""
    return f"{said} {own.stage.name} is {own.state}{needs}."


@dataclass(frozen=True)
class Known:
    """A question that is answered from the rules and the records.

    `permits` says whether its yes is leave to do something.
    """

    pattern: re.Pattern[str]
    decide: Decide
    permits: bool = True


KNOWN = (
    Known(
        _question(
            "MAY_I (?:modify|change|edit|adjust) (?:(?:the|my|our) )?"
            "(?:(?:parallel|parallelization|parallelisation|stage) groups|pipeline|plan)"
        ),
        _groups,
    ),
    Known(
        _question(
            "MAY_I (?:start|begin|continue|proceed|go on|work|run) "
            "(?:although|though|even though|while|when|if|beside|in parallel (?:to|with)) "
            "(?:a|the|another) p ?0(?: is open)?"
        ),
        _p0,
    ),
    Known(
        _question(
            "MAY_I (?:run|work|start) (?:in parallel (?:with|to)|concurrently with|beside|"
            "alongside|at the same time as) (?P<other>[\\w ]+)",
            "(?:may|can|could) (?P<one>[\\w ]+) and (?P<second>[\\w ]+) (?:run|work|start) "
            "(?:in parallel|concurrently|side by side|at the same time)",
        ),
        _parallel,
    ),
    Known(
        _question(
            "MAY_I extend (?:my|the|our) (?:deadline|time ?out|time limit)"
            "(?: by \\d+ (?:minutes|hours))?",
            "MAY_I (?:have|get) (?:(?:\\d+ )?(?:more|extra|additional) (?:time|minutes|hours)|"
            "\\d+ (?:minutes|hours) more)",
        ),
        _extension,
    ),
    Known(
        _question(
            "MAY_I (?:retry|re ?run|try again|run again|have another (?:attempt|try))"
            "(?: my (?:stage|run|work))?"
        ),
        _retry,
    ),
    Known(_question("MAY_I deploy(?: to staging)?"), _deployment),
    Known(
        _question("MAY_I (?:continue|proceed|go on|go ahead|carry on|keep going|start|begin)"),
        _continuing,
    ),
    Known(
        _question(
            "(?:why )?(?:am i|is REQ)(?: still)? (?:held|on hold|waiting)",
            "why (?:do i|does REQ)(?: still)? wait",
            "what (?:am i|is REQ) waiting for",
            "(?:what|who) holds (?:me|REQ)",
        ),
        _waiting,
        permits=False,
    ),
    Known(
        _question(
            f"(?:is|has) REQ (?P<state>{'|'.join(sum(_STATES.values(), ()))})",
            "where (?:do i|does REQ) stand",
            "where is REQ",
            "what is the (?:state|status|progress) of REQ",
            "what is my (?:state|status|progress)",
            "what (?:state|status) (?:am i|is REQ) in",
            "how far is REQ",
        ),
        _state,
        permits=False,
    ),
    Known(
        _question(
            "how many (?P<what>retries|attempts|tries|fixes|reviews) "
            "(?:are left|remain|do i have(?: left)?|does REQ have(?: left)?)",
        ),
        _left,
        permits=False,
    ),
)
"""The first row that matches a whole sentence of the question decides."""
