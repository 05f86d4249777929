"""Servers of `up` that hang or die: nobody has to do anything, and the run is delivered."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import until
from tests.e2e.up_stack import Up
from tests.eventually import PATIENCE_SECONDS
from tests.stack_usage import processes_naming

SETTLED_SECONDS = 20.0
"""Sasha acts ten seconds after it at the earliest; one that has just started is given time."""

KINDS = {"nats": "nats_down", "postgres": "database_down"}
"""What Sasha calls it when that server is away."""


def is_settled(server: psutil.Process) -> bool:
    return bool(time.time() - server.create_time() > SETTLED_SECONDS)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    directory = tmp_path_factory.mktemp("up")
    up = Up(directory)
    process = up.open()
    try:
        up.until_worker()
        yield up
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)
        assert processes_naming(str(directory)) == []
    finally:
        up.close()


def test_hung_servers_are_ended_by_sasha_and_the_run_goes_on(up: Up) -> None:
    before = len(up.incidents())
    up.start("REQ-HUNG")
    until(lambda: all(map(is_settled, map(up.server, KINDS))), "servers that are not just starting")
    hung = [up.server(name) for name in KINDS]
    for server in hung:
        for each in [server, *server.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # one of PostgreSQL's children that has just ended
                each.suspend()
    up.deliver("REQ-HUNG")

    def repaired() -> list[tuple[Any, ...]]:
        return [each for each in up.incidents()[before:] if each[1] == "repaired"]

    until(lambda: len(repaired()) >= len(KINDS), "incidents that were repaired")
    assert sorted(kind for kind, _, _ in repaired()) == sorted(KINDS.values())
    assert all(actions[-1].endswith("was started again by `up`.") for _, _, actions in repaired())
    assert not any(server.is_running() for server in hung)


def test_killed_temporal_is_started_again_and_the_run_goes_on(up: Up) -> None:
    up.start("REQ-TEMPORAL")
    up.server("temporal").kill()
    up.deliver("REQ-TEMPORAL")


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_killed_server_is_started_again_and_the_run_goes_on(up: Up, name: str, kind: str) -> None:
    number = f"REQ-KILLED-{name}"
    up.start(number)
    up.server(name).kill()
    up.deliver(number)
    assert {end for seen, end, _ in up.incidents() if seen == kind} <= {"passed", "repaired"}
