"""A host whose agents are pre-empted: real processes, the command line, and what they show."""

from collections.abc import Sequence
from pathlib import Path

from tests.e2e.conftest import Cli, Said, plan_of
from tests.eventually import eventually, eventually_async
from tests.orchestra import Orchestra
from tests.suspended_runs import state


class Emergency:
    """Starts P0s by the command line beside an orchestra, and looks at its processes."""

    def __init__(
        self,
        orchestra: Orchestra,
        directory: Path,
        stages: Sequence[tuple[str, str]] = (("Research", "cynthia"),),
    ) -> None:
        self.orchestra = orchestra
        self.number = f"{orchestra.number}-P0"
        self.cli = Cli(orchestra.environment, directory)
        self._plan = directory / "urgent.toml"
        self._plan.write_text("[bounds]\nreds = 1\n".join(_split(plan_of(*stages))))

    def begin(self, *options: str, number: str = "") -> Said:
        """`start … --priority P0`, and `--preempt` if it is among the options."""
        urgent = ("start", number or self.number, "--title", "It burns", "--priority", "P0")
        said = self.cli(*urgent, "--pipeline", str(self._plan), *options)
        assert said.code == 0, said.err
        return said

    def run(self, *arguments: str) -> Said:
        """A command that must succeed."""
        said = self.cli(*arguments)
        assert said.code == 0, said.err
        return said

    def pids(self, *names: str) -> list[int]:
        """Agents of that name that live."""
        return [sign.pid for sign in self.orchestra.puppets.living(*names)]

    async def until_living(self, *names: str) -> list[int]:
        """Wait until each of them runs; their processes."""
        await eventually(lambda: len(self.pids(*names)) == len(names), f"{names} live")
        return self.pids(*names)

    async def until_suspended(self, *pids: int) -> None:
        await eventually(lambda: all(state(pid) == "T" for pid in pids), f"{pids} are suspended")

    async def until_moving(self, *pids: int) -> None:
        await eventually(lambda: all(map(is_moving, pids)), f"{pids} move")

    async def until_held(self, number: str) -> None:
        """Wait until the rows say that a P0 holds it."""

        async def is_held() -> bool:
            return bool((await self.orchestra.view(number)).holds)

        await eventually_async(is_held, f"{number} is held")


def is_moving(pid: int) -> bool:
    """Whether it lives and is not stopped, also while it waits for a disk."""
    return state(pid) not in ("T", "Z", "")


def _split(plan: str) -> tuple[str, str]:
    """The name of the plan, and what follows it."""
    name, rest = plan.split("\n", 1)
    return f"{name}\n", rest
