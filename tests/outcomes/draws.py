"""How scenarios are drawn: what goes wrong most are verdicts, often several, often again."""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pipeline.model import Bounds, Pipeline
from pipeline.notice import VERDICTS
from pipeline.team import FLAGS, TEAM, Role
from tests.cluster import REPAIR
from tests.outcomes.scenarios import PLANS, Kind, Outcome, Scenario, Turn
from tests.plans import OWNERS
from workflows.continuing import EVENTS

BUILDS = ("backend", "frontend")
_PAIRS = (("roy", "jen"), ("billy", "liz"), ("todd", "vic"), ("priya", "berry"))
TARGETS = ("", "", "", "moved", "in conflict")
BOUNDS = (REPAIR, REPAIR, REPAIR, Bounds(reds=2, depth=2, reviews=1))

_JUDGES = (Role.QA, Role.SPECIALIST, Role.STATISTICS)
_COMMON = (Kind.FAILED, Kind.TIMEOUT, Kind.CRASH, Kind.SILENT, Kind.STRANGER, Kind.UNKNOWN,
           Kind.SPEECHLESS, Kind.LOST, Kind.ASKS)  # fmt: skip


def _kinds(role: str) -> SearchStrategy[Kind]:
    """A verdict that is red is what happens most."""
    own: tuple[Kind, ...] = ()
    if role == Role.CRITIQUE:
        own = (Kind.RED, Kind.RED, Kind.ESCALATE, Kind.UNDECIDED)
    elif role in _JUDGES:
        own = (Kind.RED,) * 6 + (Kind.UNDECIDED,)
    return st.sampled_from((Kind.COMPLETE,) * 5 + own + _COMMON)


def _outcomes(agent: str) -> SearchStrategy[Outcome]:
    role = TEAM[agent].role
    flags = st.lists(st.sampled_from(FLAGS), unique=True).map(tuple)
    return st.builds(
        Outcome,
        kind=_kinds(role),
        words=st.sampled_from(("", "one", "two", "three")),
        owner=st.sampled_from(("", "backend", "frontend")),
        flags=flags if role == Role.QA else st.just(()),
        writes=st.booleans(),
        breaks=st.sampled_from(("", "", *BUILDS)),
        minutes=st.sampled_from((1, 60, 250)),
    )


def _turns(plan: Pipeline) -> SearchStrategy[Turn]:
    agents = {stage.name: stage.agent for stage in plan.stages}
    agents |= {f"fix {stage.agent}": stage.agent for stage in plan.stages}
    judged = [name for name, agent in agents.items() if TEAM[agent].role in _JUDGES]
    stages = [stage.name for stage in plan.stages]
    builders = [name for name in agents if agents[name] in OWNERS.values()]
    return st.sampled_from((*agents, *stages, *judged, *builders)).flatmap(
        lambda who: st.builds(
            Turn, st.just(who), st.sampled_from((1, 1, 2, 3)), _outcomes(agents[who])
        )
    )


def _red(agent: str, words: str) -> Outcome:
    """A red verdict of a judge; of anybody else, a run that fails."""
    judges = VERDICTS.get(TEAM[agent].role)
    return Outcome(Kind.RED if judges else Kind.FAILED, words=words)


def _stubborn(plan: Pipeline) -> SearchStrategy[tuple[Turn, ...]]:
    """One stage is red again and again, in words of its own each time."""
    return st.sampled_from(plan.stages).map(
        lambda stage: tuple(
            Turn(stage.name, nth, _red(stage.agent, f"for the {nth}. time")) for nth in range(1, 5)
        )
    )


def _together(plan: Pipeline) -> SearchStrategy[tuple[Turn, ...]]:
    """Two who work side by side, where the plan has such, are both red, each in its own way."""
    pairs = [pair for pair in _PAIRS if set(pair) <= {stage.agent for stage in plan.stages}]
    names = {stage.agent: stage.name for stage in plan.stages}
    kinds = st.sampled_from((Kind.RED, Kind.UNDECIDED, Kind.CRASH))
    pair = st.sampled_from(pairs or [("roy", "billy")])
    return st.tuples(pair, kinds, kinds).map(
        lambda drawn: tuple(
            Turn(names[agent], 1, Outcome(kind))
            for agent, kind in zip(drawn[0], drawn[1:], strict=True)
        )
    )


def _any_turns(plan: Pipeline) -> SearchStrategy[tuple[Turn, ...]]:
    pattern = st.one_of(st.just(()), _stubborn(plan), _together(plan))
    turns = st.lists(_turns(plan), min_size=2, max_size=10).map(tuple)
    return st.tuples(turns, pattern).map(lambda both: both[0] + both[1])


def _scenarios(pipeline: str) -> SearchStrategy[Scenario]:
    return st.builds(
        Scenario,
        pipeline=st.just(pipeline),
        bounds=st.sampled_from(BOUNDS),
        history=st.sampled_from((EVENTS, 20)),
        sequential=st.sampled_from((False, False, False, True)),
        turns=_any_turns(PLANS[pipeline]),
        answers=st.lists(st.integers(0, 5), max_size=4).map(tuple),
        flags=st.sampled_from(((), FLAGS, FLAGS[1:])),
        eager=st.booleans(),
        target=st.sampled_from(TARGETS),
    )


SCENARIOS = st.sampled_from(("critical-path", *PLANS)).flatmap(_scenarios)
"""Any pipeline, any outcomes in any order, any human."""
