"""Conflicts between stages, and what a repeated stage starts from."""

from pipeline.model import FailureKind, RequirementState, StageState
from tests.orchestra import Orchestra
from tests.orchestra_plans import BACKEND, FRONTEND, PAIR, SOLO


async def test_the_later_of_two_conflicting_stages_is_repeated_on_the_merged_result(
    orchestra: Orchestra,
) -> None:
    puppets, project = orchestra.puppets, orchestra.project
    puppets.hold("jen")
    puppets.task("roy", files={"README.md": "roy\n"})
    puppets.task("jen", files={"README.md": "jen\n"})
    await orchestra.worker.start()
    handle = await orchestra.start(PAIR)
    await orchestra.until_stage(BACKEND, StageState.COMPLETED)
    integration = f"agog/{orchestra.number}/main"
    merged = orchestra.store.git("rev-parse", integration)
    puppets.release("jen")

    view = await orchestra.until_state(RequirementState.BLOCKED)

    (failure,) = view.failures
    assert (failure.stage, failure.kind, failure.owners) == (
        FRONTEND, FailureKind.CONFLICT, ("jen",),
    )  # fmt: skip
    assert "README.md" in failure.error
    assert orchestra.store.git("rev-parse", integration) == merged
    assert {s.stage: s.state for s in view.stages} == {
        BACKEND: StageState.COMPLETED,
        FRONTEND: StageState.FAILED,
    }
    kept = f"refs/agog/{orchestra.number}/kept/frontend-implementation-1"
    assert orchestra.store.text(kept, "README.md") == "jen"

    puppets.task("jen", files={"frontend/jen.txt": "jen\n"})
    await orchestra.retry(handle, FRONTEND)
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    assert (puppets.starts("roy"), puppets.starts("jen")) == (1, 2)
    assert orchestra.store.git("rev-parse", f"{report.commit}~1") == merged
    assert project.text("main", "README.md") == "roy"
    assert project.text("main", "frontend/jen.txt") == "jen"


async def test_what_a_failed_attempt_left_is_kept_and_not_inherited(orchestra: Orchestra) -> None:
    puppets, project = orchestra.puppets, orchestra.project
    puppets.task("roy", files={"backend/first.txt": "1\n"}, notice={"status": "FAILED"})
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)
    await orchestra.until_state(RequirementState.BLOCKED)
    base = orchestra.store.git("rev-parse", f"agog/{orchestra.number}/main")

    puppets.task("roy", files={"backend/second.txt": "2\n"})
    await orchestra.retry(handle, BACKEND)
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    kept = f"refs/agog/{orchestra.number}/kept/backend-implementation-1"
    assert orchestra.store.text(kept, "backend/first.txt") == "1"
    assert orchestra.store.git("rev-parse", f"{report.commit}~1") == base
    assert "backend/first.txt" not in project.files("main")
    assert project.text("main", "backend/second.txt") == "2"
