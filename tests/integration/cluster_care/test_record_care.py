import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio.client import Client

from adapters.care.records import RecordCare
from adapters.installation import Identity
from adapters.local_stack import StackAddresses
from adapters.temporal.workflows import workflow_status
from pipeline.errors import NotRepairable, WrongInstallation
from pipeline.installation import Queues
from pipeline.model import (
    Alert,
    AlertKind,
    DeliveryReport,
    Fix,
    FixOpening,
    Group,
    Pipeline,
    Priority,
    RequirementRef,
    RequirementState,
)
from tests.eventually import eventually_async
from tests.namespaces import create_namespace
from tests.records import Records
from tests.sdlc_factory import PLAN, RESEARCH, Requirement, an_order
from workflows.starting import start_requirement


async def test_rows_that_are_attended_or_have_ended_are_well(records: Records) -> None:
    await records.start("REQ-1")
    await records.start("REQ-2", opened=False)
    done = Requirement(records.store, "REQ-3")
    await done.accept()
    await done.close()

    assert await records.found() == []
    assert await records.act("REQ-1") == "REQ-1 has gone on or ended."
    assert await records.act("REQ-3") == "REQ-3 has gone on or ended."


async def test_requirement_that_continued_as_new_is_attended(records: Records) -> None:
    handle = await records.start("REQ-1", "renew", opened=False)
    first_run = await records.first_run("REQ-1")

    async def is_renewed() -> bool:
        standing = await workflow_status(records.temporal, "REQ-1")
        return standing is not None and standing.run != first_run

    await eventually_async(is_renewed, "the second run")
    await records.open("REQ-1", first_run)

    assert await records.act("REQ-1") == "REQ-1 has gone on or ended."
    await handle.terminate()
    assert "is CANCELLED" in await records.act("REQ-1")


async def test_rows_that_cannot_be_compared_are_one_alert_for_a_human(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    await records.accept("REQ-1")
    monkeypatch.setattr("adapters.care.records._WORKFLOW_TYPE", "no ' query")

    (alert,) = await records.care.look()

    assert alert.subject == ""
    with pytest.raises(NotRepairable, match="Open rows could not be compared with Temporal"):
        await records.care.act(alert)


async def test_start_that_got_no_further_than_its_row_is_completed(records: Records) -> None:
    await records.accept("REQ-1", "deliver", priority=Priority.P0)
    assert await records.found() == ["REQ-1"]

    assert "was started" in await records.act("REQ-1")

    handle = records.temporal.get_workflow_handle("REQ-1", result_type=DeliveryReport)
    assert (await handle.result()).state is RequirementState.DELIVERED


async def test_row_that_was_just_written_is_left_alone(records: Records) -> None:
    await records.accept("REQ-1")
    patient = RecordCare(
        records.identity,
        records.store,
        records.care._database,
        start_requirement,
    )

    assert await patient.look() == []
    alert = Alert(AlertKind.ROW_WITHOUT_WORKFLOW, "record", "REQ-1")
    assert await patient.act(alert) == "REQ-1 has gone on or ended."
    assert await workflow_status(records.temporal, "REQ-1") is None


@pytest.mark.parametrize("workflow_run", ["a-run-that-was-deleted", ""])
async def test_requirement_without_stages_is_closed_and_never_started(
    records: Records, workflow_run: str
) -> None:
    await records.start("REQ-1")
    number = "REQ-INFRA-nats-1"
    await records.accept(number, priority=Priority.P0, pipeline=Pipeline("incident", (), ()))
    if workflow_run:
        await records.open(number, workflow_run)
    assert await records.found() == [number]

    await records.act(number)

    view = await records.reader.requirement(number)
    assert view.state is RequirementState.FAILED
    assert await workflow_status(records.temporal, number) is None


async def test_terminated_requirement_is_closed_with_everything_of_it(records: Records) -> None:
    handle = await records.start("REQ-1")
    requirement = Requirement(records.store, "REQ-1")
    requirement.ref = RequirementRef("REQ-1", await records.first_run("REQ-1"))
    await requirement.open_stage(RESEARCH)
    await handle.terminate(reason="we changed our mind")
    await records.ended(handle)
    (alert,) = await records.care.look()
    assert alert.detail == "REQ-1 is RUNNING, and its workflow has ended."

    await records.care.act(alert)

    view = await records.reader.requirement("REQ-1")
    assert (view.state, view.reason) == (
        RequirementState.CANCELLED,
        "Terminated in Temporal: we changed our mind",
    )
    assert "running" not in {stage.state for stage in view.stages}
    assert [phase.who for phase in await records.reader.phases("REQ-1")][-1] == "sasha"
    kinds = [event.type for event in await records.reader.events("REQ-1")]
    assert kinds[-2:] == ["workflow.cancelled", "workflow.performance"]
    assert await records.found() == []


async def test_blocked_requirement_that_was_terminated_asks_nobody_any_more(
    records: Records,
) -> None:
    handle = await records.start("REQ-1")
    requirement = Requirement(records.store, "REQ-1")
    requirement.ref = RequirementRef("REQ-1", await records.first_run("REQ-1"))
    await requirement.block(await requirement.fail(RESEARCH))
    await handle.terminate()
    await records.ended(handle)

    await records.act("REQ-1")

    view = await records.reader.requirement("REQ-1")
    assert (view.state, view.waiting_for) == (RequirementState.CANCELLED, "")
    assert view.reason.startswith("Terminated in Temporal: ")
    (question,) = await records.reader.escalations("REQ-1")
    assert question.answered_at


@pytest.mark.parametrize(
    ("title", "state", "reason", "commit"),
    [
        ("fail", RequirementState.FAILED, "Its workflow failed: the disk is full", ""),
        ("deliver", RequirementState.DELIVERED, "Delivered.", "c0ffee"),
    ],
)
async def test_end_that_was_not_written_down_is_recorded_as_it_was(
    records: Records, title: str, state: RequirementState, reason: str, commit: str
) -> None:
    handle = await records.start("REQ-1", title)
    await records.ended(handle)

    await records.act("REQ-1")

    view = await records.reader.requirement("REQ-1")
    assert (view.state, view.reason) == (state, reason)
    told = (await records.reader.events("REQ-1"))[1].payload
    assert told.get("commit", "") == commit


async def test_cancellation_that_was_not_written_down_is_recorded(records: Records) -> None:
    handle = await records.start("REQ-1")
    await handle.cancel()
    await records.ended(handle)

    assert await records.act("REQ-1") == "REQ-1 is CANCELLED: Cancelled."


async def test_workflow_that_ran_out_of_time_has_failed(records: Records) -> None:
    order = await records.accept("REQ-1")
    handle = await records.temporal.start_workflow(
        "RequirementWorkflow",
        order,
        id="REQ-1",
        task_queue=records.queues.central,
        execution_timeout=timedelta(seconds=1),
    )
    await records.open("REQ-1", await records.first_run("REQ-1"))
    await records.ended(handle)

    said = await records.act("REQ-1")

    assert said.startswith("REQ-1 is FAILED: Its workflow failed: ")
    assert "timed out" in said.lower()


async def test_requirement_that_was_terminated_before_a_host_took_it_is_closed(
    records: Records,
) -> None:
    handle = await records.start("REQ-1", opened=False)
    await handle.terminate()
    await records.ended(handle)

    assert await records.found() == ["REQ-1"]
    await records.act("REQ-1")

    assert (await records.reader.requirement("REQ-1")).state is RequirementState.CANCELLED


async def test_requirement_that_temporal_has_lost_is_closed_beside_one_that_it_knows(
    records: Records,
) -> None:
    await records.start("REQ-1")
    await records.accept("REQ-2")
    await records.open("REQ-2", "a-run-that-was-deleted")
    assert await records.found() == ["REQ-2"]

    await records.act("REQ-2")

    view = await records.reader.requirement("REQ-2")
    assert (view.state, view.reason) == (
        RequirementState.FAILED,
        "Temporal does not know its workflow any more.",
    )


async def test_nothing_is_looked_at_or_closed_on_a_temporal_that_is_not_ours(
    records: Records, stack: StackAddresses
) -> None:
    await records.start("REQ-1")
    await records.accept("REQ-2")
    await records.open("REQ-2", "a-run-that-was-deleted")
    elsewhere = f"elsewhere-{uuid.uuid4().hex[:8]}"
    await create_namespace(stack.temporal_address, elsewhere)
    stranger = await Client.connect(stack.temporal_address, namespace=elsewhere)
    database, installation = records.care._database, records.identity.installation
    identity = Identity(stranger, database, installation)
    care = RecordCare(identity, records.store, database, start_requirement, timedelta())

    with pytest.raises(WrongInstallation, match="belongs to another installation"):
        await care.look()
    for number in ("REQ-1", "REQ-2"):
        with pytest.raises(WrongInstallation, match="belongs to another installation"):
            await care.act(Alert(AlertKind.ROW_WITHOUT_WORKFLOW, "record", number))

    for number in ("REQ-1", "REQ-2"):
        assert (await records.reader.requirement(number)).state is RequirementState.RUNNING


async def test_workflow_of_another_installation_neither_attends_to_a_row_nor_ends_it(
    records: Records,
) -> None:
    """Its number was quicker there; the row that lost is closed, and nothing else happens."""
    theirs = Queues("agog-theirs")
    handle = await start_requirement(records.temporal, theirs, an_order("REQ-1", "deliver"))
    await records.accept("REQ-1")
    assert await records.found() == ["REQ-1"]

    said = await records.act("REQ-1")

    assert "REQ-1 belongs to another installation in this Temporal namespace" in said
    assert (await records.reader.requirement("REQ-1")).state is RequirementState.FAILED
    standing = await workflow_status(records.temporal, handle.id)
    assert standing
    assert not standing.has_ended


async def test_fix_whose_turn_has_not_come_is_left_to_its_requirement(records: Records) -> None:
    await open_a_fix(records)

    assert await records.found() == []
    assert await records.act("REQ-1-FIX-1") == "REQ-1-FIX-1 has gone on or ended."


async def test_fix_that_never_began_is_cancelled_once_its_requirement_has_ended(
    records: Records,
) -> None:
    requirement = await open_a_fix(records)
    await requirement.close(RequirementState.CANCELLED)
    await records.revive("REQ-1-FIX-1")  # as a program left it that was killed in between
    assert await records.found() == ["REQ-1-FIX-1"]

    await records.act("REQ-1-FIX-1")

    view = await records.reader.requirement("REQ-1-FIX-1")
    assert (view.state, view.reason) == (RequirementState.CANCELLED, "REQ-1 ended before it began.")
    assert await workflow_status(records.temporal, "REQ-1-FIX-1") is None


async def open_a_fix(records: Records) -> Requirement:
    """A blocked requirement whose workflow runs, and its fix that has only its row."""
    await records.start("REQ-1")
    requirement = Requirement(records.store, "REQ-1")
    requirement.ref = RequirementRef("REQ-1", await records.first_run("REQ-1"))
    await requirement.block(failure := await requirement.fail(RESEARCH), asked=False)
    task = replace(PLAN.stage(RESEARCH), name="Fix", needs=())
    fix = Fix("REQ-1-FIX-1", "REQ-1", 1, "cynthia", RESEARCH, failure, task)
    plan = Pipeline("fix", (Group(task.group),), (task,))
    order = replace(an_order(fix.number), pipeline=plan)
    await records.store.open_fixes(FixOpening(requirement.ref, 1, (fix,), (order,)))
    return requirement
