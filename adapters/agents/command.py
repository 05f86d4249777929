"""Kind `command`: an agent that is any program."""

from collections.abc import Mapping

from adapters.runs.directory import RunDirectory, RunRecord
from pipeline.agents_file import CommandAgent
from pipeline.model import RunOrder

COMMAND = "command"

PASSED_ON = ("PATH", "HOME", "LANG", "TERM")
"""Variables that every agent gets as they are (design, section 6)."""


def command_environment(
    agent: CommandAgent, order: RunOrder, run: RunDirectory, environment: Mapping[str, str]
) -> dict[str, str]:
    """The agent's whole environment: the contract's names and those that the file lets through.

    The contract's own names win.
    """
    names = (*PASSED_ON, *agent.environment)
    return {
        **{name: environment[name] for name in names if name in environment},
        "AGOG_REQUIREMENT": order.number,
        "AGOG_STAGE": order.stage,
        "AGOG_AGENT": order.agent,
        "AGOG_ATTEMPT": str(order.attempt),
        "AGOG_WORKTREE": working_directory(order, run),
        "AGOG_RUN_DIR": str(run.path),
    }


def command_record(
    agent: CommandAgent,
    order: RunOrder,
    run: RunDirectory,
    variables: Mapping[str, str],
) -> RunRecord:
    """What the supervisor must know to start the agent."""
    return RunRecord(
        run_id=order.run_id,
        kind=COMMAND,
        agent=order.agent,
        head=(order.head.commit, order.head.position) if order.head else None,
        directory=working_directory(order, run),
        deadline_seconds=order.deadline.total_seconds(),
        grace_seconds=order.grace.total_seconds(),
        minute_seconds=60.0,
        argv=agent.command,
        variables=tuple(sorted(variables)),
    )


def working_directory(order: RunOrder, run: RunDirectory) -> str:
    """The worktree, or the run directory where no project is needed."""
    return order.worktree or str(run.path)
