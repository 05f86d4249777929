"""What the fakes of flow tests promise, of the adapters that they stand for, too.

Of `AgentRuns`: `runs/test_runs_contract.py`. What only one of the two does is tested elsewhere.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.client import Client

from adapters.builds.project_builds import ProjectBuilds
from adapters.care.care import Care
from adapters.git import GitWorkspaces
from adapters.readiness import Dependency, WatchedDependencies
from adapters.runs.resources import RunResources
from adapters.sdlc import database
from adapters.sdlc.store import PostgresSdlcStore, create_store
from adapters.temporal.messages import TemporalNotifier
from pipeline.agents_file import AgentsFile, BuildCommand
from pipeline.errors import DependencyUnavailable
from pipeline.model import (
    DEPENDENCIES,
    Alert,
    AlertKind,
    BuildRequest,
    BuildResult,
    Head,
    Notification,
    RunEnd,
    Waiting,
)
from pipeline.ports import Builds, HealthChecks, Notifier, Readiness, SdlcStore
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.fakes import (
    AlwaysReady,
    Breakable,
    NobodyWaits,
    RealClock,
    ScriptedBuilds,
    ScriptedCare,
)
from tests.fixtures_runs import PORTS
from tests.fixtures_workspaces import NUMBER, stage_request
from tests.ports import own_port

REAL_AND_FAKE = pytest.mark.parametrize("is_real", [True, False], ids=["real", "fake"])

# --- Builds ---------------------------------------------------------------------------------------

GREEN, RED, LASTING = "green", "red", "lasting"
ERROR = f"error TS2345: {RED} does not compile"
COMMANDS = {
    GREEN: "true",
    RED: f"echo '{ERROR}'; exit 2",
    LASTING: "touch begun; sleep 300",
}


@dataclass
class Site:
    """Builds of one commit: one that passes, one that does not, one that lasts."""

    builds: Builds
    head: Head
    workspaces: GitWorkspaces
    has_begun: Callable[[str], bool]

    async def run(self, build: str, occurrence: str = "1") -> BuildResult:
        stage = stage_request(self.head)
        owner, name = stage.stage.agent, stage.stage.name
        request = BuildRequest(stage.ref, build, name, owner, self.head, occurrence, clean=True)
        directory = await self.workspaces.checkout_build(
            NUMBER, build, self.head.commit, clean=True
        )
        return await self.builds.run(request, directory)


@pytest.fixture(params=[True, False], ids=["real", "fake"])
async def site(request: pytest.FixtureRequest, workspaces: GitWorkspaces, state_home: Path) -> Site:
    head, _ = await workspaces.open(NUMBER)
    if request.param:
        commands = {
            name: BuildCommand(".", ("sh", "-c", command)) for name, command in COMMANDS.items()
        }
        file = AgentsFile("agents.toml", state_home, {}, commands, 0.0)
        real = ProjectBuilds(
            lambda: file, state_home, {"PATH": "/usr/bin:/bin"}, RunResources(state_home, PORTS)
        )
        clones = state_home / "clones" / NUMBER

        def is_begun(_: str) -> bool:
            # No `rglob`: git removes folders of its own meanwhile.
            return any("begun" in names for _, _, names in os.walk(clones))

        return Site(real, head, workspaces, is_begun)
    scripted = ScriptedBuilds(RealClock(), {RED: (2,)})

    def has_begun(build: str) -> bool:
        return build in scripted.built()

    scripted.minutes[LASTING] = 300_000
    return Site(scripted, head, workspaces, has_begun)


@pytest.mark.parametrize(("build", "code"), [(GREEN, 0), (RED, 2)])
async def test_exit_code_of_a_build_and_its_words_are_told(
    site: Site, build: str, code: int
) -> None:
    result = await site.run(build)

    assert (result.end, result.exit_code, result.reason) == (RunEnd.EXITED, code, "")
    assert (ERROR in result.output) == (code != 0)
    assert result.started_at <= result.ended_at
    assert build in result.log_reference


async def test_build_whose_caller_is_cancelled_ends_and_is_built_again(site: Site) -> None:
    building = asyncio.create_task(site.run(LASTING))
    await eventually(lambda: site.has_begun(LASTING), "the build")
    building.cancel()

    await asyncio.wait_for(asyncio.wait({building}), PATIENCE_SECONDS)

    assert building.cancelled()
    assert (await site.run(GREEN)).exit_code == 0


async def test_builds_of_one_requirement_run_beside_each_other(site: Site) -> None:
    green, red = await asyncio.gather(site.run(GREEN), site.run(RED))

    assert (green.exit_code, red.exit_code) == (0, 2)


# --- HealthChecks ---------------------------------------------------------------------------------

DISK = Alert(AlertKind.DISK_LOW, "disk", "here", "1 MiB is free.")
MEMORY = Alert(AlertKind.HOST_OVERLOADED, "memory", "here", "It is short.")
UNSEEN = Alert(AlertKind.DISK_LOW, "disk", "unseen")


class Disk:
    """A remediator of a disk whose `acts` may help; None: nobody can look."""

    kinds = frozenset({AlertKind.DISK_LOW})
    prefix = ""
    blind = UNSEEN

    def __init__(self, found: Sequence[Alert] | None, helps_at: int) -> None:
        self.found = found
        self._helps_at = helps_at

    async def look(self) -> Sequence[Alert]:
        if self.found is None:
            raise DependencyUnavailable("SDLC database", "here", "Start it.")
        return self.found

    async def act(self, alert: Alert) -> str:
        self._helps_at -= 1
        if self._helps_at == 0:
            self.found = ()
        return "Something was removed."


def care_of(is_real: bool, *found: Alert, helps_at: int = 1) -> HealthChecks:
    """Looks after a disk and nothing else."""
    if is_real:
        return Care(Disk(found, helps_at))
    scripted = ScriptedCare()
    scripted.alerts = list(found)
    scripted.cures = {alert.kind: helps_at for alert in found}
    return scripted


@REAL_AND_FAKE
async def test_alert_is_found_until_an_act_has_helped(is_real: bool) -> None:
    care = care_of(is_real, DISK, helps_at=2)

    assert tuple(await care.look()) == (DISK,)
    assert await care.act(DISK)
    assert await care.is_over(DISK) is False
    assert await care.act(DISK)
    assert await care.is_over(DISK) is True
    assert tuple(await care.look()) == ()


@REAL_AND_FAKE
async def test_nothing_is_found_where_nothing_is_wrong(is_real: bool) -> None:
    care = care_of(is_real)

    assert tuple(await care.look()) == ()
    assert await care.is_over(DISK) is True


@REAL_AND_FAKE
async def test_part_that_nobody_can_look_at_hides_no_other_and_is_not_over(is_real: bool) -> None:
    """Another remediator finds out why; until then nobody knows."""
    blind = Disk(None, 1)
    care: HealthChecks = Care(blind, Memory()) if is_real else ScriptedCare(blind)
    if isinstance(care, ScriptedCare):
        care.alerts = [MEMORY]

    assert tuple(await care.look()) == (MEMORY,)
    assert await care.is_over(DISK) is None
    assert await care.is_over(MEMORY) is False


class Memory(Disk):
    """It is always short."""

    kinds = frozenset({AlertKind.HOST_OVERLOADED})

    def __init__(self) -> None:
        super().__init__((MEMORY,), 0)


# --- Readiness ------------------------------------------------------------------------------------


async def _answers() -> None:
    """Like a dependency that is there."""


@pytest.mark.parametrize(
    "readiness",
    [WatchedDependencies([Dependency("NATS", "here", "Start it.", _answers)]), AlwaysReady()],
    ids=["real", "fake"],
)
async def test_checkpoint_is_passed_while_everything_answers(readiness: Readiness) -> None:
    readiness.check()


# --- Notifier -------------------------------------------------------------------------------------


@REAL_AND_FAKE
async def test_nothing_is_sent_where_nobody_waits(is_real: bool) -> None:
    """Whoever ends tells those who wait, and mostly nobody does: Temporal is not asked."""
    notifier: Notifier = NobodyWaits()
    if is_real:
        notifier = TemporalNotifier(await Client.connect(f"127.0.0.1:{own_port()}", lazy=True))

    await notifier.notify(Notification((), 1))
    await notifier.pre_empt(())
    await notifier.tell_repaired(Waiting("NATS", ()))


# --- what is away ---------------------------------------------------------------------------------


@REAL_AND_FAKE
async def test_database_that_is_away_is_named_with_address_and_remedy(
    is_real: bool, sdlc_store: PostgresSdlcStore
) -> None:
    care = ScriptedCare()
    store: SdlcStore = Breakable(sdlc_store, database.NAME, care)  # type: ignore[assignment] # by name
    if is_real:
        store = create_store(f"postgresql+psycopg://nobody@127.0.0.1:{own_port()}/none")
    care.alerts = [Alert(AlertKind.DATABASE_DOWN, DEPENDENCIES[database.NAME])]

    for ask in (
        store.to_notify,
        store.numbers_with_pending_events,
        lambda: store.attempts("REQ-1"),
    ):
        with pytest.raises(DependencyUnavailable) as away:
            await ask()
        assert away.value.dependency == database.NAME
        assert "cannot be reached at " in str(away.value)


async def test_database_is_used_while_only_another_dependency_is_away(
    sdlc_store: PostgresSdlcStore,
) -> None:
    care = ScriptedCare()
    care.alerts = [Alert(AlertKind.NATS_DOWN, "nats")]
    store = Breakable(sdlc_store, database.NAME, care)

    assert await store.to_notify() == await sdlc_store.to_notify()
