"""The care of a host as a whole: one look at everything, within a bounded time."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from adapters.care import care as bounds
from adapters.care.care import UNSEEN, Care
from adapters.care.memory import Memory, MemoryCare
from adapters.git import GitWorkspaces
from adapters.readiness import MIB
from adapters.runs.directory import RECORDS
from adapters.runs.slots import SlotLimit
from hosting.sasha import host_care
from pipeline.errors import GitFailed, PermanentError, PipelineError, TransientError
from pipeline.model import Alert, AlertKind, RunEnd
from tests.care import KnownRequirements, a_run, subjects
from tests.eventually import PATIENCE_SECONDS
from tests.fixtures_runs import Bench, attach, until
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, store_of

CALM = Memory(8192 * MIB, 16384 * MIB, stalled=0.0)


@dataclass(eq=False)
class Scripted:
    """A part that sees, and does, what a test says."""

    seen: Sequence[Alert] | PipelineError = ()
    seconds: float = 0.0
    kinds: frozenset[AlertKind] = frozenset({AlertKind.ORPHAN})
    prefix: str = "run:"
    blind: Alert = field(default_factory=lambda: Alert(AlertKind.ORPHAN, "orphan", f"run:{UNSEEN}"))
    looks: int = 0

    async def look(self) -> Sequence[Alert]:
        self.looks += 1
        await asyncio.sleep(self.seconds)
        if isinstance(self.seen, PipelineError):
            raise self.seen
        return self.seen

    async def act(self, alert: Alert) -> str:
        await asyncio.sleep(self.seconds)
        return "Done."


ORPHAN = Alert(AlertKind.ORPHAN, "orphan", "run:REQ-1/wf/Research/1")


def memory_of(home: Path, *measured: Memory) -> MemoryCare:
    left = list(measured)
    return MemoryCare("host-1", SlotLimit(home, 4), lambda: left.pop(0) if left else CALM)


def whole(bench: Bench, known: KnownRequirements, project: Path | None = None) -> Care:
    async def extend(run_id: str, minutes: float, reason: str) -> None:
        raise AssertionError(run_id)

    return host_care(
        bench.home,
        "host-1",
        project_root=project,
        min_free_bytes=1,
        requirements=known,
        runs=bench.host(),
        memory=memory_of(bench.home),
        extend=extend,
    )


async def test_a_host_with_nothing_wrong_has_no_alert(runs: Bench, git_project: GitProject) -> None:
    care = whole(runs, KnownRequirements(), git_project.root)

    assert await care.look() == ()


async def test_checks_tidy_up_after_a_requirement_that_was_terminated(
    runs: Bench, git_project: GitProject
) -> None:
    """Its agent is at work in its worktree, and no workflow will ever hear of it."""
    workspaces = GitWorkspaces(git_project.root, runs.home)
    head, _ = await workspaces.open(NUMBER)
    worktree = await workspaces.prepare(stage_request(head))
    runs.shell("echo paid for > work; sleep 300")
    order = runs.order(number=NUMBER, worktree=worktree)
    attached = asyncio.create_task(attach(runs.host(), order))
    work = Path(worktree, "work")
    await until(lambda: exists(work) and work.read_text() == "paid for\n")
    attached.cancel()
    # A look that is under way would see to a dead supervisor before the care does.
    await asyncio.wait({attached})
    known = KnownRequirements()
    care = whole(runs, known, git_project.root)
    assert await care.look() == ()
    known.end(NUMBER)

    checks = []
    while found := await care.look():
        checks.append(subjects(found))
        for alert in found:
            await care.act(alert)

    # The worktree stays until the agent has ended; the run's directory stays for `logs`.
    assert checks == [[f"run:{order.run_id}"], [f"clones:{NUMBER}"]]
    assert not exists(worktree)
    kept = f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert store_of(git_project, runs.home).text(kept, "work") == "paid for"
    assert runs.directory(order).result().end is RunEnd.CANCELLED


async def test_a_look_at_five_thousand_old_runs_takes_a_moment(
    tmp_path: Path, git_project: GitProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised = bounds.LOOK_SECONDS
    monkeypatch.setattr(bounds, "LOOK_SECONDS", PATIENCE_SECONDS)
    known = KnownRequirements()
    five_thousand_copies(a_run(tmp_path, "REQ-0/wf/Research/1").records_path, tmp_path / RECORDS)
    for number in range(500):
        known.end(f"REQ-{number}")
    care = whole(Bench(tmp_path), known, git_project.root)
    started = time.process_time()

    found = await care.look()

    assert found == ()
    assert time.process_time() - started < promised


def five_thousand_copies(pattern: Path, root: Path) -> None:
    files = list(pattern.iterdir())
    for number in range(500):
        for stage in range(10):
            copy = root / f"REQ-{number}" / "wf" / f"stage-{stage}"
            copy.mkdir(parents=True)
            for file in files:
                (copy / file.name).hardlink_to(file)


async def test_a_part_that_cannot_look_is_a_alert_and_hides_no_other(runs: Bench) -> None:
    part = Scripted([ORPHAN])
    care = Care(memory_of(runs.home), part)
    assert await care.look() == (ORPHAN,)

    part.seen = GitFailed("The project is gone.")
    found = await care.look()

    (unseen,) = found
    assert unseen == replace(ORPHAN, subject=f"run:{UNSEEN}", detail="The project is gone.")
    assert (await care.is_over(ORPHAN), await care.is_over(unseen)) == (None, False)
    with pytest.raises(GitFailed):
        await care.act(unseen)
    part.seen = ()
    assert await care.act(unseen) == "It can be looked at again."
    assert await care.look() == ()
    assert await care.is_over(ORPHAN)
    assert await care.is_over(unseen)


async def test_a_project_that_is_gone_hides_no_run(runs: Bench, tmp_path: Path) -> None:
    run = a_run(runs.home, "REQ-1/wf/Research/1", ended=False)
    known = KnownRequirements()
    known.end("REQ-1")

    found = await whole(runs, known, tmp_path / "not mounted").look()

    assert subjects(found) == [f"run:{run.run_id}"]


async def test_orphans_are_not_over_because_the_database_cannot_be_asked(runs: Bench) -> None:
    run = a_run(runs.home, "REQ-1/wf/Research/1", ended=False)
    known = KnownRequirements()
    known.end("REQ-1")
    (alert,) = await whole(runs, known).look()
    known.ends = None
    care = whole(runs, known)  # of a worker that has never looked before

    assert await care.look() == ()
    assert await care.is_over(alert) is None
    assert alert.subject == f"run:{run.run_id}"


async def test_only_the_remediator_of_a_alert_looks_while_it_is_watched(tmp_path: Path) -> None:
    part = Scripted(GitFailed("The project is gone."))
    care = Care(memory_of(tmp_path, replace(CALM, stalled=99.0)), part)
    alert = Alert(AlertKind.HOST_OVERLOADED, "host", "host-1")

    assert [await care.is_over(alert) for _ in range(2)] == [False, True]
    assert part.looks == 0


async def test_looks_and_treatments_are_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LOOK_SECONDS", 0.05)
    care = Care(Scripted(seconds=60), act_seconds=0.05)

    (alert,) = await care.look()

    assert (alert.subject, alert.detail) == (f"run:{UNSEEN}", "no answer in 0.05 s")
    with pytest.raises(TransientError, match="Not done in time"):
        await care.act(ORPHAN)


async def test_what_is_no_hosts_to_treat_is_refused(runs: Bench) -> None:
    care = whole(runs, KnownRequirements())

    for alert in (
        Alert(AlertKind.NATS_DOWN, "nats"),
        Alert(AlertKind.ORPHAN, "orphan", "moon:1"),
        Alert(AlertKind.ORPHAN, "orphan", "worktrees:REQ-1"),  # a host without a project
    ):
        with pytest.raises(PermanentError):
            await care.act(alert)
