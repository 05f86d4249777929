"""Progress as lines, for logs and for eyes that cannot follow a moving table."""

from collections.abc import Iterator
from datetime import datetime

from adapters.sdlc.views import EscalationView, FailureView, FixView, RequirementView, StageView
from cli import output
from cli.holds_view import pre_emption_lines, queued_line, release_lines, retry_lines
from cli.repairs_view import ask_line
from pipeline.model import RequirementState, StageState


class ProgressLines:
    """Says what has changed since it was last shown one requirement."""

    def __init__(self) -> None:
        self._state = ""
        self._stages: dict[str, tuple[StageState, int]] = {}
        self._round = 0
        self._fixes: dict[str, RequirementState | None] = {}
        self._escalation = 0
        self._advice: tuple[str, ...] = ()
        self._queued: frozenset[str] = frozenset()
        self._failing: set[tuple[str, str, datetime]] = set()

    def __call__(self, view: RequirementView) -> None:
        """Say every change in the order of causes: what a fix ended, what failed, what follows."""
        for line in (
            *self._ended_fix_lines(view),
            *self._stage_lines(view),
            *self._queued_lines(view),
            *self._failure_lines(view),
            *self._opened_fix_lines(view),
            *self._state_lines(view),
            *self._retry_lines(view),
            *self._question_lines(view.escalation),
        ):
            output.say(f"[{view.number}] {line}")

    def _stage_lines(self, view: RequirementView) -> Iterator[str]:
        for stage in view.stages:
            now = (stage.state, stage.attempt)
            if self._stages.get(stage.stage, (StageState.WAITING, 0)) != now:
                yield _stage_line(stage)
            self._stages[stage.stage] = now

    def _queued_lines(self, view: RequirementView) -> Iterator[str]:
        """Once for each stage: its place changes with every agent that ends."""
        yield from (queued_line(each) for each in view.queued if each.stage not in self._queued)
        self._queued = frozenset(each.stage for each in view.queued)

    def _failure_lines(self, view: RequirementView) -> Iterator[str]:
        new = [failure for failure in view.failures if failure.round > self._round]
        if new:
            self._round = max(failure.round for failure in new)
            yield f"Round {self._round} has failures: {len(new)}"
        for failure in new:
            yield _failure_line(failure)

    def _opened_fix_lines(self, view: RequirementView) -> Iterator[str]:
        for fix in view.fixes:
            if fix.number not in self._fixes:
                yield f"{fix.number} opened: {fix.assignee} repairs {fix.gate}"
                self._fixes[fix.number] = None
        yield from self._ended_fix_lines(view)

    def _ended_fix_lines(self, view: RequirementView) -> Iterator[str]:
        for fix in view.fixes:
            if fix.number in self._fixes and self._fixes[fix.number] is not fix.state:
                self._fixes[fix.number] = fix.state
                if fix.state.is_final:
                    yield _fix_line(fix)

    def _state_lines(self, view: RequirementView) -> Iterator[str]:
        waiting = f", waits for {view.waiting_for}" if view.waiting_for else ""
        waiting = f". {view.turn.text}" if view.turn else waiting
        if (now := f"{view.state}{waiting}") != self._state:
            yield from (now, *pre_emption_lines(view))
        self._state = now
        if (advice := tuple(release_lines(view))) != self._advice:
            yield from advice
        self._advice = advice

    def _retry_lines(self, view: RequirementView) -> Iterator[str]:
        """A step that fails is said once, not at every try; `status` counts."""
        failing = {(retry.number, retry.step, retry.since): retry for retry in view.retries}
        new = [retry for key, retry in failing.items() if key not in self._failing]
        yield from retry_lines(new, view.number)
        for number, step, _ in self._failing - failing.keys():
            whose = "" if number == view.number else f"{number}: "
            yield f"No longer retrying {whose}{step}"
        self._failing = set(failing)

    def _question_lines(self, escalation: EscalationView | None) -> Iterator[str]:
        if escalation and escalation.escalation > self._escalation:
            yield from (f"A human is asked: {ask_line(ask)}" for ask in escalation.asks)
            self._escalation = escalation.escalation


def _stage_line(stage: StageView) -> str:
    at = output.clock(stage.ended_at or stage.started_at)
    attempt = f", attempt {stage.attempt}" if stage.attempt > 1 else ""
    said = f"{at} {stage.stage} ({stage.agent}{attempt}) {stage.state}".lstrip()
    return _with_reason(said, stage.reason)


def _failure_line(failure: FailureView) -> str:
    owners = " and ".join(failure.owners) or "nobody"
    return _with_reason(f"❌ {failure.gate} ({owners})", failure.error)


def _fix_line(fix: FixView) -> str:
    at = output.clock(fix.ended_at)
    return _with_reason(f"{at} {fix.number} ({fix.assignee}) {fix.state}", fix.reason)


def _with_reason(said: str, reason: str) -> str:
    first = output.first_line(reason)
    return f"{said}: {first}" if first else said
