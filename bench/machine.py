"""Where the figures come from: no figure means anything without its machine and versions."""

import platform
from importlib import metadata
from pathlib import Path

import nats
import psutil
import psycopg
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest

from adapters.local_stack import StackAddresses
from bench.ground import Ground

_CPU_INFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, str | int | float]:
    """Processor, memory, system, interpreter."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count() or 0,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": _system(),
        "python": platform.python_version(),
    }


def load() -> float:
    """Processes that wanted a core in the last minute: before the run, those of others."""
    return float(round(psutil.getloadavg()[0], 2))


async def describe_versions(ground: Ground) -> dict[str, str]:
    """Versions of the client library and of each server, by asking them."""
    service = ground.client.workflow_service
    return {
        "temporalio": metadata.version("temporalio"),
        "temporal_server": (await service.get_system_info(GetSystemInfoRequest())).server_version,
        "postgresql": await _postgresql(ground.addresses),
        "nats_server": await _nats(ground.addresses),
    }


def _system() -> str:
    """Kernel and its version, without what a distributor appended."""
    version = platform.release().partition("-")[0]
    return f"{platform.system()} {'.'.join(version.split('.')[:2])}"


def _cpu_model() -> str:
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


async def _postgresql(addresses: StackAddresses) -> str:
    address = addresses.database_url.replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(address) as connection:
        row = await (await connection.execute("SHOW server_version")).fetchone()
    return str(row[0]) if row else "unknown"


async def _nats(addresses: StackAddresses) -> str:
    client = await nats.connect(
        addresses.nats_url, user=addresses.nats_user, password=addresses.nats_password
    )
    try:
        version = client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"
    finally:
        await client.close()
