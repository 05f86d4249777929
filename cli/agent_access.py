"""`agent-access`: the accounts of a NATS server that lets agent hosts in, and to nothing else."""

from typing import Annotated

import typer

from cli import output
from pipeline.agent_access import password_variable, server_accounts
from pipeline.errors import RefusedInput
from pipeline.team import AGENT_NAME, is_agent_name

EXAMPLES = {
    "agent-access": """
Examples:

  python starter.py agent-access roy jen >accounts.conf
"""
}


def agent_access(
    names: Annotated[list[str], typer.Argument(metavar="AGENT…", help="Agents of kind nats.")],
) -> None:
    """Print the NATS accounts of agents on other machines.

    Each may take its own work and publish its own deliverables, and nothing else.
    """
    for name in names:
        if not is_agent_name(name):
            raise RefusedInput(f"{name[:80]!r} is no agent's name: it {AGENT_NAME}.")
    if len(set(names)) < len(names):
        raise RefusedInput("An agent is named twice: name each once.")
    output.write(server_accounts(names).rstrip("\n"))
    variables = ", ".join(map(password_variable, names))
    output.say(
        "Include this in the server's configuration in the place of `authorization`, and set"
        f" NATS_USER, NATS_PASSWORD, {variables} in the server's environment."
    )
