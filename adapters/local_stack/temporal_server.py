"""Temporal's development server with its Web UI, on a SQLite file."""

from collections.abc import Mapping
from pathlib import Path

import psutil
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.service import ConnectConfig, RPCError, ServiceClient

from adapters.files import make_private_directory
from adapters.local_stack.child import ChildSpec
from adapters.local_stack.server import LOOPBACK, binary, server_environment
from adapters.local_stack.state import TEMPORAL_ADDRESS, WEB_UI
from adapters.temporal.client import SEARCH_ATTRIBUTES

NAMESPACE = "default"

_OPTIONS = (
    # Twice the requests per second of the default journal, and nothing acknowledged is lost.
    "--sqlite-pragma=journal_mode=wal",
    "--sqlite-pragma=synchronous=full",
    # The default of 20 polls a second would add 30 ms to every step of a workflow.
    "--dynamic-config-value=history.transferProcessorMaxPollRPS=1000",
    # One partition: priorities are kept exactly, not roughly.
    "--dynamic-config-value=matching.numTaskqueueReadPartitions=1",
    "--dynamic-config-value=matching.numTaskqueueWritePartitions=1",
    "--log-level=warn",
)


class TemporalServer:
    """The embedded Temporal."""

    name = "temporal"
    title = "Temporal"
    preferred_ports: Mapping[str, int] = {"temporal": 7233, "web_ui": 8233}

    def __init__(self, home: Path) -> None:
        """Keep its database in `<home>/temporal`."""
        self._directory = make_private_directory(home / self.name)

    def prepare(self, ports: Mapping[str, int]) -> ChildSpec:
        """Make only the command: the server makes its own database."""
        argv = (
            *(binary(self.title, "temporal"), "server", "start-dev", f"--ip={LOOPBACK}"),
            f"--port={ports['temporal']}",
            f"--ui-port={ports['web_ui']}",
            f"--db-filename={self._directory / 'temporal.db'}",
            *_OPTIONS,
            *(f"--search-attribute={name}=Keyword" for name in SEARCH_ATTRIBUTES),
        )
        return ChildSpec(self.name, argv, server_environment(self._directory))

    async def flaw(self, ports: Mapping[str, int], pid: int) -> str | None:
        """Ask the namespace for its search attributes and add the missing ones."""
        # It asks for no password: only the socket's owner tells our server from another one.
        if not _listens(pid, ports["temporal"]) or not _listens(pid, ports["web_ui"]):
            return "it does not listen yet"
        try:
            await _register_search_attributes(self._address(ports))
        except (RPCError, RuntimeError) as error:
            return f"no answer: {error}"
        return None

    def settings(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Addresses of frontend and Web UI."""
        web_ui = f"http://{LOOPBACK}:{ports['web_ui']}"
        return {TEMPORAL_ADDRESS: self._address(ports), WEB_UI: web_ui}

    @staticmethod
    def _address(ports: Mapping[str, int]) -> str:
        return f"{LOOPBACK}:{ports['temporal']}"


def _listens(pid: int, port: int) -> bool:
    try:
        connections = psutil.Process(pid).net_connections("tcp4")
    except psutil.NoSuchProcess:
        return False
    return any(
        connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        for connection in connections
    )


async def _register_search_attributes(address: str) -> None:
    """Add the missing ones: the server's own option works only for a new database."""
    service = await ServiceClient.connect(ConnectConfig(target_host=address))
    operator = service.operator_service
    known = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=NAMESPACE))
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    missing = {name: keyword for name in SEARCH_ATTRIBUTES if name not in known.custom_attributes}
    if missing:
        request = AddSearchAttributesRequest(namespace=NAMESPACE, search_attributes=missing)
        await operator.add_search_attributes(request)
