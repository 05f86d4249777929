"""A worker reduced to agent runs: `small_worker.py HOME LIMIT RUN_ID…` attaches to them all."""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

from adapters.locks import home_lock
from adapters.runs.host import HostRuns
from adapters.runs.resources import RunResources
from adapters.runs.slots import SlotLimit
from pipeline.agents_file import AgentsFile, CommandAgent
from tests.fixtures_runs import PORTS, Order, attach

AGENT = "echo $$ >> pids; until test -e go; do sleep 0.02; done; echo done"


def order(run_id: str) -> Order:
    number, _, stage, attempt = run_id.split("/")
    hour = timedelta(hours=1)
    return Order(run_id, number, stage, "roy", int(attempt), 60, hour, hour, "", "")


async def main(home: Path, limit: int, run_ids: list[str]) -> None:
    agents = {"roy": CommandAgent(("sh", "-c", AGENT))}
    file = AgentsFile("agents.toml", home, agents, {}, 1.0)
    with home_lock(home):
        resources = RunResources(home, PORTS)
        host = HostRuns(home, lambda: file, SlotLimit(home, limit), os.environ, resources)
        sys.stdout.write("attached\n")
        sys.stdout.flush()
        for ended in asyncio.as_completed([attach(host, order(i)) for i in run_ids]):
            result = await ended
            sys.stdout.write(f"{result.end} {result.exit_code} {result.starts} {result.output}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
