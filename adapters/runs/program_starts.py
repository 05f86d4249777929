"""How the program of a known kind is started for a run, and how its session goes on.

It goes on to be asked once more for its answer, or since it was cut off.
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid5

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.program import Task
from adapters.runs import records
from adapters.runs.directory import ANSWER, RESUMED, RunDirectory, RunRecord
from adapters.runs.inventory import requirement_of
from adapters.runs.kinds import PASSED_ON, environment_of
from adapters.sdlc.costs import estimate
from pipeline.agent_programs import ProgramAgent
from pipeline.model import Head, RunOrder, Tokens
from pipeline.notice import notice_schema
from pipeline.prompt import answer_prompt, copied_session_prompt, resume_prompt

LINGER_SECONDS = 60.0
"""How long a program may take to exit after its last line, its background commands included."""

ANSWER_DEADLINE = timedelta(minutes=10)
"""For an answer alone, all work being done."""

LEAST_RESUMED = timedelta(minutes=10)
"""For a session that was cut off at the end of its time."""

LEAST_USD = 0.01
"""For a run that was cut off when it had spent its budget: its program ends after one turn."""

_SESSIONS = UUID("6f0a4a3e-6a54-4a0e-9d5a-2f1c8f6f7d11")
"""Name space of sessions' ids, which are made from runs' ids."""


@dataclass(frozen=True)
class ProgramStart:
    """Everything that starts an agent whose program is known."""

    record: RunRecord
    prompt: str
    environment: Mapping[str, str]
    files: Mapping[str, str]


def program_start(
    agent: ProgramAgent,
    order: RunOrder,
    run: RunDirectory,
    environment: Mapping[str, str],
    copied: "Copied | None" = None,
) -> ProgramStart:
    """How the agent's program is started; its session's id follows from the run's where it can.

    It begins with a copy of the session that is `copied`.
    """
    program = PROGRAMS[agent.kind]
    task = (program.takes_schema and order.prompt_by_schema) or order.prompt
    if copied:
        task = copied_session_prompt(order.worktree or str(run.path), task)
    begun = replace(order, prompt=task)
    held = _held_to(agent, order.most_usd)
    made = _program_start(held, begun, run, environment, "", copied.name if copied else "")
    if copied is None:
        return made
    return replace(made, record=replace(made.record, earlier_tokens=copied.tokens))


@dataclass(frozen=True)
class Copied:
    """A session that a new one begins with a copy of, as its program names it.

    `tokens` are those that the program counts again with the new one.
    """

    name: str
    tokens: tuple[int, int, int]


def copied_session(
    agent: ProgramAgent, run: RunDirectory, environment: Mapping[str, str]
) -> Copied | None:
    """The session of a run for its agent's fix; None if it is gone, or of another kind."""
    order = run.order()
    if not (order and order.kind == agent.kind and run.has(records.EXIT)):
        return None
    report = run.result(limit=0).report
    program = PROGRAMS[agent.kind]
    name = program.copyable(report.session, environment) if report and report.session else ""
    if not (report and name):
        return None
    if not report.counts_session:
        return Copied(name, (0, 0, 0))
    before = Tokens(*order.earlier_tokens)
    return Copied(name, astuple(before + (report.tokens or Tokens())))


def answer_start(
    agent: ProgramAgent,
    last: RunDirectory,
    session: str,
    refusal: str,
    environment: Mapping[str, str],
) -> ProgramStart | None:
    """How the program of a run, whose last part has ended, is asked once more for its answer.

    None if nothing of the run's order is left, or the agent has become one of another kind.
    """
    record = last.order()
    if record is None or record.kind != agent.kind:
        return None
    number, by_schema = requirement_of(last.run_id), PROGRAMS[agent.kind].takes_schema
    prompt = answer_prompt(record.member, number, refusal, by_schema=by_schema)
    deadline = min(ANSWER_DEADLINE, timedelta(seconds=record.deadline_seconds))
    record = replace(record, purpose=ANSWER)
    return _next_start(agent, last, record, prompt, deadline, session, environment)


def resumed_start(
    agent: ProgramAgent,
    last: RunDirectory,
    session: str,
    why: str,
    environment: Mapping[str, str],
    most_usd: float | None,
) -> ProgramStart | None:
    """How the program of a run that was cut off goes on in its session and its clone.

    It has the time that was left, and of `most_usd`, what the whole run may cost now, what its
    earlier parts have left. None as for `answer_start`.
    """
    record = last.order()
    if record is None or record.kind != agent.kind:
        return None
    number, by_schema = requirement_of(last.run_id), PROGRAMS[agent.kind].takes_schema
    prompt = resume_prompt(record.member, number, why, by_schema=by_schema)
    left = timedelta(seconds=last.deadline_seconds(record) - last.worked_seconds)
    least = min(LEAST_RESUMED, timedelta(seconds=record.deadline_seconds))
    deadline = max(left, least)
    record = replace(record, purpose=RESUMED, most_usd=most_usd)
    return _next_start(agent, last, record, prompt, deadline, session, environment)


def _next_start(
    agent: ProgramAgent,
    last: RunDirectory,
    record: RunRecord,
    prompt: str,
    deadline: timedelta,
    session: str,
    environment: Mapping[str, str],
) -> ProgramStart:
    """The start of the part that follows the last one, in the same session and clone.

    `record` is the last part's, with what is said anew of this one.
    """
    stage, _, attempt = last.first.run_id.split("/", 2)[2].rpartition("/")
    order = RunOrder(
        run_id=last.following.run_id,
        number=requirement_of(last.run_id),
        stage=stage,
        agent=record.agent,
        declared=record.declared,
        attempt=int(attempt),
        minutes=0.0,
        deadline=deadline,
        grace=timedelta(seconds=record.grace_seconds),
        prompt=prompt,
        worktree=record.directory,
        head=Head(*record.head) if record.head else None,
        most_usd=record.most_usd,
    )
    made = _program_start(
        _held_to(agent, record.most_usd, _spent(last)), order, last.following, environment, session
    )
    kept = replace(
        made.record, session=session, purpose=record.purpose, earlier_tokens=record.earlier_tokens
    )
    return replace(made, record=kept)


def _held_to(agent: ProgramAgent, most_usd: float | None, spent: float = 0.0) -> ProgramAgent:
    """The agent, held to what is left of what its run may cost."""
    if agent.max_budget_usd is None:
        return agent
    most = agent.max_budget_usd if most_usd is None else min(agent.max_budget_usd, most_usd)
    return replace(agent, max_budget_usd=max(most - spent, LEAST_USD))


def _spent(part: RunDirectory) -> float:
    """The dollars that all parts of its run have cost, as far as that is known."""
    report = part.result(limit=0).report
    if report is None:
        return 0.0
    return (report.cost_usd or 0.0) + (estimate(report.to_estimate) or 0.0)


def _program_start(
    agent: ProgramAgent,
    order: RunOrder,
    run: RunDirectory,
    environment: Mapping[str, str],
    resumed: str,
    copies: str = "",
) -> ProgramStart:
    """The start of a new session, or of one that is `resumed`, with the order's own prompt."""
    program = PROGRAMS[agent.kind]
    schema = json.dumps(notice_schema(order.member, order.number))
    directory = order.worktree or str(run.path)
    session = resumed or str(uuid5(_SESSIONS, order.run_id))
    task = Task(
        *(Path(directory), run.path, run.outbox, schema, session, bool(resumed), copies),
        prompt_by_schema=order.prompt_by_schema or order.prompt,
    )
    launch = program.launch(agent, task)
    names = (*PASSED_ON, *launch.passed_on, *agent.environment)
    given = {
        **dict.fromkeys(launch.emptied, ""),
        **environment_of(names, launch.variables, order, run, environment),
    }
    record = RunRecord(
        run_id=order.run_id,
        kind=agent.kind,
        agent=order.agent,
        declared=order.declared,
        head=(order.head.commit, order.head.position) if order.head else None,
        directory=directory,
        deadline_seconds=order.deadline.total_seconds(),
        grace_seconds=order.grace.total_seconds(),
        minute_seconds=60.0,
        argv=launch.argv,
        variables=tuple(sorted(given)),
        account=agent.account,
        session=launch.session,
        stop=tuple((step.signal, step.target, step.seconds) for step in launch.stop),
        last_events=program.last_events,
        linger_seconds=LINGER_SECONDS,
        most_usd=order.most_usd,
    )
    return ProgramStart(record, order.prompt, given, launch.files)
