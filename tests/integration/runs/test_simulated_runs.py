import asyncio
import json
from datetime import timedelta

from pipeline.agents_file import SimulatedAgent
from pipeline.model import RunEnd
from pipeline.notice import parse_notice
from pipeline.team import TEAM
from tests.fixtures_runs import Bench, attach, until
from tests.suspended_runs import stood_still


async def test_a_simulated_run_answers_with_the_scripted_notice(runs: Bench) -> None:
    runs.agents["billy"] = SimulatedAgent(notice={"needs_vic": True, "summary": "Häagen"})

    result = await attach(runs.host(), runs.order(agent="billy"))

    notice = parse_notice(result.output, agent=TEAM["billy"], number="REQ-1")
    assert (result.end, result.exit_code, result.starts) == (RunEnd.EXITED, 0, 1)
    assert (notice.summary, notice.test_result, notice.flags) == ("Häagen", "PASS", ("needs_vic",))


async def test_a_simulated_run_takes_its_minutes_at_the_pace_of_the_simulation(runs: Bench) -> None:
    runs.minute_seconds = 0.01
    runs.agents["roy"] = SimulatedAgent(minutes=30)

    result = await attach(runs.host(), runs.order(minutes=5))

    assert result.started_at is not None
    assert result.ended_at is not None
    assert result.ended_at - result.started_at == timedelta(seconds=0.3)


async def test_a_simulated_run_sleeps_only_the_rest_after_a_restart(runs: Bench) -> None:
    runs.minute_seconds = 0.02
    runs.agents["roy"] = SimulatedAgent()
    attached = asyncio.create_task(attach(runs.host(), runs.order()))
    await asyncio.wait({attached}, timeout=0.7)
    attached.cancel()

    result = await attach(runs.host(), runs.order())

    assert result.started_at is not None
    assert result.ended_at is not None
    assert result.ended_at - result.started_at == timedelta(seconds=60 * 0.02)
    assert result.starts == 1


async def test_a_simulated_run_ends_at_its_deadline_and_grace(runs: Bench) -> None:
    runs.minute_seconds = 0.01
    runs.agents["roy"] = SimulatedAgent(minutes=10_000)
    order = runs.order(deadline=timedelta(minutes=10), grace=timedelta(minutes=5))

    result = await attach(runs.host(), order)

    assert (result.end, result.output) == (RunEnd.TIMED_OUT, "")
    assert result.started_at is not None
    assert result.ended_at is not None
    assert result.ended_at - result.started_at == timedelta(seconds=0.15)


async def test_a_simulated_run_can_be_extended_and_ended(runs: Bench) -> None:
    runs.minute_seconds = 0.01
    runs.agents["roy"] = SimulatedAgent(minutes=10_000)
    order, host = runs.order(deadline=timedelta(minutes=50)), runs.host()
    async with host.slot(order.slot):
        await host.start(order)

    await host.extend(order.run_id, timedelta(minutes=6_000))  # before anybody looks at it
    attached = asyncio.create_task(attach(host, order))
    done, _ = await asyncio.wait({attached}, timeout=0.8)
    assert not done
    await host.end(order.run_id)

    assert (await attached).end is RunEnd.CANCELLED


async def test_a_simulated_run_holds_a_slot_also_after_a_restart(runs: Bench) -> None:
    runs.minute_seconds, runs.limit = 0.01, 1
    runs.agents["roy"] = SimulatedAgent()
    first = asyncio.create_task(attach(runs.host(), runs.order()))
    await until(lambda: runs.directory(runs.order()).has("started"))
    first.cancel()

    second = await attach(runs.host(), runs.order(number="REQ-2"))

    # The first took 0.6 s, with nobody attached to it for most of that.
    first_started = runs.directory(runs.order()).starts()[0]
    assert second.started_at is not None
    assert second.started_at - first_started >= timedelta(seconds=0.6)


async def test_the_clock_of_a_suspended_simulated_run_stops(runs: Bench) -> None:
    runs.minute_seconds = 0.05
    runs.agents["roy"] = SimulatedAgent()
    order, host = runs.order(), runs.host()
    attached = asyncio.create_task(attach(host, order))
    await until(lambda: runs.directory(order).has("started"))

    assert await host.suspend("REQ-1/wf-1") == (order.run_id,)
    done, _ = await asyncio.wait({attached}, timeout=0.9)
    assert not done
    attached.cancel()
    restarted = runs.host()
    attached = asyncio.create_task(attach(restarted, order))
    assert await restarted.resume("REQ-1/wf-1") == (order.run_id,)
    result = await attached

    assert result.end is RunEnd.EXITED
    assert stood_still(result) >= timedelta(seconds=0.9)  # beside the 3 s that it takes
    assert abs(result.elapsed - timedelta(seconds=3)) < timedelta(milliseconds=1)


async def test_a_suspended_simulated_run_holds_no_slot_and_can_be_ended(runs: Bench) -> None:
    runs.minute_seconds, runs.limit = 0.01, 1
    runs.agents["roy"] = SimulatedAgent()
    order, host = runs.order(minutes=60_000, deadline=timedelta(hours=2_000)), runs.host()
    attached = asyncio.create_task(attach(host, order))
    await until(lambda: runs.directory(order).has("started"))
    await host.suspend("REQ-1/wf-1")

    second = await attach(host, runs.order(number="REQ-2"))
    await host.end(order.run_id)

    assert second.end is RunEnd.EXITED
    assert ((await attached).end, (await attached).pre_empted) == (RunEnd.CANCELLED, False)


async def test_two_hundred_simulated_runs_at_once_all_end(runs: Bench) -> None:
    runs.limit = 200
    runs.agents["roy"] = SimulatedAgent(minutes=0)
    host = runs.host()
    orders = [runs.order(number=f"REQ-{number}") for number in range(200)]

    results = await asyncio.gather(*(attach(host, order) for order in orders))

    assert {result.end for result in results} == {RunEnd.EXITED}


async def test_a_kind_that_changed_in_the_agents_file_does_not_change_a_run(runs: Bench) -> None:
    runs.agents["roy"] = SimulatedAgent(minutes=0)
    first = await attach(runs.host(), runs.order())
    runs.shell("echo something else")

    assert await attach(runs.host(), runs.order()) == first
    assert json.loads(runs.directory(runs.order()).file("order.json").read_text())["kind"]
