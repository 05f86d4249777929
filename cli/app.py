"""The application: its commands, and the edge where errors become exit codes."""

import contextlib
import logging
import os
import sys
from io import TextIOWrapper

import typer

from cli import output
from cli.exits import ExitCode, exit_code_of_error
from cli.lazy import LazyCommand, lazy_group
from pipeline.errors import PipelineError

log = logging.getLogger("agog")

COMMANDS = {
    "demo": LazyCommand("cli.demonstration", "demo"),
    "up": LazyCommand("cli.stack", "up"),
    "plan": LazyCommand("cli.planning", "plan"),
    "start": LazyCommand("cli.starting", "start"),
    "status": LazyCommand("cli.showing", "status"),
    "list": LazyCommand("cli.showing", "list_requirements"),
    "watch": LazyCommand("cli.watching", "watch"),
    "logs": LazyCommand("cli.logs", "logs"),
    "events": LazyCommand("cli.events", "events"),
    "retry": LazyCommand("cli.steering", "retry"),
    "decide": LazyCommand("cli.steering", "decide"),
    "cancel": LazyCommand("cli.steering", "cancel"),
    "block": LazyCommand("cli.blocking", "block"),
    "unblock": LazyCommand("cli.blocking", "unblock"),
    "extend": LazyCommand("cli.steering", "extend"),
    "slots": LazyCommand("cli.slots", "slots"),
    "ask-sasha": LazyCommand("cli.asking", "ask_sasha"),
    "bind": LazyCommand("cli.installation", "bind_command"),
    "incidents": LazyCommand("cli.incidents", "incidents"),
    "doctor": LazyCommand("cli.doctor", "doctor"),
}

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    name="starter.py",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(epilog="Start with: python starter.py demo")
def starter() -> None:
    """Take a software requirement through a team of AI agents."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a terminal that knows few characters must not stop a command half-way
            stream.reconfigure(errors="backslashreplace")
    code = _run()
    # a reader that has gone away, like `head`, needs no more data
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    # Temporal's native threads may abort an interpreter that is being torn down
    os._exit(code)


def _run() -> int:
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.NOT_DELIVERED
    except PipelineError as error:
        for sentence in (str(error), *getattr(error, "__notes__", ())):
            output.complain(sentence)
        return exit_code_of_error(error)
    except Exception:
        log.exception("Unexpected error")
        return ExitCode.NOT_DELIVERED
    return ExitCode.DELIVERED
