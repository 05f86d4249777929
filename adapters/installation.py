"""Which installation this is: kept in the SDLC database, verified against the Temporal namespace.

The database's only row holds the installation's id and the namespace that it is bound to, by the
namespace's own uuid: a development server keeps that with its data, and no two clusters share one.
The first contact binds. A process that reaches another namespace, or a database with another id,
takes nothing and says so; an intended move is made with `starter.py bind`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import RowMapping, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.sdlc.database import Database, wrong_database
from adapters.sdlc.tables import InstallationRow, RequirementRow, is_open
from adapters.temporal.client import reaching_temporal
from adapters.waiting import within
from pipeline.errors import DependencyUnavailable, RefusedInput, WrongInstallation
from pipeline.installation import Installation, installation_of_sasha

log = logging.getLogger(__name__)

PROVE_SECONDS = 2.0
"""Between two checks of a worker. Clients reconnect silently, so the identity is checked at
intervals; in between, the names of its queues keep a worker from foreign tasks."""

_ASK_SECONDS = 4.0
_NAMING_SECONDS = 2.0
_NAMED = 3


@dataclass(frozen=True)
class Namespace:
    """A Temporal namespace: only its own uuid, `id`, tells it apart from all others."""

    id: str
    name: str
    address: str


@dataclass(frozen=True)
class Binding:
    """The row: which installation the database belongs to, and which namespace it is bound to."""

    installation: Installation
    namespace: Namespace
    bound_at: datetime


class Identity:
    """One installation, as a process has verified it; verifies it again on request."""

    def __init__(
        self,
        client: Client,
        database: Database,
        installation: Installation,
        binding: Binding | None = None,
    ) -> None:
        """Use connections that the caller closes.

        `binding` is the row as last read, and counts while the database is down.
        """
        self.client = client
        self.installation = installation
        self._database = database
        self._binding = binding

    async def prove(self) -> None:
        """Check that database and namespace are those of the installation.

        Raises: WrongInstallation; DependencyUnavailable if one of them cannot be asked.
        """
        await self._prove_database()
        await self._prove_namespace()

    async def watch_database(self) -> None:
        """Check the database at intervals, forever. Raises: WrongInstallation."""
        await _repeatedly(self._prove_database)

    async def watch_namespace(self) -> None:
        """Check the namespace likewise, also while the database is down: often both are."""
        await _repeatedly(self._prove_namespace)

    async def _prove_database(self) -> None:
        binding = await self._database.read(binding_of)
        if binding is None or binding.installation != self.installation:
            found = binding.installation.id if binding else ""
            raise wrong_database(self._database.address, found, self.installation.id)
        self._binding = binding

    async def _prove_namespace(self) -> None:
        if self._binding:
            await _check_namespace(self.client, self._database, self._binding)


async def _repeatedly(prove: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while True:
        await asyncio.sleep(PROVE_SECONDS)
        try:
            await within(_ASK_SECONDS, prove())
        except WrongInstallation:
            raise
        except (DependencyUnavailable, TimeoutError) as error:
            # Others report that it is down. It may come back as another installation.
            log.debug("Not proved: %s", error)


async def establish(client: Client, database: Database) -> Identity:
    """The verified identity of the installation, made and bound at first contact.

    Raises: WrongInstallation, DependencyUnavailable.
    """
    binding = await proved(client, database)
    if binding is None:
        namespace = await namespace_of(client)
        binding = await database.write(lambda connection: _bound(connection, namespace))
        await _check_namespace(client, database, binding)  # another process may have been faster
    return Identity(client, database, binding.installation, binding)


async def proved(client: Client, database: Database) -> Binding | None:
    """The row, verified but never written; None before the first contact.

    Raises: WrongInstallation, DependencyUnavailable.
    """
    binding = await database.read(binding_of)
    if binding:
        await _check_namespace(client, database, binding)
    return binding


async def bind(client: Client, database: Database, *, force: bool) -> Binding:
    """Bind the installation to the namespace that answers, after its data was moved or lost.

    Raises: RefusedInput while requirements are open, unless forced; DependencyUnavailable.
    """
    namespace = await namespace_of(client)
    return await database.write(lambda connection: _rebound(connection, namespace, force=force))


async def namespace_of(client: Client) -> Namespace:
    """The namespace that answers. Raises: DependencyUnavailable, also if there is none."""
    address = client.service_client.config.target_host
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        with reaching_temporal(client):
            answer = await client.workflow_service.describe_namespace(request)
    except RPCError as error:
        remedy = f"Its namespace {client.namespace} cannot be described: {error.message}"
        if error.status is RPCStatusCode.NOT_FOUND:
            remedy = (
                f"There is no namespace {client.namespace}: create it or set TEMPORAL_NAMESPACE."
            )
        raise DependencyUnavailable("Temporal", address, remedy) from error
    return Namespace(answer.namespace_info.id, client.namespace, address)


async def binding_of(connection: AsyncConnection) -> Binding | None:
    """The row; None before the first contact."""
    row = (await connection.execute(select(InstallationRow.__table__))).mappings().one_or_none()
    return _binding(row) if row else None


async def _bound(connection: AsyncConnection, namespace: Namespace) -> Binding:
    """Write the row, unless another process was faster: then its row counts."""
    now = datetime.now(UTC)
    fields = {"row": 1, "id": str(uuid4()), "created_at": now, **_columns(namespace, now)}
    await connection.execute(insert(InstallationRow).values(fields).on_conflict_do_nothing())
    binding = await binding_of(connection)
    assert binding
    return binding


async def _rebound(connection: AsyncConnection, namespace: Namespace, *, force: bool) -> Binding:
    binding = await _bound(connection, namespace)
    if binding.namespace.id == namespace.id:
        return binding
    numbers = select(RequirementRow.number).where(is_open())
    found = (await connection.execute(numbers.order_by(RequirementRow.number))).scalars().all()
    if found and not force:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise RefusedInput(
            f"Open requirements: {', '.join(found[:_NAMED])}{more}. Their workflows are in"
            f" {_tell(binding.namespace)}, and Sasha will close as FAILED what the new namespace"
            " does not know. End them there first, or say --force."
        )
    change = update(InstallationRow).values(_columns(namespace, datetime.now(UTC)))
    await connection.execute(change)
    bound = await binding_of(connection)
    assert bound
    return bound


def _columns(namespace: Namespace, at: datetime) -> dict[str, object]:
    return {
        "namespace_id": namespace.id,
        "namespace": namespace.name,
        "temporal_address": namespace.address,
        "bound_at": at,
    }


def _binding(row: RowMapping) -> Binding:
    namespace = Namespace(row["namespace_id"], row["namespace"], row["temporal_address"])
    return Binding(Installation(row["id"]), namespace, row["bound_at"])


async def _check_namespace(client: Client, database: Database, binding: Binding) -> None:
    namespace = await namespace_of(client)
    if namespace.id == binding.namespace.id:
        return
    others = ""
    with suppress(RPCError, TimeoutError):
        if users := await within(_NAMING_SECONDS, _users_of(client)):
            others = f" (used by {users})"
    raise WrongInstallation(
        "Temporal",
        f"Temporal at {namespace.address} belongs to another installation: its"
        f" namespace {namespace.name} is {namespace.id}{others}. Installation"
        f" {binding.installation.short} (SDLC database {database.address}) is bound to"
        f" {_tell(binding.namespace)} since {binding.bound_at:%Y-%m-%d %H:%M} UTC. Nothing was"
        " taken or started. Set TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE to the right one. If its"
        " data was lost or moved on purpose: python starter.py bind",
    )


def _tell(namespace: Namespace) -> str:
    return f"namespace {namespace.name} ({namespace.id}) at {namespace.address}"


async def _users_of(client: Client) -> str:
    """Which installations have workers there, as far as that can be found out."""
    with suppress(RPCError, TimeoutError):
        return await within(_NAMING_SECONDS, _listed_users(client))
    return ""


async def _listed_users(client: Client) -> str:
    query = "WorkflowType = 'SashaWorkflow' AND ExecutionStatus = 'Running'"
    listed = [installation_of_sasha(each.id) async for each in client.list_workflows(query)]
    return ", ".join(f"installation {short}" for short in sorted(set(listed)))
