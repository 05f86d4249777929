"""`rollout`: which builds of the worker there are, and which one new requirements start on."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from adapters.temporal.deployment import Build, builds, make_current
from cli import output
from cli.connections import temporal_client
from cli.installation import proved_binding
from cli.running import AsJson, load_settings, run
from pipeline.errors import RefusedInput
from settings import Settings

EXAMPLES = {
    "rollout": """
Examples:

  python starter.py rollout

  python starter.py rollout 2026-12-01

  python starter.py rollout --none
"""
}

_NO_BUILDS = (
    "No worker has named its build: requirements run on whichever worker is up. "
    "Set AGOG_WORKER_BUILD_ID to change that (docs/upgrading.md)."
)


def rollout(
    build_id: Annotated[
        str | None, typer.Argument(help="Build that requirements start on from now on.")
    ] = None,
    none: Annotated[
        bool, typer.Option("--none", help="Leave builds: workers without one take everything.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the workers' builds, or make one of them current.

    What runs stays on the build that it was started on.
    """
    if none and build_id is not None:
        raise RefusedInput("Give a build or --none, not both.")
    if build_id == "":
        raise RefusedInput("A build needs a name. `--none` leaves builds.")
    known = run(_rollout(load_settings(), "" if none else build_id))
    if as_json:
        output.write_json({"builds": [asdict(build) for build in known]})
    elif known:
        _show(known)
    else:
        output.write(_NO_BUILDS)


async def _rollout(settings: Settings, build_id: str | None) -> Sequence[Build]:
    binding = await proved_binding(settings)
    if binding is None:
        raise RefusedInput("No worker has been started yet: there is no build to show.")
    client, installation = await temporal_client(settings), binding.installation
    known = await builds(client, installation)
    if build_id is None or not (build_id or known):  # nothing to leave
        return known
    await make_current(client, installation, build_id)
    return await builds(client, installation)


def _show(known: Sequence[Build]) -> None:
    rows = output.table("build", "", "")
    for build in known:
        rows.add_row(
            output.plain(build.id), "current" if build.is_current else "", output.plain(build.note)
        )
    output.data().print(rows)
