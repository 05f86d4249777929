"""The doctor's looks at the workers: what this host's says of itself, and every host that is known.

A host is known if it is this one, or if an open requirement is on it.
"""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from temporalio.client import Client

from adapters.health_probe import WORKER_FILE
from cli.checks import Finding, Kind, Look
from cli.connections import temporal_client
from cli.dependency_checks import pollers
from cli.installation import installation_of
from cli.records import records
from pipeline.errors import DependencyUnavailable
from pipeline.installation import Installation, Queues
from pipeline.model import RequirementState
from settings import Settings

_ASK_SECONDS = 3.0
_OPEN = tuple(state for state in RequirementState if not state.is_final)


def worker_looks(settings: Settings) -> tuple[Look, ...]:
    """What the worker says of itself, and who serves each host."""
    worker_file = str(settings.home / WORKER_FILE)
    return (
        Look("Health", Kind.DEPENDENCY, worker_file, lambda: _health(settings.home)),
        Look("Hosts", Kind.DEPENDENCY, settings.host, lambda: _hosts(settings)),
    )


async def _health(home: Path) -> Finding:
    try:
        worker = json.loads((home / WORKER_FILE).read_bytes())
        address = worker["health"]
    except FileNotFoundError:
        return Finding(advice="No worker lives in this state directory. Start one: worker.py")
    if not address:
        return Finding(worker["version"], "says nothing: AGOG_HEALTH_PORT is 0")
    try:
        said = await asyncio.to_thread(_asked, f"{address}/readyz")
    except OSError as error:
        return Finding(advice=f"Its worker, process {worker['pid']}, does not answer: {error}")
    problems = [each["problem"] for each in said["dependencies"] if each["problem"]]
    slots = f"{said['slots']['used']} of {said['slots']['limit']} slots used"
    return Finding(worker["version"], slots, _not_ready(problems), said)


def _not_ready(problems: list[str]) -> str:
    return f"The worker is not ready: {' '.join(problems)}" if problems else ""


def _asked(address: str) -> Mapping[str, Any]:
    """What it says, ready or not. Raises: OSError if it says nothing."""
    try:
        with urllib.request.urlopen(address, timeout=_ASK_SECONDS) as answer:
            said = answer.read()
    except urllib.error.HTTPError as refusal:
        said = refusal.read()
    document: Mapping[str, Any] = json.loads(said)
    return document


async def _hosts(settings: Settings) -> Finding:
    client = await temporal_client(settings)
    waiting = await _waiting_hosts(settings)
    installation = await installation_of(settings) or Installation("")
    hosts = sorted({settings.host, *waiting})
    queues = installation.queues
    served = await asyncio.gather(*(_is_served(client, queues, host) for host in hosts))
    silent = [host for host, is_served in zip(hosts, served, strict=True) if not is_served]
    lost = [f"{host} ({', '.join(waiting[host][:3])} …)" for host in silent if host in waiting]
    return Finding(
        detail=f"{len(hosts) - len(silent)} served" + _without_worker(silent),
        advice=f"No worker on {', '.join(lost)}: what stands there waits." if lost else "",
        facts={"hosts": dict(zip(hosts, served, strict=True))},
    )


def _without_worker(hosts: list[str]) -> str:
    return f"; without a worker: {', '.join(hosts)}" if hosts else ""


async def _waiting_hosts(settings: Settings) -> Mapping[str, list[str]]:
    """The open requirements of each host; none while the database is down: that shows elsewhere."""
    found: dict[str, list[str]] = {}
    try:
        async with records(settings) as reader:
            opened = await reader.requirements(states=_OPEN)
    except DependencyUnavailable:
        return found
    for each in opened:
        if each.host:
            found.setdefault(each.host, []).append(each.number)
    return found


async def _is_served(client: Client, queues: Queues, host: str) -> bool:
    needed = (queues.agents(host), queues.host(host), queues.tools(host))
    return all([await pollers(client, queue) for queue in needed])
