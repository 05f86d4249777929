"""A group whose commands are imported when they are asked for: `plan` needs no database driver."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


@dataclass(frozen=True)
class LazyCommand:
    """Where a command stands; `EXAMPLES` of its module is shown under its help, by its name."""

    module: str
    function: str

    def load(self, name: str) -> TyperCommand:
        """Import it."""
        module = import_module(self.module)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, epilog=module.EXAMPLES[name])(getattr(module, self.function))
        command = get_command(single)
        if not isinstance(command, TyperCommand):
            raise TypeError(f"{name} is no single command")
        return command


def lazy_group(commands: Mapping[str, LazyCommand]) -> type[TyperGroup]:
    """A group of these, listed in their order."""

    class Group(TyperGroup):
        def list_commands(self, ctx: object) -> list[str]:
            return list(commands)

        def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | None:
            return commands[cmd_name].load(cmd_name) if cmd_name in commands else None

    return Group
