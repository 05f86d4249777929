"""Which installation the commands belong to, and `bind`, which ties it to another Temporal."""

import json
from contextlib import suppress
from typing import Annotated

import typer

from adapters.health_probe import WORKER_FILE
from adapters.installation import Binding, bind, proved
from adapters.sdlc.database import open_database
from adapters.waiting import within
from cli import output
from cli.connections import records, temporal_client
from cli.running import load_settings, run
from pipeline.errors import DependencyUnavailable
from pipeline.installation import Installation
from settings import Settings

EXAMPLES = {
    "bind": """
Examples:

  python starter.py bind

  TEMPORAL_ADDRESS=temporal.example:7233 python starter.py bind --force
"""
}

_TELL_SECONDS = 1.5
"""Leaves time to ask Sasha within one probe, even while the database hangs."""


def bind_command(
    force: Annotated[
        bool,
        typer.Option("--force", help="Even if requirements are open: their workflows are lost."),
    ] = False,
) -> None:
    """Bind this installation to the Temporal that answers.

    Use it after Temporal's data was moved or lost. Until then nothing is taken from another
    Temporal. Workers stop when they notice the change; start them again.
    """
    bound = run(_bind(load_settings(), force=force))
    output.write(
        f"Installation {bound.installation.short} is bound to namespace {bound.namespace.name}"
        f" ({bound.namespace.id}) at {bound.namespace.address}."
    )


async def _bind(settings: Settings, *, force: bool) -> Binding:
    database = open_database(settings.database_url.get_secret_value())
    try:
        return await bind(await temporal_client(settings), database, force=force)
    finally:
        await database.close()


async def proved_binding(settings: Settings) -> Binding | None:
    """The binding to the Temporal that answers; None if there is none yet.

    Raises: WrongInstallation, DependencyUnavailable.
    """
    database = open_database(settings.database_url.get_secret_value())
    try:
        return await proved(await temporal_client(settings), database)
    finally:
        await database.close()


async def installation_of(settings: Settings) -> Installation | None:
    """The installation, without Temporal; None if neither worker nor database tells it in time.

    The worker of this state directory has verified it, and names it while the database is down.
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
