"""The ground that all contenders stand on: one set of servers, and a worker process for each."""

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client

from adapters.local_stack import Child, ChildSpec, LocalStack, StackAddresses
from adapters.temporal.client import DATA_CONVERTER
from bench.shape import MINUTE_SECONDS
from pipeline.team import TEAM
from settings import HERE

SERVERS = ("temporal", "postgres", "nats")
_ABOVE_ANY_LOAD = "100000"


@dataclass(frozen=True)
class Ground:
    """Running servers, a client of theirs, and the worker processes by contender."""

    addresses: StackAddresses
    client: Client
    servers: Mapping[str, int]
    """Process ids."""
    workers: Mapping[str, Child]


@asynccontextmanager
async def running_ground(
    home: Path, profile: Path | None = None, *, agents: str = "", project: Path | None = None
) -> AsyncIterator[Ground]:
    """Start everything in a directory of its own; stop it when the block ends.

    With an agents file only our worker runs, in that project; else all agents are simulated.
    """
    file = home / "agents.toml"
    file.write_text(agents or _agents_file())
    async with LocalStack(home, usual_ports=False) as addresses:
        environment = _environment(home, file, addresses)
        if project:
            environment["PROJECT_ROOT"] = str(project)
        workers = {
            name: Child(_worker_process(name, environment, profile), home)
            for name in (("ours",) if agents else ("bare", "ours"))
        }
        try:
            for worker in workers.values():
                worker.start()
            client = await Client.connect(addresses.temporal_address, data_converter=DATA_CONVERTER)
            yield Ground(addresses, client, _server_pids(home), workers)
        finally:
            for worker in workers.values():
                await worker.stop()


def _agents_file() -> str:
    """Every agent and build is simulated and green."""
    builds = "".join(f'[builds.{side}]\nkind = "simulated"\n' for side in ("backend", "frontend"))
    agents = "".join(f"[agents.{name}]\n" for name in TEAM)
    return (
        f'[defaults]\nkind = "simulated"\n[simulation]\nminute_seconds = {MINUTE_SECONDS}\n'
        f"{agents}{builds}"
    )


def _environment(home: Path, agents: Path, addresses: StackAddresses) -> dict[str, str]:
    """The whole environment of the workers: nothing of the user's may change what is measured."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TEMPORAL_ADDRESS": addresses.temporal_address,
        "NATS_URL": addresses.nats_url,
        "NATS_USER": addresses.nats_user or "",
        "NATS_PASSWORD": addresses.nats_password or "",
        "DATABASE_URL": addresses.database_url,
        "ENABLE_PARALLEL_EXECUTION": "true",
        "MAX_PARALLEL_STAGES": _ABOVE_ANY_LOAD,
        "AGOG_HOME": str(home),
        "AGOG_HOST": "bench",
        "AGOG_HOST_REQUIREMENTS": _ABOVE_ANY_LOAD,
        "AGOG_AGENTS_FILE": str(agents),
        "AGOG_LOG_LEVEL": "INFO",
    }


def _worker_process(name: str, environment: Mapping[str, str], profile: Path | None) -> ChildSpec:
    argv = (sys.executable, "-m", "bench.worker_process", name)
    options = (str(profile.absolute() / f"{name}.prof"),) if profile else ()
    return ChildSpec(name, (*argv, *options), {**environment, "PYTHONPATH": str(HERE)})


def _server_pids(home: Path) -> dict[str, int]:
    records = {name: home / "stack" / f"{name}.json" for name in SERVERS}
    return {name: json.loads(record.read_text())["pid"] for name, record in records.items()}
