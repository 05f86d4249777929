"""One requirement's way through the store, step by step, as activities would take it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from adapters.sdlc.requirements import Acceptance
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.model import (
    HUMAN,
    ORCHESTRATOR,
    Ask,
    BlockedStage,
    BuildOutcome,
    BuildRequest,
    BuildResult,
    Closing,
    Escalation,
    Failure,
    FailureCollection,
    FailureKind,
    FailureReport,
    Fix,
    FixOpening,
    Group,
    Head,
    Hold,
    MergeResult,
    Opening,
    OpeningRequest,
    Pipeline,
    Priority,
    Reopening,
    RequirementOrder,
    RequirementRef,
    RequirementState,
    RunEnd,
    RunResult,
    Severity,
    Stage,
    StageContext,
    StageOutcome,
    StageRequest,
    StageSkip,
    StageState,
)
from pipeline.notice import Notice, NoticeStatus

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
RESEARCH, CRITIQUE = "Research", "Critique"
BACKEND, FRONTEND = "Backend Implementation", "Frontend Implementation"
QA, SECURITY = "Backend QA", "Security Testing"


def _stage(name: str, agent: str, group: str, needs: tuple[str, ...], flag: str = "") -> Stage:
    deadline, grace = timedelta(minutes=60), timedelta(minutes=5)
    return Stage(name, agent, group, needs, 30, deadline, grace, flag=flag or None)


PLAN = Pipeline(
    "short",
    (
        Group("Research"),
        Group("Critique", ("Research",)),
        Group("Implementation", ("Critique",)),
        Group("Quality Assurance", ("Implementation",)),
        Group("Conditional Testing", ("Quality Assurance",)),
    ),
    (
        _stage(RESEARCH, "cynthia", "Research", ()),
        _stage(CRITIQUE, "sylvia", "Critique", (RESEARCH,)),
        _stage(BACKEND, "roy", "Implementation", (CRITIQUE,)),
        _stage(FRONTEND, "jen", "Implementation", (CRITIQUE,)),
        _stage(QA, "billy", "Quality Assurance", (BACKEND, FRONTEND)),
        _stage(SECURITY, "vic", "Conditional Testing", (QA,), "needs_vic"),
    ),
)


def an_order(number: str = "REQ-1", title: str = "A title") -> RequirementOrder:
    return RequirementOrder(number, title, Priority.P2, PLAN, False, timedelta(seconds=3))


def a_failure(
    stage: str = BACKEND,
    gate: str = f"run {BACKEND}",
    *,
    kind: FailureKind = FailureKind.CRASH,
    owners: tuple[str, ...] = ("roy",),
    error: str = "It broke.\nBadly.",
) -> Failure:
    return Failure(stage, kind, gate, owners, error, Severity.CRITICAL, "log-1", "c0ffee")


@dataclass
class Requirement:
    """A requirement in a store; every step takes what differs from the plain case."""

    store: PostgresSdlcStore
    number: str = "REQ-1"
    ref: RequirementRef = field(init=False)

    def __post_init__(self) -> None:
        self.ref = RequirementRef(self.number, "wf-1")

    async def accept(self) -> bool:
        return await self.store.accept(an_order(self.number), "A description")

    async def open(self, *, parallel: bool = True, host: str = "host-1") -> None:
        opening = Opening(host, Head("base", 0), "main", parallel)
        await self.store.open_requirement(OpeningRequest(self.ref, PLAN, False), opening)

    async def begun(self) -> "Requirement":
        await self.accept()
        await self.open()
        return self

    def request(self, name: str, attempt: int = 1) -> StageRequest:
        stage = PLAN.stage(name)
        return StageRequest(self.ref, Priority.P2, stage, attempt, Head("base", 0), 60)

    async def try_stage(self, name: str, attempt: int = 1) -> StageContext | Hold:
        return await self.store.open_stage(self.request(name, attempt), self.number)

    async def open_stage(self, name: str, attempt: int = 1) -> StageContext:
        context = await self.try_stage(name, attempt)
        assert isinstance(context, StageContext), context
        return context

    def notice(self, name: str, **changes: object) -> Notice:
        agent = PLAN.stage(name).agent
        raw = {"agent": agent, "req_number": self.number, "status": "COMPLETE", "summary": "Done."}
        fixes = changes.get("required_fixes", ())
        assert isinstance(fixes, tuple)
        return Notice(
            agent,
            self.number,
            NoticeStatus.COMPLETE,
            "Done.",
            required_fixes=fixes,
            raw={**raw, **{key: _listed(value) for key, value in changes.items()}},
        )

    async def close_stage(
        self,
        name: str,
        attempt: int = 1,
        *,
        state: StageState = StageState.COMPLETED,
        start: int = 0,
        minutes: int = 30,
        failure: Failure | None = None,
        end: RunEnd = RunEnd.EXITED,
        notice: Mapping[str, object] | None = None,
        parallel: bool = True,
        conflicts: tuple[str, ...] = (),
    ) -> None:
        head = Head(f"{name}-{attempt}", 1)
        began = START + timedelta(minutes=start)
        answered = failure is None or notice is not None
        result = RunResult(
            end, 0, "", "", began, began + timedelta(minutes=minutes), 1, f"runs/{name}"
        )
        outcome = StageOutcome(
            name, attempt, state, head if failure is None else None, parallel, "Done."
        )
        if failure:
            outcome = StageOutcome(
                name, attempt, state, None, parallel, verdict="", failure=failure
            )
        await self.store.close_stage(
            self.request(name, attempt),
            outcome,
            result,
            self.notice(name, **(notice or {})) if answered else None,
            MergeResult(head, "own", conflicts) if failure is None or conflicts else None,
        )

    async def run(self, name: str, attempt: int = 1, *, start: int = 0, minutes: int = 30) -> None:
        await self.open_stage(name, attempt)
        await self.close_stage(name, attempt, start=start, minutes=minutes)

    async def run_up_to(self, *names: str) -> None:
        for index, name in enumerate(names):
            await self.run(name, start=30 * index)

    async def fail(self, name: str, attempt: int = 1, failure: Failure | None = None) -> Failure:
        failure = failure or a_failure(name, f"run {name}", owners=(PLAN.stage(name).agent,))
        await self.open_stage(name, attempt)
        await self.close_stage(name, attempt, state=StageState.FAILED, failure=failure)
        return failure

    async def skip(self, name: str, attempt: int = 1) -> None:
        skip = StageSkip(self.ref, PLAN.stage(name), attempt, "No flag.")
        await self.store.skip_stages([skip])

    def build_request(self, occurrence: int = 1) -> BuildRequest:
        return BuildRequest(
            self.ref, "backend", BACKEND, "roy", Head("c1", 1), str(occurrence), True
        )

    async def open_build(self, occurrence: int = 1) -> BuildOutcome | Hold | None:
        return await self.store.open_build(self.build_request(occurrence), self.number)

    async def build(
        self, *, occurrence: int = 1, passed: bool = True, start: int = 0, minutes: int = 5
    ) -> BuildRequest:
        request = self.build_request(occurrence)
        failure = a_failure(BACKEND, "build backend", kind=FailureKind.BUILD)
        began = START + timedelta(minutes=start)
        await self.store.record_build(
            request,
            BuildOutcome("backend", "c1", passed, True, True, None if passed else failure),
            BuildResult(
                RunEnd.EXITED, int(not passed), "", began, began + timedelta(minutes=minutes), "b"
            ),
        )
        return request

    async def block(
        self,
        *failures: Failure,
        round_: int = 1,
        blocked: tuple[str, ...] = (),
        asked: bool = True,
    ) -> None:
        stages = tuple(BlockedStage(PLAN.stage(name), 0, "Needs it.") for name in blocked)
        asks = tuple(Ask(each.stage, each.gate, "it has no owner") for each in failures)
        escalation = Escalation(round_, asks, ("decide abort",)) if asked else None
        waiting = HUMAN if asked else ORCHESTRATOR
        collection = FailureCollection(self.ref, round_, failures, stages, escalation, waiting)
        severity = max(failure.severity for failure in failures)
        report = FailureReport(self.number, round_, severity, failures, "1 failure\nmore")
        await self.store.block(collection, report)

    async def reopen(
        self, *stages: str, answer: int = 1, approved: tuple[str, ...] = (), why: str = "Try it."
    ) -> None:
        said = "approve" if approved else "reopen"
        await self.store.reopen(Reopening(self.ref, answer, stages, "ann", why, said, approved))

    async def close(self, state: RequirementState = RequirementState.DELIVERED) -> None:
        await self.store.close_requirement(Closing(self.ref, state, "Because.", "final", "ann"))


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


async def accept(
    store: PostgresSdlcStore,
    number: str,
    priority: Priority = Priority.P2,
    blocked_by: tuple[str, ...] = (),
) -> Requirement:
    """A requirement that has got no further than its row."""
    order = replace(an_order(number), priority=priority)
    await store.accept_all([Acceptance(order, "A description", blocked_by=blocked_by)])
    return Requirement(store, number)


async def begin(
    store: PostgresSdlcStore,
    number: str,
    priority: Priority = Priority.P2,
    blocked_by: tuple[str, ...] = (),
) -> Requirement:
    """A requirement that a host has taken."""
    requirement = await accept(store, number, priority, blocked_by)
    await requirement.open()
    return requirement


async def begin_fix(requirement: Requirement, nth: int = 1) -> Requirement:
    """A fix of the backend's stage, which a host has taken."""
    failure = a_failure(BACKEND, "build backend", kind=FailureKind.BUILD)
    number = f"{requirement.number}-FIX-{nth}"
    fix = Fix(number, requirement.number, 1, "roy", BACKEND, failure, PLAN.stage(BACKEND))
    await requirement.store.open_fixes(FixOpening(requirement.ref, 1, (fix,), (an_order(number),)))
    opened = Requirement(requirement.store, number)
    await opened.open()
    return opened
