"""More time for a running agent, asked for by message: checked, bounded, turned into an update."""

from dataclasses import dataclass
from datetime import timedelta

from pipeline.errors import RefusedInput
from pipeline.model import ExtensionRequest, StageState
from pipeline.questions import RequirementFacts, StageFacts
from pipeline.steering import check_note, check_total
from pipeline.team import AGENT_NAME, is_agent_name

_LONGEST = timedelta(days=3_650)
"""More than any plan may say; a larger number is none of minutes."""


@dataclass(frozen=True)
class ExtensionMessage:
    """Asks that the agent's run may take `minutes` in all, counted from its start.

    `correlation` is the asker's own mark, or ours: a repeat carries the same.
    """

    number: str
    agent: str
    minutes: float
    reason: str
    who: str
    correlation: str

    @property
    def total(self) -> timedelta:
        """The new deadline. Raises: RefusedInput if the minutes are no time."""
        if not 0 < self.minutes <= _LONGEST / timedelta(minutes=1):
            raise RefusedInput(f"newTimeout {self.minutes:g}: give a positive number of minutes.")
        return timedelta(minutes=self.minutes)


@dataclass(frozen=True)
class ExtensionAnswer:
    """What became of it; `run_id` is empty unless it was accepted."""

    message: ExtensionMessage
    accepted: bool
    reason: str
    run_id: str = ""


def check_message(message: ExtensionMessage) -> None:
    """Raises: RefusedInput for what no record needs to be read to refuse."""
    if not is_agent_name(message.agent):
        raise RefusedInput(f"There is no agent {message.agent[:40]!r}: a name {AGENT_NAME}.")
    if not message.reason.strip():
        raise RefusedInput("An extension is recorded with its reason: `reason` is empty.")
    check_note(message.reason)
    _ = message.total


def running_stage(message: ExtensionMessage, facts: RequirementFacts) -> StageFacts:
    """The stage whose run is to be extended. Raises: RefusedInput if the agent has none running."""
    own = facts.of_agent(message.agent)
    if own is None:
        names = ", ".join(dict.fromkeys(each.stage.agent for each in facts.stages))
        raise RefusedInput(
            f"There is no agent {message.agent!r} in {facts.number}: {names or 'none'}."
        )
    if own.state is not StageState.RUNNING:
        raise RefusedInput(
            f"{message.agent} has no running stage in {facts.number}, which is {facts.state}."
        )
    return own


def extension_request(
    message: ExtensionMessage, facts: RequirementFacts, own: StageFacts
) -> ExtensionRequest | None:
    """The update that brings the run to its new total; None if it has exactly that already.

    Raises: RefusedInput if that is less than it has, or beyond its bound.
    """
    if message.total == own.deadline:
        return None
    check_total(facts.pipeline, own.stage, own.deadline, message.total)
    return ExtensionRequest(
        stage=own.stage.name,
        minutes=(message.total - own.deadline) / timedelta(minutes=1),
        who=message.who,
        reason=message.reason,
        counted_from=own.deadline,
    )


def repeat_id(message: ExtensionMessage, own: StageFacts) -> str:
    """The update id: a repeated message has no second effect and gets the same answer.

    Counted from another deadline it is another try: the workflow may have refused the first one
    because that had moved.
    """
    counted_from = own.deadline / timedelta(minutes=1)
    step = f"{counted_from:g}-{message.minutes:g}"
    return f"extend/{message.correlation}/{message.agent}/{step}"
