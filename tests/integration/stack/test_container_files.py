import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import nats
import pytest
from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from adapters.local_stack import Child, ChildSpec, LocalStack
from adapters.local_stack.server import binary, choose_ports
from adapters.temporal.client import SEARCH_ATTRIBUTES
from tests.stack_usage import until

CONTAINERS = Path(__file__).resolve().parents[3] / "containers"


async def test_namespace_and_search_attributes_are_made_once(tmp_path: Path) -> None:
    only_temporal = LocalStack(tmp_path, nats_url="nats://10.0.0.1", database_url="x://d")
    async with only_temporal as addresses:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "TEMPORAL_ADDRESS": addresses.temporal_address,
            "TEMPORAL_NAMESPACE": "containers",
        }
        for _ in range(2):
            run_script("temporal-namespace.sh", environment)
        temporal = await Client.connect(addresses.temporal_address, namespace="containers")
        known = await temporal.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace="containers")
        )
    assert set(SEARCH_ATTRIBUTES) <= set(known.custom_attributes)


def run_script(name: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ("sh", str(CONTAINERS / name)), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_nats_takes_its_user_from_the_environment_and_says_when_it_is_healthy(
    tmp_path: Path,
) -> None:
    ports = choose_ports({"nats": 4223, "health": 8222})
    text = (CONTAINERS / "nats.conf").read_text()
    for container, here in {
        "0.0.0.0:4223": f"127.0.0.1:{ports['nats']}",
        "127.0.0.1:8222": f"127.0.0.1:{ports['health']}",
        "/data": str(tmp_path / "data"),
    }.items():
        assert container in text
        text = text.replace(container, here)
    configuration = tmp_path / "nats.conf"
    configuration.write_text(text)
    argv = (binary("NATS", "nats-server"), "--config", str(configuration))
    server = Child(ChildSpec("nats", argv, {"NATS_USER": "agog", "NATS_PASSWORD": "p1"}), tmp_path)
    server.start()
    try:
        await until(lambda: "Server is ready" in server.log.read_text())
        url = f"nats://127.0.0.1:{ports['nats']}"
        client = await nats.connect(url, user="agog", password="p1", allow_reconnect=False)
        await client.jetstream().account_info()
        await client.close()
        stranger = NatsClient()
        with pytest.raises(NatsError, match="Authorization"):
            await stranger.connect(url, user="agog", password="other", allow_reconnect=False)
        await stranger.close()
        assert is_healthy(ports["health"])
    finally:
        await server.stop()


def is_healthy(port: int) -> bool:
    with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
        return bool(answer.status == 200)
