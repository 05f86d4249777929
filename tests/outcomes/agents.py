"""Agents and builds that follow a scenario in real worktrees."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.model import (
    BuildRequest,
    BuildResult,
    Preparation,
    RunEnd,
    RunOrder,
    RunResult,
    RunStart,
    SlotRequest,
    SlotUsage,
    StageRequest,
)
from pipeline.notice import VERDICTS
from pipeline.numbers import slug
from pipeline.ports import StartListener
from pipeline.team import TEAM, Role
from pipeline.verdicts import green_notice
from tests.fixtures_workspaces import GitProject
from tests.outcomes.scenarios import Kind, Outcome, Scenario
from tests.plans import OWNERS

SHARED = "shared.txt"
_SECONDS_A_MINUTE = 0.001
_ENDS = {Kind.TIMEOUT: RunEnd.TIMED_OUT, Kind.LOST: RunEnd.LOST}
_OVERLAYS: Mapping[Kind, Mapping[str, object]] = {
    Kind.FAILED: {"status": "FAILED"},
    Kind.ASKS: {"status": "BLOCKED"},
    Kind.STRANGER: {"agent": "nobody"},
    Kind.UNKNOWN: {"status": "PERHAPS"},
    Kind.SPEECHLESS: {"summary": ""},
    Kind.UNDECIDED: {"critique_verdict": "", "test_result": "", "overall": ""},
    Kind.ESCALATE: {"critique_verdict": "ESCALATE"},
}


def broken(build: str) -> str:
    """The file that breaks a build wherever it lies."""
    return f"{build}.broken"


class AnyRuns:
    """AgentRuns by a scenario. `bases` are the commits that runs were given, by run id."""

    def __init__(self, scenario: Scenario, project: GitProject) -> None:
        self._scenario = scenario
        self._project = project
        self._counts: Counter[str] = Counter()
        self._orders: dict[str, RunOrder] = {}
        self._results: dict[str, RunResult] = {}
        self.started: list[str] = []
        self.bases: dict[str, str] = {}

    async def next_part(self, run_id: str) -> int | None:
        return None if run_id in self.started else 0

    @asynccontextmanager
    async def slot(self, request: SlotRequest) -> AsyncIterator[bool]:
        yield True

    async def queue(self, request: SlotRequest) -> None:
        """Nobody is less urgent."""

    async def wait_for_slot(self, request: SlotRequest) -> None:
        raise AssertionError(request)

    def queue_place(self, run_id: str) -> tuple[int, SlotUsage]:
        raise AssertionError(run_id)

    async def usages(self) -> AsyncIterator[SlotUsage]:
        await asyncio.Event().wait()
        yield SlotUsage(0, 0, 0)

    async def let_resume(self, run_id: str, parts: int) -> None:
        raise AssertionError(run_id)

    async def start(self, order: RunOrder) -> bool:
        self.started.append(order.run_id)
        self._orders[order.run_id] = order
        return True

    async def until_resumed(self, run_id: str) -> None:
        raise AssertionError(run_id)

    async def until_suspended(self, run_id: str) -> None:
        await asyncio.Event().wait()

    async def attach(self, request: SlotRequest, on_start: StartListener) -> RunResult:
        order = self._orders[request.run_id]
        if order.run_id not in self._results:
            self._results[order.run_id] = await self._run(order, on_start)
        return replace(self._results[order.run_id], head=order.head)

    async def _run(self, order: RunOrder, on_start: StartListener) -> RunResult:
        who = f"fix {order.agent}" if "-FIX-" in order.number else order.stage
        self._counts[who] += 1
        outcome = self._scenario.outcome(who, self._counts[who])
        assert order.worktree, "an agent without a worktree would write into ours"
        worktree = Path(order.worktree)
        self.bases[order.run_id] = self._project.git("rev-parse", "HEAD", at=worktree)
        started = datetime.now(UTC)
        await on_start(RunStart(started, order.head))
        await asyncio.sleep(outcome.minutes * _SECONDS_A_MINUTE)
        self._move_target(order)
        self._work(order, outcome, worktree)
        return _result(order, outcome, started)

    def _work(self, order: RunOrder, outcome: Outcome, worktree: Path) -> None:
        (worktree / f"{slug(order.stage)}-{order.agent}.txt").write_text(order.run_id)
        if outcome.writes:
            (worktree / SHARED).write_text(order.run_id)
        for build, owner in OWNERS.items():
            if order.agent == owner and outcome.breaks != build:
                (worktree / broken(build)).unlink(missing_ok=True)
        if outcome.breaks:
            (worktree / broken(outcome.breaks)).write_text(outcome.words or order.run_id)
        if order.stage == "Fix deliver":
            self._project.git("merge", "--quiet", "-s", "ours", "main", at=worktree)

    def _move_target(self, order: RunOrder) -> None:
        is_late = TEAM[order.agent].role in (Role.DEVOPS, Role.STATISTICS)
        if is_late and self._scenario.target and not self._counts["target"]:
            self._counts["target"] += 1
            name = SHARED if self._scenario.target == "in conflict" else "theirs.txt"
            self._project.commit({name: "theirs\n"})

    async def end(self, run_id: str) -> RunResult:
        """A scripted agent ends with its activity."""
        order = self._orders.get(run_id)
        head = order.head if order else None
        return RunResult(RunEnd.CANCELLED, None, "", "", None, None, 0, "", head=head)

    async def end_all(self, key: str) -> Mapping[str, RunResult]:
        return {}

    async def extend(self, run_id: str, deadline: timedelta) -> None:
        raise AssertionError("nobody extends a deadline here")

    async def suspend(self, key: str) -> tuple[str, ...]:
        raise AssertionError("nobody is suspended here")

    async def resume(self, key: str) -> tuple[str, ...]:
        raise AssertionError("nobody is suspended here")


class AnyBuilds:
    """Builds that pass unless the commit says that they do not."""

    async def prepare(
        self, request: StageRequest, names: Sequence[str], directory: str
    ) -> Preparation | None:
        raise AssertionError(request)

    async def run(self, request: BuildRequest, directory: str) -> BuildResult:
        now = datetime.now(UTC)
        breaks = Path(directory) / broken(request.build)
        output = f"error TS1: {breaks.read_text()}" if breaks.exists() else ""
        log = f"{request.build}.log"
        return BuildResult(RunEnd.EXITED, 1 if output else 0, output, now, datetime.now(UTC), log)


def _result(order: RunOrder, outcome: Outcome, started: datetime) -> RunResult:
    crashed = outcome.kind is Kind.CRASH
    end = _ENDS.get(outcome.kind, RunEnd.EXITED)
    return RunResult(
        end=end,
        exit_code=(1 if crashed else 0) if end is RunEnd.EXITED else None,
        output=_output(order, outcome),
        error_output=outcome.words if crashed else "",
        started_at=started,
        ended_at=datetime.now(UTC),
        starts=1,
        log_reference=f"runs/{order.run_id}/stdout",
    )


def _output(order: RunOrder, outcome: Outcome) -> str:
    if outcome.kind in (Kind.SILENT, Kind.CRASH):
        return f"no notice {outcome.words}"
    notice = {
        **green_notice(order.member, order.number),
        **(dict.fromkeys(outcome.flags, True) if order.member.raises else {}),
        **(_red(order.agent, outcome) if outcome.kind is Kind.RED else {}),
        **_OVERLAYS.get(outcome.kind, {}),
    }
    return f"```json\n{json.dumps(notice)}\n```"


def _red(agent: str, outcome: Outcome) -> Mapping[str, object]:
    """A red verdict; whoever gives none says that it failed."""
    role, words = TEAM[agent].role, [outcome.words] if outcome.words else []
    if role == Role.CRITIQUE:
        return {"critique_verdict": "REQUEST_CHANGES", "reasons": words}
    if role not in VERDICTS:
        return {"status": "FAILED"}
    word = "overall" if role == Role.STATISTICS else "test_result"
    return {word: "FAIL", "failures": words, "owner": outcome.owner}
