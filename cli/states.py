"""States in their colours."""

from rich.text import Text

from pipeline.model import RequirementState, StageState

_STYLES = {
    StageState.RUNNING: "cyan",
    StageState.COMPLETED: "green",
    StageState.SKIPPED: "dim",
    StageState.FAILED: "bold red",
    StageState.BLOCKED: "red",
    StageState.HELD: "yellow",
    RequirementState.RUNNING: "cyan",
    RequirementState.HELD: "yellow",
    RequirementState.DELIVERED: "bold green",
    RequirementState.FAILED: "bold red",
    RequirementState.BLOCKED: "bold red",
}


def styled(state: StageState | RequirementState) -> Text:
    """A state in its colour."""
    return Text(str(state), style=_STYLES.get(state, ""))
