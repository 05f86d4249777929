"""More time by message: from NATS through the workflow to the run's deadline and its row."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.rule_facts import SdlcRuleFacts, create_rule_facts
from adapters.temporal.messages import TemporalExtender
from pipeline.events import EXTENSION_REQUESTS
from tests.cluster import Cluster, until
from tests.eventually import eventually
from tests.fakes import Script
from tests.fixtures_sdlc import NatsServer
from tests.rule_asking import Answer, Asker, a_responder
from workflows.requirement import RequirementWorkflow


@pytest.fixture
async def facts(database_url: str) -> AsyncIterator[SdlcRuleFacts]:
    facts = create_rule_facts(database_url)
    yield facts
    await facts.close()


@pytest.fixture
async def asker(
    nats_server: NatsServer, cluster: Cluster, facts: SdlcRuleFacts
) -> AsyncIterator[Asker]:
    """Two responders, as of two workers, and cynthia at work: 90 minutes, 270 at most."""
    await cluster.open({"Research": [Script(minutes=1_000_000)]})
    await cluster.start()

    async def is_running() -> bool:
        return bool(cluster.runs.started())

    await until(is_running, "Research runs")
    async with AsyncExitStack() as stack:
        client = cluster._client  # the test looks behind the cluster
        for _ in range(2):
            extender = TemporalExtender(
                client, cluster.installation.queues, RequirementWorkflow.extend
            )
            responder = a_responder(nats_server, facts, extender)
            await responder.start()
            stack.push_async_callback(responder.stop)
        yield await stack.enter_async_context(Asker(nats_server))


async def extend(asker: Asker, cluster: Cluster, minutes: object, **changes: object) -> Answer:
    return await asker.extend(
        **{
            "reqNumber": cluster.number,
            "agent": "cynthia",
            "newTimeout": minutes,
            "reason": "many sources",
            "extendedBy": "sasha",
            **changes,
        }
    )


def deadlines(cluster: Cluster) -> list[float]:
    return [deadline.total_seconds() / 60 for _, deadline in cluster.runs.extensions]


async def test_a_message_moves_the_deadline_and_is_recorded(
    asker: Asker, cluster: Cluster, sdlc_reader: SdlcReader, facts: SdlcRuleFacts
) -> None:
    answer = await extend(asker, cluster, 120, correlationId="mine")

    assert answer["accepted"], answer
    assert (answer["newTimeout"], answer["correlationId"]) == (120, "mine")
    assert deadlines(cluster) == [120]
    assert cluster.runs.extensions[0][0] == answer["runId"]
    await eventually(lambda: asker.extended == [answer], "the same answer for everybody")
    own = (await facts.of(cluster.number)).of_agent("cynthia")
    assert own
    assert own.deadline.total_seconds() / 60 == 120


async def test_repeats_have_one_effect(asker: Asker, cluster: Cluster) -> None:
    answers = await asyncio.gather(
        *(extend(asker, cluster, 120, correlationId="mine") for _ in range(6))
    )

    assert [answer["accepted"] for answer in answers] == [True] * 6
    assert deadlines(cluster) == [120]
    assert (await extend(asker, cluster, 120, correlationId="another"))["accepted"]
    assert deadlines(cluster) == [120]


async def test_wishes_at_the_same_time_do_not_add_up(asker: Asker, cluster: Cluster) -> None:
    totals = (100, 150, 200, 270)

    answers = await asyncio.gather(*(extend(asker, cluster, total) for total in totals))

    # one that was counted from a deadline which has moved since is refused
    accepted = [total for total, each in zip(totals, answers, strict=True) if each["accepted"]]
    assert accepted, answers
    assert max(deadlines(cluster)) == max(accepted)
    assert set(deadlines(cluster)) == set(accepted)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"newTimeout": 271}, "at most 270"),
        ({"newTimeout": 90.5, "reason": " "}, "reason"),
        ({"newTimeout": 80}, "has 90 minutes already"),
        ({"newTimeout": 0}, "positive"),
        ({"newTimeout": -5}, "positive"),
        ({"newTimeout": float("nan")}, "number of minutes"),
        ({"newTimeout": 1e300}, "number of minutes"),
        ({"newTimeout": True}, "number of minutes"),
        ({"newTimeout": "120"}, "number of minutes"),
        ({"agent": "roy"}, "roy has no running stage"),
        ({"agent": "mallory"}, "no agent 'mallory'"),
        ({"reqNumber": "REQ-404"}, "no requirement REQ-404"),
        ({"reqNumber": "../etc"}, "form REQ-"),
        ({"extendedBy": None}, "extendedBy"),
    ],
)
async def test_what_may_not_be_is_refused_with_its_reason(
    asker: Asker, cluster: Cluster, change: dict[str, object], reason: str
) -> None:
    answer = await extend(asker, cluster, **{"minutes": 120, **_renamed(change)})

    assert answer["accepted"] is False
    assert reason in answer["reason"]
    assert deadlines(cluster) == []


def _renamed(change: dict[str, object]) -> dict[str, object]:
    return {("minutes" if key == "newTimeout" else key): value for key, value in change.items()}


async def test_a_refusal_of_the_workflow_is_the_answer(asker: Asker, cluster: Cluster) -> None:
    cluster.runs.refused_extensions = 1

    refused = await extend(asker, cluster, 120, correlationId="first")
    accepted = await extend(asker, cluster, 120, correlationId="second")

    assert (refused["accepted"], accepted["accepted"]) == (False, True)
    assert "nothing to extend" in refused["reason"]
    assert deadlines(cluster) == [120]


async def test_what_is_no_message_is_answered(asker: Asker) -> None:
    answer = await asker.request(EXTENSION_REQUESTS, b"extend it")

    assert answer["accepted"] is False
    assert "not JSON" in answer["reason"]
    json.dumps(answer, allow_nan=False)
