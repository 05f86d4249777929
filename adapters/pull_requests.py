"""Pull requests by a command of the agents file: made once, whatever is killed when.

What became of it is written down before and after the command runs. So a repeat takes the recorded
answer; or it asks the service by `find`; or, where neither knows, it asks a human.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from adapters.builds.processes import BuildProcesses
from adapters.files import make_private_directory, read_tail, write_atomically
from adapters.locks import Locks, path_key
from adapters.runs.kinds import PASSED_ON
from pipeline.agents_file import CurrentAgents
from pipeline.delivery_settings import DeliverySettings, filled
from pipeline.errors import ProjectRefused
from pipeline.model import PullRequestOrder

PLACE = "deliveries"
"""Folder of the state directory: what was told of each requirement, and what came of it."""
_QUOTED = 2000
"""Bytes of a command's own words that are told."""
_RECORD, _BODY, _OUTPUT, _LOG = "pull-request.json", "body.md", "output", "log"


@dataclass(frozen=True)
class _Record:
    """How far it came: `link` once it is there; `asked` is the try that asked a human."""

    branch: str
    link: str = ""
    is_over: bool = False
    asked: int = 0


class PullRequestCommands:
    """Implements `pipeline.ports.PullRequests` for the project at `root`."""

    def __init__(
        self, agents: CurrentAgents, home: Path, root: Path, environment: Mapping[str, str]
    ) -> None:
        home = home.absolute().resolve()
        self._agents = agents
        self._home = home
        self._root = root
        self._environment = environment
        self._processes = BuildProcesses(home)
        self._locks = Locks(home / "locks")

    async def open(self, order: PullRequestOrder) -> str:
        """Make it unless it is there; what the command printed last.

        Raises: ProjectRefused in the command's own words, or if nobody knows whether it was made.
        """
        settings = self._agents().delivery
        place = await asyncio.to_thread(make_private_directory, self._home / PLACE / order.number)
        async with self._locks.hold(path_key(place)):
            await self._processes.end(place)
            job = _Job(settings, order, place, self._root, self._variables(settings, order, place))
            record = await asyncio.to_thread(_read, place, order.branch)
            if record and record.is_over:
                return record.link
            if settings.find:
                link = await job.run(self._processes, settings.find, "looked for")
            else:
                link = ""
                if record:
                    await job.refuse_unknown(record)
            if not link:
                await asyncio.to_thread(_write, place, _Record(order.branch))
                link = await self._make(job)
            await asyncio.to_thread(_write, place, _Record(order.branch, link, is_over=True))
            return link

    async def _make(self, job: "_Job") -> str:
        try:
            return await job.run(self._processes, job.settings.command, "made")
        except _Failed:
            # It has said no: there is nothing that could be there twice.
            await asyncio.to_thread((job.place / _RECORD).unlink)
            raise

    def _variables(
        self, settings: DeliverySettings, order: PullRequestOrder, place: Path
    ) -> Mapping[str, str]:
        names = (*PASSED_ON, *settings.environment)
        passed = {name: self._environment[name] for name in names if name in self._environment}
        values = _values(order, place)
        return {**passed, **{f"AGOG_{name.upper()}": value for name, value in values.items()}}


class _Failed(ProjectRefused):
    """The command ended with an exit code of its own that is not 0."""


@dataclass(frozen=True)
class _Job:
    """The commands for one pull request."""

    settings: DeliverySettings
    order: PullRequestOrder
    place: Path
    root: Path
    variables: Mapping[str, str]

    async def run(self, processes: BuildProcesses, argv: tuple[str, ...], what: str) -> str:
        """Run it to its end; the last line that it printed. Raises: ProjectRefused."""
        command = filled(argv, _values(self.order, self.place))
        log, printed = self.place / _LOG, self.place / _OUTPUT
        await asyncio.to_thread(self._begin, log, printed)
        seconds = self.settings.timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                code = await processes.run(
                    self.place, command, self.root, self.variables, log, printed
                )
        except TimeoutError:
            raise self._refusal(what, f"{command[0]} has not ended within {seconds:g} s") from None
        except OSError as error:
            reason = f"{command[0]} cannot be run: {error.strerror}"
            raise self._refusal(what, reason, is_known=True) from error
        said = (await asyncio.to_thread(read_tail, printed, _QUOTED)).strip()
        if code:
            raise self._refusal(what, f"{command[0]} ended with exit code {code}", is_known=True)
        return said.splitlines()[-1].strip() if said else ""

    def _begin(self, log: Path, printed: Path) -> None:
        (self.place / _BODY).write_text(self.order.body, encoding="utf-8")
        for path in (log, printed):
            path.write_bytes(b"")

    def _refusal(self, what: str, why: str, *, is_known: bool = False) -> ProjectRefused:
        words = "\n".join(
            filter(
                None, (read_tail(self.place / name, _QUOTED).strip() for name in (_OUTPUT, _LOG))
            )
        )
        told = f":\n{words[-_QUOTED:]}\n" if words else ". "
        error = _Failed if is_known else ProjectRefused
        return error(
            f"{self._pushed} The pull request was not {what}: {why}{told}"
            "Correct [delivery] in the agents file if need be, then retry."
        )

    @property
    def _pushed(self) -> str:
        return (
            f"The verified work is the branch {self.order.branch}, pushed to {self.order.remote}."
        )

    async def refuse_unknown(self, record: _Record) -> None:
        """Ask a human whether it is there, once; a later try is the answer that it is not."""
        if record.asked and record.asked < self.order.attempt:
            return
        await asyncio.to_thread(_write, self.place, replace(record, asked=self.order.attempt))
        raise ProjectRefused(
            f"{self._pushed} {self.settings.command[0]} was cut off, and nobody knows whether it"
            " made the pull request; without `find` in [delivery] it cannot be looked for. If there"
            ' is none, retry: it is made. If there is one, set mode = "branch" in [delivery], then'
            " retry."
        )


def _values(order: PullRequestOrder, place: Path) -> Mapping[str, str]:
    return {
        "title": order.title,
        "body_file": str(place / _BODY),
        "branch": order.branch,
        "target": order.target,
        "number": order.number,
        "remote": order.remote,
    }


def _read(place: Path, branch: str) -> _Record | None:
    """What an earlier call for that branch has noted."""
    try:
        record = _Record(**json.loads((place / _RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    return record if record.branch == branch else None


def _write(place: Path, record: _Record) -> None:
    write_atomically(place / _RECORD, json.dumps(asdict(record)))
