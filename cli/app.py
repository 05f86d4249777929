"""The application: its commands, and the edge where errors become exit codes."""

import contextlib
import inspect
import logging
import os
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cli.running import STARTER, ExitCode, as_called, exit_code_of_error
from pipeline.errors import PipelineError

log = logging.getLogger("agog")


@dataclass(frozen=True)
class LazyCommand:
    """A function of a module that is imported on first use: `plan` needs no database driver.

    The module's `EXAMPLES` holds, by the command's name, what stands below its help.
    """

    module: str
    function: str

    def help(self) -> str:
        """The function's docstring, read from the source: the list of all commands shows each."""
        source = STARTER.parent.joinpath(*self.module.split(".")).with_suffix(".py")
        shown = rf'^def {self.function}\(.*?:\n    """(.*?)"""'
        found = re.search(shown, source.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        assert found, self.function
        return inspect.cleandoc(found[1])

    def load(self, name: str) -> TyperCommand:
        """Import the module and make its function a command of that name."""
        module = import_module(self.module)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, epilog=as_called(module.EXAMPLES[name]))(
            getattr(module, self.function)
        )
        command = get_command(single)
        if not isinstance(command, TyperCommand):
            raise TypeError(f"{name} is no single command")
        return command


COMMANDS = {
    "demo": LazyCommand("cli.demo", "demo"),
    "init": LazyCommand("cli.init", "init"),
    "rehearse": LazyCommand("cli.rehearse", "rehearse"),
    "run": LazyCommand("cli.run", "run_file"),
    "up": LazyCommand("cli.up", "up"),
    "down": LazyCommand("cli.up", "down"),
    "plan": LazyCommand("cli.plan", "plan"),
    "start": LazyCommand("cli.start", "start"),
    "status": LazyCommand("cli.status", "status"),
    "list": LazyCommand("cli.list", "list_requirements"),
    "watch": LazyCommand("cli.watch", "watch"),
    "diff": LazyCommand("cli.diff", "diff"),
    "report": LazyCommand("cli.report", "report"),
    "verify-parallel": LazyCommand("cli.verify_parallel", "verify_parallel"),
    "logs": LazyCommand("cli.logs", "logs"),
    "prompt": LazyCommand("cli.prompt", "prompt"),
    "events": LazyCommand("cli.events", "events"),
    "retry": LazyCommand("cli.steering", "retry"),
    "decide": LazyCommand("cli.steering", "decide"),
    "cancel": LazyCommand("cli.steering", "cancel"),
    "pause": LazyCommand("cli.pauses", "pause"),
    "unpause": LazyCommand("cli.pauses", "unpause"),
    "drain": LazyCommand("cli.pauses", "drain"),
    "block": LazyCommand("cli.steering", "block"),
    "unblock": LazyCommand("cli.steering", "unblock"),
    "extend": LazyCommand("cli.steering", "extend"),
    "undo": LazyCommand("cli.undo", "undo"),
    "gc": LazyCommand("cli.gc", "gc"),
    "slots": LazyCommand("cli.slots", "slots"),
    "accounts": LazyCommand("cli.accounts", "accounts"),
    "costs": LazyCommand("cli.costs", "costs"),
    "agent-access": LazyCommand("cli.agent_access", "agent_access"),
    "ask-sasha": LazyCommand("cli.ask_sasha", "ask_sasha"),
    "rollout": LazyCommand("cli.rollout", "rollout"),
    "bind": LazyCommand("cli.installation", "bind_command"),
    "incidents": LazyCommand("cli.incidents", "incidents"),
    "doctor": LazyCommand("cli.doctor.command", "doctor"),
}


class _Unloaded(TyperCommand):
    """A command that is loaded when it is called."""

    def __init__(self, name: str, command: LazyCommand) -> None:
        super().__init__(name, help=command.help())
        self._name = name
        self._command = command

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Its arguments are read by the command itself."""
        try:
            return self._command.load(self._name).make_context(*arguments, **options)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # Pydantic's own word
            raise


class _Commands(TyperGroup):
    """The commands, listed in the order of `COMMANDS`."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
        return _Unloaded(cmd_name, COMMANDS[cmd_name]) if cmd_name in COMMANDS else None


app = typer.Typer(
    cls=_Commands,
    name="starter.py",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"Agog Orchestrator {version('agog-orchestrator')}")
        raise typer.Exit


@app.callback(epilog=as_called("Start with: python starter.py demo"))
def starter(
    is_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take a software requirement through a team of AI agents."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # a terminal with a small character set must not stop a command half-way
            stream.reconfigure(errors="backslashreplace")
    code = _run()
    # a reader that has closed the pipe, like `head`, needs no more data
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    # Temporal's native threads may abort an interpreter that is shutting down
    os._exit(code)


def _run() -> int:
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.NOT_DELIVERED
    except PipelineError as error:
        output = import_module("cli.output")  # --help needs none of it
        for sentence in (str(error), *getattr(error, "__notes__", ())):
            output.complain(sentence)
        return exit_code_of_error(error)
    except Exception:
        log.exception("Unexpected error")
        return ExitCode.NOT_DELIVERED
    return ExitCode.DELIVERED
