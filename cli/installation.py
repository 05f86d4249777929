"""Which installation commands speak for: `bind`, the doctor's look at it, hints of strangers."""

import json
from contextlib import suppress
from typing import Annotated

import typer
from temporalio.service import RPCError

from adapters.health_probe import WORKER_FILE
from adapters.installation import Binding, bind, proved
from adapters.sdlc.database import open_database
from adapters.waiting import within
from cli import output
from cli.checks import Finding
from cli.connections import temporal_client
from cli.environment import load_settings
from cli.records import records
from cli.running import run
from pipeline.errors import DependencyUnavailable, WrongInstallation
from pipeline.installation import Installation
from settings import Settings

EXAMPLES = {
    "bind": """
Examples:

  python starter.py bind

  TEMPORAL_ADDRESS=temporal.example:7233 python starter.py bind --force
"""
}

_HINT_SECONDS = 1.5
"""Who looks at a requirement is not kept waiting for a hint."""

_TELL_SECONDS = 1.5
"""Sasha is asked afterwards, within the seconds of one look, also while the database hangs."""

_NEW = "not bound yet: the first worker, or the first start, binds it to the Temporal it reaches"


def bind_command(
    force: Annotated[
        bool,
        typer.Option("--force", help="Although requirements are open: their workflows are lost."),
    ] = False,
) -> None:
    """Bind this installation to the Temporal that answers.

    After its data was moved or lost: nobody takes anything from another one. Workers end when they
    see it; start them again against the new one.
    """
    bound = run(_bind(load_settings(), force=force))
    output.write(
        f"Installation {bound.installation.short} is bound to namespace {bound.namespace.name}"
        f" ({bound.namespace.id}) at {bound.namespace.address}."
    )


async def installation_of(settings: Settings) -> Installation | None:
    """The installation, without Temporal; None if neither worker nor database can tell in time.

    The worker of the state directory has proved it, and answers while the database is away.
    """
    file = settings.home / WORKER_FILE
    with suppress(OSError, ValueError, KeyError):
        return Installation(json.loads(file.read_bytes())["installation"])
    with suppress(DependencyUnavailable, TimeoutError):
        return await within(_TELL_SECONDS, _recorded(settings))
    return None


async def _recorded(settings: Settings) -> Installation | None:
    async with records(settings) as reader:
        return await reader.installation()


async def installation_finding(settings: Settings) -> Finding:
    """What the doctor says of it. Raises: WrongInstallation, DependencyUnavailable."""
    binding = await _proved(settings)
    if binding is None:
        return Finding(detail=_NEW, facts={"id": None})
    facts = {
        "id": binding.installation.id,
        "namespace": binding.namespace.name,
        "namespace_id": binding.namespace.id,
        "bound_at": binding.bound_at,
    }
    return Finding(
        detail=f"{binding.installation.short}, bound to namespace {binding.namespace.name}"
        f" since {binding.bound_at:%Y-%m-%d}",
        facts=facts,
    )


async def hint_of_stranger(settings: Settings) -> str:
    """Whose Temporal answers, if it is another installation's; empty also if none answers in time.

    Nothing goes on at this address then, whatever the rows say.
    """
    try:
        await within(_HINT_SECONDS, _proved(settings))
    except WrongInstallation as stranger:
        return str(stranger)
    except (DependencyUnavailable, RPCError, TimeoutError):
        pass
    return ""


async def _proved(settings: Settings) -> Binding | None:
    database = open_database(settings.database_url.get_secret_value())
    try:
        return await proved(await temporal_client(settings), database)
    finally:
        await database.close()


async def _bind(settings: Settings, *, force: bool) -> Binding:
    database = open_database(settings.database_url.get_secret_value())
    try:
        return await bind(await temporal_client(settings), database, force=force)
    finally:
        await database.close()
