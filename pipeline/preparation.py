"""What a failed `prepare` in an agent's clone means: whose it is, and who starts all the same."""

from dataclasses import replace

from pipeline.failures import ERROR_LIMIT, cut, first_error_lines, signature
from pipeline.model import (
    Failure,
    FailureKind,
    FailureLog,
    Preparation,
    RunEnd,
    StageContext,
    StageRequest,
)
from pipeline.team import Role

GATE = "prepare "
"""How the gates of preparations begin; the build follows."""


def is_started(
    request: StageRequest, preparation: Preparation, owner: str, *, repairs: bool
) -> bool:
    """Whether the agent starts although its clone could not be prepared: it may have to mend that.

    `owner` is who changed in this requirement last what is installed, empty for nobody. It mends
    its own; a fix mends what is red; a side that has no manifest yet is made by its implementer.
    """
    agent = request.stage.member
    is_first = agent.role == Role.IMPLEMENTATION and not preparation.has_manifest
    return preparation.is_green or repairs or owner == agent.name or is_first


def failed(request: StageRequest, preparation: Preparation, owner: str) -> Failure:
    """The failure of a stage whose agent cannot start.

    It is the owner's if the command itself has ended, and said no. One that could not be started or
    did not end in time, or that failed on what nobody has changed, is the host's.
    """
    has_said_no = preparation.result.end is RunEnd.EXITED
    kind = FailureKind.PREPARE if owner and has_said_no else FailureKind.INFRASTRUCTURE
    error = explained(preparation)
    return Failure(
        stage=request.stage.name,
        kind=kind,
        gate=f"{GATE}{preparation.build}",
        owners=kind.owners(owner),
        error=error,
        log_reference=preparation.result.log_reference,
        commit=request.head.commit if request.head else "",
        signature=signature(error) if kind is FailureKind.PREPARE else "",
    )


def told_of(context: StageContext, preparation: Preparation) -> StageContext:
    """What an agent is told that starts although its clone could not be prepared."""
    gate, log = f"{GATE}{preparation.build}", preparation.result.log_reference
    return replace(
        context,
        failures=(*context.failures, f"{gate}: {explained(preparation)}"),
        logs=(*context.logs, FailureLog(gate, log)),
    )


def explained(preparation: Preparation) -> str:
    """What ran, how it ended, and the lines that say why."""
    result = preparation.result
    command = " ".join(result.steps[-1].argv) if result.steps else "prepare"
    how = result.reason or f"It exited with {result.exit_code}."
    said = f"The clone could not be prepared for {preparation.build}: {command}. {how}"
    lines = cut(first_error_lines(result.output), ERROR_LIMIT - len(said) - 1)
    return cut(f"{said}\n{lines}".strip())
