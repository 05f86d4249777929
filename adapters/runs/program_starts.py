"""How the program of a known kind is started for a run, and asked once more for its answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid5

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.program import Task
from adapters.runs.directory import RunDirectory, RunRecord
from adapters.runs.kinds import PASSED_ON, environment_of
from pipeline.agent_programs import ProgramAgent
from pipeline.model import Head, RunOrder
from pipeline.notice import notice_schema
from pipeline.prompt import answer_prompt

LINGER_SECONDS = 60.0
"""How long a program may take to exit after its last line, its background commands included."""

ANSWER_DEADLINE = timedelta(minutes=10)
"""For an answer alone, all work being done."""

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
    agent: ProgramAgent, order: RunOrder, run: RunDirectory, environment: Mapping[str, str]
) -> ProgramStart:
    """How the agent's program is started; its session's id follows from the run's where it can."""
    program = PROGRAMS[agent.kind]
    if agent.max_budget_usd is not None and order.most_usd is not None:
        agent = replace(agent, max_budget_usd=order.most_usd)
    task = (program.takes_schema and order.prompt_by_schema) or order.prompt
    begun = replace(order, prompt=task)
    return _program_start(agent, begun, run, environment, "")


def answer_start(
    agent: ProgramAgent,
    run: RunDirectory,
    session: str,
    refusal: str,
    environment: Mapping[str, str],
) -> ProgramStart | None:
    """How the program of a run that has ended is asked once more for its answer.

    None if nothing of the run's order is left, or the agent has become one of another kind.
    """
    record = run.order()
    if record is None or record.kind != agent.kind:
        return None
    number, _, rest = run.run_id.partition("/")
    stage, _, attempt = rest.partition("/")[2].rpartition("/")
    by_schema = PROGRAMS[agent.kind].takes_schema
    order = RunOrder(
        run_id=run.again.run_id,
        number=number,
        stage=stage,
        agent=record.agent,
        attempt=int(attempt),
        minutes=0.0,
        deadline=min(ANSWER_DEADLINE, timedelta(seconds=record.deadline_seconds)),
        grace=timedelta(seconds=record.grace_seconds),
        prompt=answer_prompt(record.agent, number, refusal, by_schema=by_schema),
        worktree=record.directory,
        head=Head(*record.head) if record.head else None,
    )
    return _program_start(agent, order, run.again, environment, session)


def _program_start(
    agent: ProgramAgent,
    order: RunOrder,
    run: RunDirectory,
    environment: Mapping[str, str],
    resumed: str,
) -> ProgramStart:
    """The start of a new session, or of one that is `resumed`, with the order's own prompt."""
    program = PROGRAMS[agent.kind]
    schema = json.dumps(notice_schema(order.agent, order.number))
    directory = order.worktree or str(run.path)
    session = resumed or str(uuid5(_SESSIONS, order.run_id))
    task = Task(Path(directory), run.path, run.outbox, schema, session, resumes=bool(resumed))
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
    )
    return ProgramStart(record, order.prompt, given, launch.files)
