"""What a human may ask of a requirement now, and why not."""

import shlex
from collections.abc import Sequence
from datetime import timedelta

from pipeline.board import Board
from pipeline.errors import RefusedInput
from pipeline.graph import ancestors, dependents
from pipeline.model import OPENING, Answer, Ask, FailureKind, Pipeline, Stage
from pipeline.plan_rules import DELIVER
from pipeline.team import Role

NOTE_LENGTH = 8_000
"""A note travels through Temporal and to agents: what is longer belongs into the project."""


def check_note(note: str) -> None:
    """Raises: RefusedInput for a note that is too long."""
    if len(note) > NOTE_LENGTH:
        raise RefusedInput(f"Note of {len(note)} characters: at most {NOTE_LENGTH}.")


def check_retry(board: Board, name: str) -> None:
    """Raises: RefusedInput with the reason if a retry of that stage makes no sense now."""
    failed = {stage for stage, _ in board.failures}
    if name == DELIVER and board.awaits_delivery():
        if board.repairs:
            raise RefusedInput(f"{', '.join(board.repairs.values())} is at work: wait for it.")
        return
    if name == OPENING and name in failed:
        return
    if name in (DELIVER, OPENING):
        said = "delivery" if name == DELIVER else "opening"
        raise RefusedInput(f"The {said} has not failed.")
    if name not in board.entries:
        raise RefusedInput(f"There is no stage {name!r}. Stages: {', '.join(board.entries)}.")
    if fix := board.repairs.get(name):
        raise RefusedInput(f"{name} is being repaired by {fix}: wait for it, or cancel it first.")
    state = board.entries[name].state
    if not state.is_red and name not in failed:
        raise RefusedInput(f"{name} is {state}: only what failed can be retried.")
    if culprits := board.red_needs(board.pipeline.stage(name)):
        raise RefusedInput(f"{name} waits for {', '.join(culprits)}: retry that first.")
    running = {*board.running(), *board.repairs}
    if busy := [n for n in dependents(board.pipeline, name) if n in running]:
        raise RefusedInput(
            f"{', '.join(busy)} still runs, or is repaired, on what {name} did: wait for it."
        )


def check_decision(board: Board, answer: Answer) -> None:
    """Raises: RefusedInput with the reason if that answer is not possible now.

    A requirement may be given up at any time.
    """
    if answer is Answer.ABORT:
        return
    if not board.is_stuck():
        raise RefusedInput("The requirement is not blocked: only `abort` is possible.")
    critique = pending_verdict(board)
    if answer is Answer.REQUEST_CHANGES:
        research_of(board, critique)


def check_extension(board: Board, name: str, minutes: float) -> None:
    """Raises: RefusedInput if the stage does not run or the minutes are no time."""
    if name not in board.running():
        running = ", ".join(board.running()) or "none"
        raise RefusedInput(f"{name!r} is not running. Running stages: {running}.")
    if not 0 < minutes < float("inf"):
        raise RefusedInput(f"{minutes} minutes: give a positive number.")


def longest_deadline(pipeline: Pipeline, stage: Stage) -> timedelta:
    """How long a run of the stage may be made without a human, counted from its start."""
    return stage.deadline * max(1.0, pipeline.bounds.extension_factor)


def check_total(pipeline: Pipeline, stage: Stage, deadline: timedelta, total: timedelta) -> None:
    """Whether a deadline may be moved to that total without a human.

    Raises: RefusedInput if it would be no later than it is, or beyond its bound.
    """
    minute = timedelta(minutes=1)
    if total <= deadline:
        raise RefusedInput(f"{stage.name} has {deadline / minute:g} minutes already.")
    if total > (most := longest_deadline(pipeline, stage)):
        raise RefusedInput(
            f"{total / minute:g} minutes: {stage.name} may be given at most {most / minute:g}; "
            "only a human extends it further."
        )


def possible_answers(board: Board, asks: Sequence[Ask]) -> tuple[str, ...]:
    """The commands that answer those questions, in the words of the command line."""
    if not asks:
        return ()
    stages = dict.fromkeys(
        DELIVER if board.awaits_delivery() else ask.stage
        for ask in asks
        if not _is_verdict(board, ask)
    )
    answers = [f"retry {shlex.quote(stage)}" for stage in stages]
    if any(_is_verdict(board, ask) for ask in asks):
        answers += [f"decide {answer}" for answer in (Answer.APPROVE, Answer.REQUEST_CHANGES)]
    return (*answers, f"decide {Answer.ABORT}")


def addressed(answer: str, number: str) -> str:
    """An answer as it is typed after `starter.py`: `retry REQ-1 deliver`."""
    verb, _, rest = answer.partition(" ")
    return f"{verb} {number} {rest}"


def _is_verdict(board: Board, ask: Ask) -> bool:
    failure = board.failures.get((ask.stage, ask.gate))
    return failure is not None and failure.kind is FailureKind.CRITIQUE


def pending_verdict(board: Board) -> Stage:
    """The critique that a human is asked about. Raises: RefusedInput if there is none."""
    for failure in board.failures.values():
        if failure.kind is FailureKind.CRITIQUE:
            return board.pipeline.stage(failure.stage)
    raise RefusedInput("No verdict is asked for: what is red can be retried or aborted.")


def research_of(board: Board, critique: Stage) -> Stage:
    """The research that the critique reviewed. Raises: RefusedInput if the plan has none."""
    names = set(ancestors(board.pipeline, critique.name))
    for stage in board.pipeline.stages:
        if stage.name in names and stage.member.role == Role.RESEARCH:
            return stage
    raise RefusedInput(f"{critique.name} has no research to send back.")
