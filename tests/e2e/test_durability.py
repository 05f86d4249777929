"""Any process may be killed at any time: finished work stays, running agents are found again."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.model import RequirementState
from tests.eventually import eventually
from tests.orchestra import Orchestra
from tests.orchestra_plans import BACKEND, FRONTEND
from tests.plans import shipped

log = logging.getLogger(__name__)

GOES_ON_SECONDS = 5.0
"""Within this time after the worker is ready again work continues (design, section 2, rule 4)."""
READY_SECONDS = 3.0
"""So long it takes a worker from the interpreter; here it may be ready sooner."""


async def test_a_killed_worker_loses_no_agent_and_repeats_none(orchestra: Orchestra) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy", "jen")
    puppets.task("roy", files={"backend/roy.txt": "roy\n"})
    puppets.task("jen", files={"frontend/jen.txt": "jen\n"})
    await orchestra.worker.start()
    handle = await orchestra.start(shipped("standard"))
    await eventually(lambda: len(puppets.living("roy", "jen")) == 2, "roy beside jen")
    for stage in (BACKEND, FRONTEND):
        await orchestra.until_shown(stage, lambda shown: shown.starts == 1)

    orchestra.worker.kill()
    killed = time.monotonic()
    puppets.release("roy", "jen")
    await eventually(lambda: puppets.ends("roy") == puppets.ends("jen") == 1, "both notices")
    await orchestra.worker.start()
    ready = max(time.monotonic(), killed + READY_SECONDS)
    went_on = await eventually(lambda: puppets.starts("backend") > 0, "the build of roy's work")
    report = await handle.result()

    log.info("Work continued %.1f s after the worker was killed", went_on - killed)
    assert went_on - ready < GOES_ON_SECONDS
    assert report.state is RequirementState.DELIVERED
    assert set(Counter(sign.name for sign in puppets.signs("start")).values()) == {1}
    assert {s.starts for s in (await orchestra.view()).stages if s.state == "completed"} == {1}
    assert orchestra.project.text("main", "backend/roy.txt") == "roy"
    assert orchestra.project.text("main", "frontend/jen.txt") == "jen"
    assert orchestra.project.git("rev-parse", "main") == report.commit
    _assert_told_once(await orchestra.events())


def _assert_told_once(events: Sequence[Mapping[str, Any]]) -> None:
    """Every event once, and of every attempt one start."""
    assert len({event["eventId"] for event in events}) == len(events)
    told = Counter((e["eventType"], e.get("stage"), e.get("attempt")) for e in events)
    repeatable = ("build.started", "build.passed", "group.completed")
    assert {
        what for what, count in told.items() if count > 1 and what[0] not in repeatable
    } == set()
