"""A worker reduced to agent runs: `small_worker.py HOME LIMIT RUN_ID…` attaches to them all."""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

from adapters.runs.home_lock import HomeLock
from adapters.runs.host import HostRuns
from adapters.runs.slots import Slots
from pipeline.agents_file import AgentsFile, CommandAgent
from pipeline.model import RunOrder

AGENT = "echo $$ >> pids; until test -e go; do sleep 0.02; done; echo done"


def order(run_id: str) -> RunOrder:
    number, _, stage, attempt = run_id.split("/")
    hour = timedelta(hours=1)
    return RunOrder(run_id, number, stage, "roy", int(attempt), 60, hour, hour, 2, 60, "", "")


async def main(home: Path, limit: int, run_ids: list[str]) -> None:
    agents = {"roy": CommandAgent(("sh", "-c", AGENT))}
    file = AgentsFile("agents.toml", home, agents, {}, 1.0)
    with HomeLock(home):
        host = HostRuns(home, file, Slots(home, limit), os.environ)
        sys.stdout.write("attached\n")
        sys.stdout.flush()
        for ended in asyncio.as_completed([host.attach(order(i)) for i in run_ids]):
            result = await ended
            sys.stdout.write(f"{result.end} {result.exit_code} {result.starts} {result.output}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
