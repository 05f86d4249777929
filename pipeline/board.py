"""The state of every stage of one requirement, and what may happen next.

Plain state without effects: the workflow changes it, so it replays exactly.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pipeline.graph import ancestors, dependents
from pipeline.model import (
    OPENING,
    BlockedStage,
    Counters,
    Failure,
    FailureKind,
    Head,
    Pipeline,
    Stage,
    StageEntry,
    StageOutcome,
    StageState,
)
from pipeline.plan_rules import DELIVER
from pipeline.team import JUDGES, Role


@dataclass(frozen=True)
class Work:
    """What the stage entries of a plan tell; `before` names what lies before each stage."""

    pipeline: Pipeline
    entries: Mapping[str, StageEntry]
    before: Mapping[str, tuple[str, ...]]

    def revisions(self, stages: Iterable[Stage]) -> tuple[str, ...]:
        """Each stage with its current attempt and fixes: newer work makes older evidence stale."""
        return tuple(self.entries[stage.name].revision(stage.name) for stage in stages)

    def builders(self, of: Stage | None) -> tuple[Stage, ...]:
        """The stages with builds that the stage stands on; of the whole plan for None.

        One that was skipped has merged nothing, so there is nothing of it to verify.
        """
        names = self.before[of.name] if of else self.entries
        return tuple(
            stage
            for stage in self.pipeline.stages
            if stage.builds and stage.name in names and not self._is(stage, StageState.SKIPPED)
        )

    def built(self) -> tuple[str, ...]:
        """Revisions of the builders whose work is in, in plan order."""
        return self.revisions(s for s in self.builders(None) if self._is(s, StageState.COMPLETED))

    def done(self) -> tuple[str, ...]:
        """Revisions of the implementers whose work is in, in plan order."""
        return self.revisions(self._implementers())

    def seen_by(self, stage: Stage) -> tuple[str, ...]:
        """What a run of the stage that starts now will have seen, if it judges it."""
        return self.done() if stage.member.role in JUDGES else ()

    def stale_verdicts(self) -> dict[str, str]:
        """The stages whose green verdict has not seen what is merged by now, and why."""
        return {
            stage.name: f"Its verdict is stale: it has not seen {', '.join(unseen)}."
            for stage in self.pipeline.stages
            if (unseen := self._unseen(stage))
        }

    def _unseen(self, stage: Stage) -> tuple[str, ...]:
        """Revisions of merged work that make the stage's green verdict.

        A tester of one side judges that side; a judge without a side judges all.

        Source: design, section 3, "Merges and builds".
        """
        judge = stage.member
        if judge.role not in JUDGES or not self._is(stage, StageState.COMPLETED):
            return ()
        work = (s for s in self._implementers() if s.name in self.before[stage.name])
        theirs = (s for s in work if judge.side in (None, s.member.side))
        return self.revisions(s for s in theirs if not self._has_seen(self.entries[stage.name], s))

    def _has_seen(self, verdict: StageEntry, stage: Stage) -> bool:
        """Whether the stage's latest work was merged into what the verdict is about."""
        work, base = self.entries[stage.name], verdict.base
        if work.revision(stage.name) in verdict.reviewed:
            return True
        return bool(base and work.merged and work.merged.position <= base.position)

    def _implementers(self) -> Iterator[Stage]:
        """Those whose work is in; one who was skipped has done none."""
        for stage in self.pipeline.stages:
            implements = stage.member.role == Role.IMPLEMENTATION
            if implements and self._is(stage, StageState.COMPLETED):
                yield stage

    def _is(self, stage: Stage, state: StageState) -> bool:
        return self.entries[stage.name].state is state


QUEUED = "queued for a slot"


@dataclass
class Board:
    """The stages of one requirement and its open failures, keyed by stage and gate.

    `repairs` names the fixes under way by the stage whose failure they repair, `queued` those of
    the running stages that wait for a slot of their host.
    """

    pipeline: Pipeline
    head: Head | None = None
    entries: dict[str, StageEntry] = field(default_factory=dict)
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    repairs: dict[str, str] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)
    work: Work = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Create one entry per stage."""
        for stage in self.pipeline.stages:
            self.entries[stage.name] = StageEntry()
        # Every step of the workflow asks for it, so it is computed once.
        before = {name: ancestors(self.pipeline, name) for name in self.entries}
        self.work = Work(self.pipeline, self.entries, before)

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

    def needs_decided(self, stage: Stage) -> bool:
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

        A specialist who has said FAIL must say PASS, even if no flag asks for it any more.
        """
        raised = (flag for entry in self.entries.values() for flag in entry.flags)
        failed = self.entries[stage.name].verdict == "FAIL"
        return stage.flag is None or failed or stage.flag in raised

    def are_done(self, stages: Iterable[Stage]) -> bool:
        """Whether all of them are done."""
        return all(self._state(stage.name).is_done for stage in stages)

    def runs_beside_measurement(self, stage: Stage) -> bool:
        """Whether some quality measurement need not be over when the stage starts."""
        before = self.work.before[stage.name]
        return any(
            s.member.role == Role.STATISTICS and s.name not in before for s in self.pipeline.stages
        )

    @property
    def commit(self) -> str:
        """The integration tip; empty where no project is needed."""
        return self.head.commit if self.head else ""

    def repeated_after(self, stage: Stage) -> tuple[FailureKind, ...]:
        """The failures of its next run after which the stage is tried again at once."""
        return self.entries[stage.name].repeated_after(stage.retries)

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
            BlockedStage(stage, self.entries[stage.name].attempt, self.entries[stage.name].reason)
            for stage in self.pipeline.stages
            if self._state(stage.name) is StageState.BLOCKED and stage.name not in failed
        )

    def repeats_check(self, name: str) -> bool:
        """Whether only a check of the stage's work could not run: the work itself is done."""
        kinds = [failure.kind for (stage, _), failure in self.failures.items() if stage == name]
        are_unmade = bool(kinds) and all(kind.judges_nobody for kind in kinds)
        return are_unmade and name in self.entries and self._state(name).is_done

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
            for each, entry in self.entries.items()
            if each in names and entry.state is not StageState.WAITING
        )

    def open_failures(self) -> tuple[Failure, ...]:
        """Every open failure in plan order, the delivery's last."""
        order = {name: position for position, name in enumerate(self.entries)}
        return tuple(sorted(self.failures.values(), key=lambda f: order.get(f.stage, len(order))))

    def does(self, stage: Stage) -> str:
        """What the stage does, in words: its state, and what a waiting one waits for."""
        if stage.name in self.queued:
            return QUEUED
        state = self._state(stage.name)
        if state is StageState.WAITING:
            needs = self.red_needs(stage)
            agents = dict.fromkeys(self.pipeline.stage(need).agent for need in needs)
            return f"waiting for {', '.join(agents)}" if agents else state.value
        return state.value

    # --- moves ----------------------------------------------------------------------------

    def show(self, now: datetime) -> None:
        """Note what each stage is shown to do from now on, and how long it ran before."""
        for name, entry in self.entries.items():
            does = QUEUED if name in self.queued else entry.state.value
            if does == entry.shown:
                continue
            if entry.shown == StageState.RUNNING and entry.since:
                entry.worked += now - entry.since
            entry.shown, entry.since = does, now

    def begin(self, stage: Stage, base: Head | None = None) -> int:
        """Mark the stage as running; returns its attempt: a new one, or that which resumes."""
        entry = self.entries[stage.name]
        entry.state, entry.reason = StageState.RUNNING, ""
        if not entry.resumes:
            entry.attempt += 1
            entry.extended_minutes = 0.0
            # It may wait for a slot, and then sees more: the commit that it starts on tells.
            entry.reviewed = self.work.seen_by(stage)
            entry.base = base or self.head
        return entry.attempt

    def hold(self, stage: Stage, why: str, *, resumes: bool = False) -> None:
        """Take back an attempt that was not started; `why` it was to run is kept.

        One that was, and whose agent's session `resumes`, goes on as it is.
        """
        entry = self.entries[stage.name]
        entry.state, entry.reason = StageState.HELD, why
        entry.resumes = entry.resumes or resumes
        entry.attempt -= not entry.resumes

    def deadline_after(self, name: str, minutes: float) -> timedelta:
        """The deadline of the current attempt if it were moved by that much more."""
        extended = timedelta(minutes=self.entries[name].extended_minutes + minutes)
        return self.pipeline.stage(name).deadline + extended

    def extend(self, name: str, attempt: int, minutes: float) -> None:
        """Count minutes that an attempt was given; a later attempt starts without them."""
        entry = self.entries[name]
        if entry.attempt == attempt:
            entry.extended_minutes += minutes

    def skip(self, stage: Stage, reason: str) -> int:
        """Mark a conditional stage as not needed; returns the attempt that this counts as."""
        entry = self.entries[stage.name]
        entry.state, entry.reason = StageState.SKIPPED, reason
        entry.attempt += 1
        return entry.attempt

    def block(self, stage: Stage, reason: str) -> None:
        """Mark a stage that cannot start in this round."""
        entry = self.entries[stage.name]
        entry.state, entry.reason = StageState.BLOCKED, reason

    def advance(self, head: Head | None) -> None:
        """Adopt an integration tip if it is newer: outcomes may arrive out of merge order."""
        if head and (self.head is None or head.position > self.head.position):
            self.head = head

    def tries_again(self, stage: Stage, outcome: StageOutcome) -> bool:
        """Whether the outcome is followed by another attempt at once; count it, and its cost."""
        self.entries[stage.name].cost += outcome.cost
        if outcome.resumes:
            return False  # its retries are exhausted
        self.entries[stage.name].resumes = False  # it has ended: another attempt is a new one
        kind = outcome.failure.kind if outcome.failure else None
        again = kind in self.repeated_after(stage)
        self.entries[stage.name].count(kind)
        return again

    def apply(self, outcome: StageOutcome) -> None:
        """Apply the outcome of a stage."""
        entry = self.entries[outcome.stage]
        entry.state = outcome.state
        entry.attempt, entry.summary = outcome.attempt, outcome.summary
        entry.verdict = outcome.verdict
        entry.reviewed, entry.base = outcome.reviewed or entry.reviewed, outcome.base or entry.base
        entry.merged = outcome.head or entry.merged
        entry.resumes = outcome.resumes
        if outcome.state is StageState.COMPLETED:
            entry.flags = outcome.flags
            self._unskip()
        if outcome.failure:
            entry.reason = outcome.failure.error
            self.fail(outcome.failure)

    def fail(self, failure: Failure) -> None:
        """Open a failure; the same gate of the same stage has one at most.

        A verdict on the whole project names the owners of both sides, and a plan may have one.
        """
        if failure.kind is FailureKind.VERDICT:
            failure = replace(failure, owners=self._owners_here(failure.owners))
        self.failures[failure.stage, failure.gate] = failure
        self.counters.count(failure)

    def _owners_here(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        """Those of them who have a stage, or else whoever implements; unchanged without any."""
        agents = {stage.agent: stage.member.role for stage in self.pipeline.stages}
        implementers = (each for each in agents if agents[each] == Role.IMPLEMENTATION)
        here = tuple(owner for owner in owners if owner in agents)
        return here or tuple(implementers) or owners

    def resolve(self, gate: str) -> None:
        """Close the failures of a gate that turned green."""
        for key in [key for key in self.failures if key[1] == gate]:
            del self.failures[key]

    def reopen(self, name: str, *, check_only: bool = False) -> None:
        """Set a stage and what depends on it back to waiting, or have its checks made again.

        None of them may be running: `check_retry` ensures that.
        """
        answered = {name} if check_only else {name, *dependents(self.pipeline, name)}
        for each in self.reopened_by(name, check_only=check_only):
            entry = self.entries[each]
            self.entries[each] = StageEntry(
                attempt=entry.attempt, cost=entry.cost, worked=entry.worked
            )
            if each == name and entry.resumes:  # others build on what is done again
                self.entries[each] = replace(
                    self.entries[each],
                    resumes=True,
                    base=entry.base,
                    reviewed=entry.reviewed,
                    extended_minutes=entry.extended_minutes,
                )
        self._forget_failures({*answered, DELIVER})

    def approve(self, name: str) -> None:
        """Pass a critique by a human's word and reopen what waited for it."""
        self.reopen(name)
        self.entries[name].state = StageState.COMPLETED

    def retry_delivery(self) -> None:
        """Close the failures of the delivery and its builds: a delivery repeats every check."""
        for _, gate in self.failures:
            self.counters.reset(gate)
        self.failures.clear()

    def _state(self, name: str) -> StageState:
        return self.entries[name].state

    def _unskip(self) -> None:
        """Reopen a skipped specialist that a repeated verdict asks for."""
        for stage in self.pipeline.stages:
            if self._state(stage.name) is StageState.SKIPPED and self.is_wanted(stage):
                entry = self.entries[stage.name]
                entry.state, entry.reason = StageState.WAITING, f"{stage.flag} is raised after all."

    def _forget_failures(self, stages: set[str]) -> None:
        for key in [key for key in self.failures if key[0] in stages]:
            self.counters.reset(key[1])
            del self.failures[key]
