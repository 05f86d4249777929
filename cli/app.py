"""The application: its commands, and the edge where errors become exit codes."""

import contextlib
import logging
import os
import sys

import typer

from cli import (
    demonstration,
    doctor,
    events,
    logs,
    output,
    planning,
    showing,
    stack,
    starting,
    steering,
    watching,
)
from cli.exits import ExitCode, exit_code_of_error
from pipeline.errors import PipelineError

log = logging.getLogger("agog")

app = typer.Typer(
    name="starter.py",
    help="Take a software requirement through a team of AI agents.",
    epilog="Start with: python starter.py demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_COMMANDS = (
    ("demo", demonstration.demo, demonstration.EXAMPLE),
    ("up", stack.up, stack.EXAMPLE),
    ("plan", planning.plan, planning.EXAMPLE),
    ("start", starting.start, starting.EXAMPLE),
    ("status", showing.status, showing.STATUS_EXAMPLE),
    ("list", showing.list_requirements, showing.LIST_EXAMPLE),
    ("watch", watching.watch, watching.EXAMPLE),
    ("logs", logs.logs, logs.EXAMPLE),
    ("events", events.events, events.EXAMPLE),
    ("retry", steering.retry, steering.RETRY_EXAMPLE),
    ("decide", steering.decide, steering.DECIDE_EXAMPLE),
    ("cancel", steering.cancel, steering.CANCEL_EXAMPLE),
    ("extend", steering.extend, steering.EXTEND_EXAMPLE),
    ("doctor", doctor.doctor, doctor.EXAMPLE),
)
for name, command, example in _COMMANDS:
    app.command(name, epilog=example)(command)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
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
