"""Kind `simulated`: an agent without a process, for plans, benchmarks and tests."""

import json

from adapters.runs.directory import RunDirectory, RunRecord
from pipeline.agents_file import SimulatedAgent
from pipeline.model import RunOrder
from pipeline.verdicts import green_notice

SIMULATED = "simulated"


def simulated_record(
    agent: SimulatedAgent, order: RunOrder, run: RunDirectory, minute_seconds: float
) -> RunRecord:
    """What will have happened: so long, and that answer."""
    minutes = order.minutes if agent.minutes is None else agent.minutes
    return RunRecord(
        run_id=order.run_id,
        kind=SIMULATED,
        agent=order.agent,
        head=(order.head.commit, order.head.position) if order.head else None,
        directory=order.worktree or str(run.path),
        deadline_seconds=_scaled(order.deadline.total_seconds(), minute_seconds),
        grace_seconds=_scaled(order.grace.total_seconds(), minute_seconds),
        minute_seconds=minute_seconds,
        seconds=minutes * minute_seconds,
        output=simulated_output(agent, order),
    )


def simulated_output(agent: SimulatedAgent, order: RunOrder) -> str:
    """The role's green notice with the scripted keys laid over, fenced as an agent prints it."""
    notice = {**green_notice(order.agent, order.number), **agent.notice}
    return f"```json\n{json.dumps(notice, ensure_ascii=False, indent=2)}\n```\n"


def _scaled(seconds: float, minute_seconds: float) -> float:
    return seconds / 60.0 * minute_seconds
