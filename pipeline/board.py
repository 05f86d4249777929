"""The state of every stage of one requirement, and what may happen next.

Plain state without effects: the workflow changes it, so it replays exactly.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from pipeline.graph import ancestors, dependents
from pipeline.model import (
    OPENING,
    BlockedStage,
    Failure,
    FailureKind,
    Head,
    Pipeline,
    Stage,
    StageCard,
    StageOutcome,
    StageState,
    Tally,
)
from pipeline.plan_rules import DELIVER
from pipeline.team import TEAM, Role
from pipeline.work import Work


@dataclass
class Board:
    """The stages of one requirement and its open failures, keyed by stage and gate.

    `repairs` names the fixes under way by the stage whose failure they repair, `queued` those of
    the running stages that wait for a slot of their host.
    """

    pipeline: Pipeline
    head: Head | None = None
    cards: dict[str, StageCard] = field(default_factory=dict)
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    repairs: dict[str, str] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)
    work: Work = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Create one card per stage."""
        for stage in self.pipeline.stages:
            self.cards[stage.name] = StageCard()
        # Every step of the workflow asks for it, so it is computed once.
        before = {name: ancestors(self.pipeline, name) for name in self.cards}
        self.work = Work(self.pipeline, self.cards, before)

    # --- questions ------------------------------------------------------------------------

    def waiting(self) -> tuple[Stage, ...]:
        """The stages that still have to run, in plan order."""
        return tuple(s for s in self.pipeline.stages if self._state(s.name) is StageState.WAITING)

    def running(self) -> tuple[str, ...]:
        """The names of the stages in flight, in plan order."""
        return tuple(
            s.name for s in self.pipeline.stages if self._state(s.name) is StageState.RUNNING
        )

    def held(self) -> tuple[str, ...]:
        """The names of the held stages, in plan order."""
        return tuple(s.name for s in self.pipeline.stages if self._state(s.name) is StageState.HELD)

    def needs_settled(self, stage: Stage) -> bool:
        """Whether everything before it has ended, red or green.

        Not only its own needs: a fix may make a verdict stale far up, while those between hold.
        """
        unsettled = (StageState.WAITING, StageState.HELD, StageState.RUNNING)
        return all(self._state(name) not in unsettled for name in self.work.before[stage.name])

    def red_needs(self, stage: Stage) -> tuple[str, ...]:
        """The unfinished stages that block it: its own needs, or else those before them."""
        own = tuple(need for need in stage.needs if not self._state(need).is_done)
        return own or tuple(n for n in self.work.before[stage.name] if not self._state(n).is_done)

    def is_wanted(self, stage: Stage) -> bool:
        """Whether an unconditional stage, or one whose own flag was raised by a completed stage.

        A specialist who has said FAIL must say PASS, whoever still asks for it.
        """
        raised = (flag for card in self.cards.values() for flag in card.flags)
        failed = self.cards[stage.name].verdict == "FAIL"
        return stage.flag is None or failed or stage.flag in raised

    def are_done(self, stages: Iterable[Stage]) -> bool:
        """Whether all of them are done."""
        return all(self._state(stage.name).is_done for stage in stages)

    def runs_beside_measurement(self, stage: Stage) -> bool:
        """Whether some quality measurement need not be over when the stage starts."""
        before = self.work.before[stage.name]
        return any(
            TEAM[s.agent].role is Role.STATISTICS and s.name not in before
            for s in self.pipeline.stages
        )

    @property
    def commit(self) -> str:
        """The integration tip; empty where no project is needed."""
        return self.head.commit if self.head else ""

    def repeated_after(self, stage: Stage) -> tuple[FailureKind, ...]:
        """The failures of its next run after which the stage is tried again at once."""
        return self.cards[stage.name].repeated_after(stage.retries)

    def is_stuck(self) -> bool:
        """Whether nothing can continue without an answer."""
        if (OPENING, OPENING) in self.failures:
            return True
        return not (self.waiting() or self.held() or self.running() or self.is_green())

    def is_green(self) -> bool:
        """Whether every stage is done and nothing is red."""
        return not self.failures and self.are_done(self.pipeline.stages)

    def awaits_delivery(self) -> bool:
        """Whether every stage is done, so that all that is red are checks of the delivery."""
        return bool(self.failures) and self.are_done(self.pipeline.stages)

    def is_open(self, failure: Failure) -> bool:
        """Whether nobody has answered this failure yet."""
        return self.failures.get((failure.stage, failure.gate)) == failure

    def blocked_stages(self) -> tuple[BlockedStage, ...]:
        """The stages that could not start because of what they need."""
        failed = {stage for stage, _ in self.failures}
        return tuple(
            BlockedStage(stage, self.cards[stage.name].attempt, self.cards[stage.name].reason)
            for stage in self.pipeline.stages
            if self._state(stage.name) is StageState.BLOCKED and stage.name not in failed
        )

    def repeats_check(self, name: str) -> bool:
        """Whether only a check of the stage's work could not run: the work itself is done."""
        kinds = [failure.kind for (stage, _), failure in self.failures.items() if stage == name]
        are_unmade = bool(kinds) and all(kind.judges_nobody for kind in kinds)
        return are_unmade and name in self.cards and self._state(name).is_done

    def reopened_by(self, name: str, *, check_only: bool = False) -> tuple[str, ...]:
        """The stages that reopening this one sets back to waiting, in plan order.

        Whatever could not start: its reason may be gone. And itself with what depends on it, unless
        only a check is made again.
        """
        names = {blocked.stage.name for blocked in self.blocked_stages()}
        if not check_only:
            names |= {name, *dependents(self.pipeline, name)}
        return tuple(
            each
            for each, card in self.cards.items()
            if each in names and card.state is not StageState.WAITING
        )

    def open_failures(self) -> tuple[Failure, ...]:
        """Every open failure in plan order, the delivery's last."""
        order = {name: position for position, name in enumerate(self.cards)}
        return tuple(sorted(self.failures.values(), key=lambda f: order.get(f.stage, len(order))))

    # --- moves ----------------------------------------------------------------------------

    def begin(self, stage: Stage, base: Head | None = None) -> int:
        """Mark the stage as running; returns its attempt: a new one, or that which resumes."""
        card = self.cards[stage.name]
        card.state, card.reason = StageState.RUNNING, ""
        if not card.resumes:
            card.attempt += 1
            card.extended_minutes = 0.0
            # It may wait for a slot, and then sees more: the commit that it starts on tells.
            card.judged = self.work.seen_by(stage)
            card.base = base or self.head
        return card.attempt

    def hold(self, stage: Stage, why: str) -> None:
        """Take back an attempt that was not started; `why` it was to run is kept."""
        card = self.cards[stage.name]
        card.state, card.reason = StageState.HELD, why
        card.attempt -= not card.resumes

    def deadline_after(self, name: str, minutes: float) -> timedelta:
        """The deadline of the current attempt if it were moved by that much more."""
        extended = timedelta(minutes=self.cards[name].extended_minutes + minutes)
        return self.pipeline.stage(name).deadline + extended

    def extend(self, name: str, attempt: int, minutes: float) -> None:
        """Count minutes that an attempt was given; a later attempt starts without them."""
        card = self.cards[name]
        if card.attempt == attempt:
            card.extended_minutes += minutes

    def skip(self, stage: Stage, reason: str) -> int:
        """Mark a conditional stage as not needed; returns the attempt that this counts as."""
        card = self.cards[stage.name]
        card.state, card.reason = StageState.SKIPPED, reason
        card.attempt += 1
        return card.attempt

    def block(self, stage: Stage, reason: str) -> None:
        """Mark a stage that cannot start in this round."""
        card = self.cards[stage.name]
        card.state, card.reason = StageState.BLOCKED, reason

    def advance(self, head: Head | None) -> None:
        """Adopt an integration tip if it is newer: outcomes may arrive out of merge order."""
        if head and (self.head is None or head.position > self.head.position):
            self.head = head

    def tries_again(self, stage: Stage, outcome: StageOutcome) -> bool:
        """Whether the outcome is followed by another attempt at once, and count it."""
        if outcome.resumes:
            return False  # its retries are exhausted
        kind = outcome.failure.kind if outcome.failure else None
        again = kind in self.repeated_after(stage)
        self.cards[stage.name].count(kind)
        return again

    def settle(self, outcome: StageOutcome) -> None:
        """Apply the outcome of a stage."""
        card = self.cards[outcome.stage]
        card.state = outcome.state
        card.attempt, card.summary = outcome.attempt, outcome.summary
        card.verdict = outcome.verdict
        card.judged, card.base = outcome.judged or card.judged, outcome.base or card.base
        card.merged = outcome.head or card.merged
        card.resumes = outcome.resumes
        if outcome.state is StageState.COMPLETED:
            card.flags = outcome.flags
            self._unskip()
        if outcome.failure:
            card.reason = outcome.failure.error
            self.fail(outcome.failure)

    def fail(self, failure: Failure) -> None:
        """Open a failure; the same gate of the same stage has one at most."""
        self.failures[failure.stage, failure.gate] = failure
        self.tally.count(failure)

    def resolve(self, gate: str) -> None:
        """Close the failures of a gate that turned green."""
        for key in [key for key in self.failures if key[1] == gate]:
            del self.failures[key]

    def reopen(self, name: str, *, check_only: bool = False) -> None:
        """Set a stage and what depends on it back to waiting, or have its checks made again.

        None of them may be running: `check_retry` sees to it.
        """
        answered = {name} if check_only else {name, *dependents(self.pipeline, name)}
        for each in self.reopened_by(name, check_only=check_only):
            card = self.cards[each]
            self.cards[each] = StageCard(attempt=card.attempt)
            if each == name and card.resumes:  # others build on what is done anew
                self.cards[each] = replace(
                    self.cards[each],
                    resumes=True,
                    base=card.base,
                    judged=card.judged,
                    extended_minutes=card.extended_minutes,
                )
        self._forget_failures({*answered, DELIVER})

    def approve(self, name: str) -> None:
        """Pass a critique by a human's word and reopen what waited for it."""
        self.reopen(name)
        self.cards[name].state = StageState.COMPLETED

    def retry_delivery(self) -> None:
        """Close the failures of the delivery and its builds: a delivery repeats every check."""
        for _, gate in self.failures:
            self.tally.reset(gate)
        self.failures.clear()

    def _state(self, name: str) -> StageState:
        return self.cards[name].state

    def _unskip(self) -> None:
        """Reopen a skipped specialist that a repeated verdict asks for."""
        for stage in self.pipeline.stages:
            if self._state(stage.name) is StageState.SKIPPED and self.is_wanted(stage):
                card = self.cards[stage.name]
                card.state, card.reason = StageState.WAITING, f"{stage.flag} is raised after all."

    def _forget_failures(self, stages: set[str]) -> None:
        for key in [key for key in self.failures if key[0] in stages]:
            self.tally.reset(key[1])
            del self.failures[key]
