"""Records the histories that every later version of the workflow must still be able to replay.

    .venv/bin/python -m tests.histories.record [SCENARIO …]

starts servers of its own in a temporary directory, runs every scenario, or those that are named, on
them with scripted agents and writes one JSON file each beside this script. Record again only when
a change of the order of commands is meant, and nothing released is running; commit the new files
alone, and say in the message which order changed and why no running requirement can be hurt by it.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError

from adapters.installation import Identity
from adapters.local_stack import LocalStack, StackAddresses
from adapters.nats import events as nats_events
from adapters.sdlc.migrate import upgrade
from adapters.sdlc.store import create_store
from adapters.temporal.client import SEARCH_ATTRIBUTES
from adapters.temporal.converter import DATA_CONVERTER
from pipeline.installation import Installation
from pipeline.model import (
    Answer,
    Bounds,
    DecisionRequest,
    Priority,
    RequirementOrder,
    Symptom,
    SymptomKind,
)
from tests.fakes import RealClock, Script
from tests.house import (
    NO_REPAIR,
    REPAIR,
    ExitCodes,
    Handle,
    House,
    Scripts,
    delivered,
    retry_when_possible,
    until,
)
from tests.orchestra_plans import SOLO
from workflows.requirement import RequirementWorkflow

HERE = Path(__file__).parent
HOUSE = HERE.parent.parent
IDENTITY = "recorder"
"""Instead of process and host name, which Temporal would record."""

BOTH_SPECIALISTS: Scripts = {
    "Backend QA": [Script({"needs_todd": True})],
    "Frontend QA": [Script({"needs_vic": True})],
}
TROUBLE: Scripts = {
    "Critique": [Script({"critique_verdict": "ESCALATE", "reasons": ["whose budget?"]})],
    "Frontend Implementation": [Script(exit_code=1, output="no notice"), Script()],
}

RED_TESTS: Scripts = {
    "Backend QA": [Script({"test_result": "FAIL", "failures": ["greet() is wrong"]}), Script()],
    "Frontend QA": [Script(exit_code=1, output="no notice")],
}

UNDECIDED: Scripts = {
    "Critique": [
        Script({"critique_verdict": "REQUEST_CHANGES", "required_fixes": ["name the unit"]}),
        Script(),
    ],
}
QUESTION: Scripts = {"Research": [Script({"status": "BLOCKED", "summary": "which one?"}), Script()]}
LASTING = Script(lasts=True)

Answers = Callable[[House, Handle], Awaitable[None]]


async def _nobody(house: House, handle: Handle) -> None:
    """Nobody is asked."""


async def _approve_and_retry(house: House, handle: Handle) -> None:
    await house.until_blocked(handle)
    approval = DecisionRequest(Answer.APPROVE, "ada", "ours")
    await handle.execute_update(RequirementWorkflow.decide, approval)
    await retry_when_possible(handle, "Backend Implementation")


async def _retry_once_reminded(house: House, handle: Handle) -> None:
    async def is_reminded() -> bool:
        return any("reminder" in event for event in await house.escalations(handle.id))

    await until(is_reminded, "a reminder")
    await retry_when_possible(handle, "Research")


async def _hold_for_p0(house: House, handle: Handle) -> None:
    """A P0 that nobody has begun comes while the first agent runs."""
    await house.until_running("Research")
    number = f"{handle.id}-URGENT"
    order = RequirementOrder(number, "It burns.", Priority.P0, SOLO, False, None)
    await house.store.accept(order, "Nobody begins it yet.")
    await house.runs.let_end()
    await _until_held(house, handle)
    await delivered(await house.start(SOLO, number=number, priority=Priority.P0))


async def _stand_still_for_p0(house: House, handle: Handle) -> None:
    """A P0 that pre-empts comes while an agent runs."""
    await house.until_running("Backend Implementation")
    number = f"{handle.id}-URGENT"
    house.runs.by_number[number] = LASTING
    urgent = await house.start(SOLO, number=number, priority=Priority.P0, pre_empts=True)
    await _until_held(house, handle)
    await house.runs.let_end(number)
    await delivered(urgent)
    await house.runs.let_end(handle.id)


async def _until_held(house: House, handle: Handle) -> None:
    async def is_held() -> bool:
        return "workflow.held" in await house.types(handle.id)

    await until(is_held, f"{handle.id} is held")


async def _cancel(house: House, handle: Handle) -> None:
    await house.until_running("Backend Implementation")
    await handle.cancel()


@dataclass(frozen=True)
class Scenario:
    """A requirement to record: its pipeline, what its agents and builds do, and the answers."""

    pipeline: str
    scripts: Scripts = field(default_factory=dict)
    builds: ExitCodes = field(default_factory=dict)
    answers: Answers = _nobody
    bounds: Bounds = NO_REPAIR
    outage: tuple[Symptom, ...] = ()
    """What is away when it begins; Sasha's first act brings it back."""
    sequential: bool = False
    end: WorkflowExecutionStatus = WorkflowExecutionStatus.COMPLETED


SCENARIOS: Mapping[str, Scenario] = {
    "standard": Scenario("standard"),
    "final-stages": Scenario("final-stages", BOTH_SPECIALISTS),
    "critical-path": Scenario("critical-path"),
    "answers": Scenario("standard", TROUBLE, {"backend": [2, 0]}, _approve_and_retry),
    "repair": Scenario("standard", RED_TESTS, {"backend": [2, 0]}, bounds=REPAIR),
    "sequential": Scenario("standard", sequential=True),
    "rework": Scenario("standard", UNDECIDED, bounds=REPAIR),
    "reminder": Scenario(
        "standard",
        QUESTION,
        answers=_retry_once_reminded,
        bounds=replace(NO_REPAIR, reminder=timedelta(seconds=1)),
    ),
    "held": Scenario("standard", {"Research": [LASTING]}, answers=_hold_for_p0),
    "pre-empted": Scenario(
        "standard", {"Backend Implementation": [LASTING]}, answers=_stand_still_for_p0
    ),
    "cancelled": Scenario(
        "standard",
        {"Backend Implementation": [LASTING]},
        answers=_cancel,
        end=WorkflowExecutionStatus.CANCELED,
    ),
    "outage": Scenario("standard", outage=(Symptom(SymptomKind.NATS_DOWN, "nats"),)),
}


async def main() -> None:
    """Record every scenario that is wanted."""
    wanted = sys.argv[1:] or list(SCENARIOS)
    with TemporaryDirectory(prefix="agog-") as home:
        async with LocalStack(Path(home)) as stack:
            await asyncio.to_thread(upgrade, stack.database_url)
            for name in wanted:
                histories = await record(stack, f"REQ-{name}", SCENARIOS[name])
                for below, history in enumerate(histories):
                    suffix = f"-{below}" if below else ""
                    (HERE / f"{name}{suffix}.json").write_text(history + "\n")


async def record(stack: StackAddresses, number: str, scenario: Scenario) -> list[str]:
    """Run one requirement to its end; its history, then those of the workflows below it.

    After an outage that of Sasha comes last.
    """
    client = await Client.connect(
        stack.temporal_address, data_converter=DATA_CONVERTER, identity=IDENTITY
    )
    store = create_store(stack.database_url)
    publisher = await nats_events.connect(stack.nats_url, stack.nats_user, stack.nats_password)
    await publisher.ensure_streams()
    identity = Identity(client, store.database, Installation("recorded"))
    async with House(client, RealClock(), store, publisher, "recorded", identity) as house:
        await house.open(scenario.scripts, scenario.builds)
        house.cluster_care.symptoms = list(scenario.outage)
        house.cluster_care.cures = {symptom.kind: 1 for symptom in scenario.outage}
        handle = await house.start(
            scenario.pipeline,
            number=number,
            bounds=scenario.bounds,
            search_attributes=SEARCH_ATTRIBUTES,
            sequential=scenario.sequential,
        )
        await scenario.answers(house, handle)
        with suppress(WorkflowFailureError):  # one that is cancelled ends so
            report = await handle.result()
            assert report.state == "DELIVERED", report
        assert (await handle.describe()).status is scenario.end
        found = await house.family(number)
        if scenario.outage:
            found += await house.family(identity.installation.sasha)
        # stack traces of refusals name files
        histories = [history.to_json().replace(f"{HOUSE}/", "") for history in found]
    await publisher.close()
    await store.close()
    return histories


if __name__ == "__main__":
    asyncio.run(main())
