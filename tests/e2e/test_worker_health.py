"""A worker process whose NATS goes away and comes back."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.local_stack import StackAddresses
from tests.e2e.conftest import addresses_of, write_agents
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.fixtures_sdlc import NatsServer
from tests.ports import own_port
from tests.worker_process import WorkerProcess

DOWN = "NATS is down: nothing starts until it is back"


@pytest.fixture
async def worker(
    stack: StackAddresses, nats_server: NatsServer, database_url: str, tmp_path: Path
) -> AsyncIterator[WorkerProcess]:
    """A worker with a NATS and a database of its own."""
    write_agents(tmp_path / "agents.toml", {})
    environment = {
        **addresses_of(stack),
        "NATS_URL": nats_server.url,
        "NATS_USER": "agog",
        "NATS_PASSWORD": nats_server.password,
        "DATABASE_URL": database_url,
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AGOG_HOME": str(tmp_path / "home"),
        "AGOG_HOST": f"health-{own_port()}",
        "AGOG_AGENTS_FILE": str(tmp_path / "agents.toml"),
        "AGOG_HEALTH_PORT": str(own_port()),
    }
    worker = WorkerProcess(environment, tmp_path)
    yield worker
    worker.close()


def readyz(home: Path) -> tuple[int, Any]:
    address = json.loads((home / "worker.json").read_text())["health"]
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=PATIENCE_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


async def test_worker_says_that_it_is_not_ready_while_nats_is_away(
    worker: WorkerProcess, nats_server: NatsServer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    await worker.start()
    status, document = readyz(home)
    assert (status, document["slots"]) == (200, {"used": 0, "limit": 4})

    nats_server.stop()
    await eventually(lambda: readyz(home)[0] == 503, "a worker that is not ready")
    await eventually(lambda: DOWN in worker.log, "it says so")
    nats_server.start()
    await eventually(lambda: readyz(home)[0] == 200, "a worker that is ready again")

    await eventually(lambda: "is back after " in worker.log, "it says so")
    assert worker.stop() == 0
    assert not (home / "worker.json").exists()


async def test_endpoint_can_be_switched_off(worker: WorkerProcess, tmp_path: Path) -> None:
    await worker.start(AGOG_HEALTH_PORT="0")

    assert json.loads((tmp_path / "home" / "worker.json").read_text())["health"] is None
    assert "Health:" not in worker.log
