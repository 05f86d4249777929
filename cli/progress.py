"""Progress as lines, for logs and for eyes that cannot follow a moving table."""

from adapters.sdlc_views import RequirementView, StageView
from cli import output
from pipeline.model import RequirementState, StageState


class ProgressLines:
    """Says what has changed since it was last shown one requirement."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._state: RequirementState | None = None
        self._stages: dict[str, tuple[StageState, int]] = {}

    def __call__(self, view: RequirementView) -> None:
        """Say every change, stages first: they are the reason of what follows."""
        for stage in view.stages:
            now = (stage.state, stage.attempt)
            if self._stages.get(stage.stage, (StageState.WAITING, 0)) != now:
                output.say(f"[{view.number}] {_line(stage)}")
            self._stages[stage.stage] = now
        if view.state is not self._state:
            output.say(f"[{view.number}] {view.state}")
        self._state = view.state


def _line(stage: StageView) -> str:
    at = output.clock(stage.ended_at or stage.started_at)
    attempt = f", attempt {stage.attempt}" if stage.attempt > 1 else ""
    reason = stage.reason.partition("\n")[0]
    said = f"{at} {stage.stage} ({stage.agent}{attempt}) {stage.state}"
    return f"{said}: {reason}" if reason else said
