"""What is merged of a requirement's work, and which verdicts have seen it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.model import Pipeline, Stage, StageEntry, StageState
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
