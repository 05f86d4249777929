import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from adapters.builds.project_builds import ProjectBuilds
from adapters.git import GitWorkspaces
from adapters.runs.resources import RunResources
from pipeline.agents_file import AgentsFile, BuildCommand, SimulatedBuild
from pipeline.errors import AgentsFileRefused, GitFailed, TransientError
from pipeline.model import BuildRequest, BuildResult, Head, RequirementRef, RunEnd
from tests.eventually import PATIENCE_SECONDS
from tests.fixtures_runs import PORTS
from tests.fixtures_workspaces import HOUSE, NUMBER, GitProject, exists
from tests.full_disk import small_disk

OWN = ("AGOG_PORT_BASE", "AGOG_PORT_COUNT", "AGOG_DATABASE", "COMPOSE_PROJECT_NAME", "TMPDIR")
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/tmp", "SECRET": "s3cret", "TOKEN": "t0ken"}


class BuildBench:
    """Builds one command on the tip of a real project, as the activity does."""

    def __init__(self, project: GitProject, home: Path) -> None:
        self.project = project
        self.home = home
        self.workspaces = GitWorkspaces(project.root, home)
        self.occurrence = 0
        self.is_open = False

    async def checked_out(self, *, clean: bool = True) -> tuple[Head, str]:
        if not self.is_open:
            self.is_open = True
            await self.workspaces.open(NUMBER)
        await self.workspaces.merge_target(NUMBER, "main")  # what the user has committed since
        head = Head(self.project.git("rev-parse", "HEAD"), 0)
        place = await self.workspaces.checkout_build(NUMBER, "backend", head.commit, clean=clean)
        return head, place

    async def run(self, build: BuildCommand | SimulatedBuild, *, clean: bool = True) -> BuildResult:
        head, directory = await self.checked_out(clean=clean)
        self.occurrence += 1
        return await self.builds(build).run(self.request(head, clean=clean), directory)

    def builds(self, build: BuildCommand | SimulatedBuild) -> ProjectBuilds:
        agents = AgentsFile("agents.toml", Path("/"), {}, {"backend": build}, minute_seconds=0.01)
        return ProjectBuilds(lambda: agents, self.home, ENVIRONMENT, RunResources(self.home, PORTS))

    def request(self, head: Head | None, *, clean: bool = True) -> BuildRequest:
        return BuildRequest(
            ref=RequirementRef(NUMBER, "run-1"),
            build="backend",
            stage="Backend Implementation",
            owner="roy",
            head=head,
            occurrence=str(self.occurrence),
            clean=clean,
        )


@pytest.fixture
def bench(git_project: GitProject, state_home: Path) -> BuildBench:
    git_project.commit({"backend/package-lock.json": "1", "backend/app.py": "print('hi')\n"})
    return BuildBench(git_project, state_home)


def shell(script: str, **changes: object) -> BuildCommand:
    return replace(BuildCommand("backend", ("sh", "-c", script)), **changes)  # type: ignore[arg-type]


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


def size(path: str) -> int:
    return Path(path).stat().st_size


def is_alive(pid: int) -> bool:
    try:
        ended = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return psutil.Process(pid).status() not in ended
    except psutil.NoSuchProcess:
        return False


def pids(directory: Path) -> list[int]:
    return [int(file.read_text()) for file in directory.glob("*.pid") if file.read_text()]


async def test_noisy_build_that_exits_0_is_green(bench: BuildBench) -> None:
    result = await bench.run(shell("echo 'Error: error TS FAILED'; pwd; echo oops >&2"))

    assert (result.end, result.exit_code, result.reason) == (RunEnd.EXITED, 0, "")
    lines = result.output.splitlines()
    assert lines[0] == "Error: error TS FAILED"
    assert lines[1].endswith(f"clones/{NUMBER}/build-backend/backend")
    assert lines[2] == "oops"
    assert size(result.log_reference) == len(result.output)
    assert result.started_at < result.ended_at


async def test_build_that_exits_otherwise_is_red_whatever_it_says(bench: BuildBench) -> None:
    result = await bench.run(shell("echo all tests passed; exit 3"))

    assert (result.end, result.exit_code) == (RunEnd.EXITED, 3)


async def test_build_that_dies_by_a_signal_says_so(bench: BuildBench) -> None:
    result = await bench.run(shell("kill -SEGV $$"))

    assert (result.end, result.exit_code) == (RunEnd.EXITED, -11)
    assert result.reason == "It was ended by signal 11."


@pytest.mark.parametrize(
    ("build", "code", "reason"),
    [
        (BuildCommand("backend", ("no-such-program",)), 127, "no-such-program cannot be run"),
        (BuildCommand("backend", ("./app.py",)), 126, "Permission denied"),
        (BuildCommand("nowhere", ("true",)), None, "directory nowhere is not in the commit"),
    ],
)
async def test_build_that_cannot_start_says_why(
    bench: BuildBench, build: BuildCommand, code: int | None, reason: str
) -> None:
    result = await bench.run(build)

    assert (result.end, result.exit_code) == (RunEnd.NOT_STARTED, code)
    assert reason in result.reason


async def test_build_gets_only_the_variables_let_through(bench: BuildBench) -> None:
    result = await bench.run(shell("env", environment=("TOKEN", "ABSENT")))

    given = dict(line.partition("=")[::2] for line in result.output.splitlines())
    ours = {name: given[name] for name in given if name not in ("PWD", "SHLVL", "_", "OLDPWD")}
    own = {name: ours.pop(name) for name in OWN}
    assert own["COMPOSE_PROJECT_NAME"].startswith(f"agog-{NUMBER.lower()}-build-backend-1-")
    assert not exists(own["TMPDIR"])
    assert ours == {
        "PATH": ENVIRONMENT["PATH"],
        "HOME": "/tmp",
        "TOKEN": "t0ken",
        "CI": "true",
        "AGOG_REQUIREMENT": NUMBER,
        "AGOG_BUILD_DIR": str(bench.home / "clones" / NUMBER / "build-backend"),
    }


async def test_build_cannot_wait_for_an_answer(bench: BuildBench) -> None:
    result = await bench.run(shell("read answer || echo nobody there"))

    assert result.output == "nobody there\n"


async def test_output_is_cut_to_its_tail(bench: BuildBench) -> None:
    program = "for n in range(200000): print('line', n)\nprint('end', chr(0))"

    result = await bench.run(BuildCommand("backend", (sys.executable, "-c", program)))

    assert len(result.output) <= 256 * 1024
    assert result.output.startswith("line ")
    assert result.output.endswith("line 199999\nend \n")
    assert size(result.log_reference) > 2_000_000


async def test_timeout_ends_the_whole_tree(bench: BuildBench, tmp_path: Path) -> None:
    """A child that ignores SIGTERM, one in a group of its own, one in a session of its own."""
    script = f"""
        (trap '' TERM; sh -c 'echo $PPID' > {tmp_path}/a.pid; while :; do sleep 1; done) &
        timeout 600 sh -c 'echo $$ > {tmp_path}/b.pid; sleep 600' &
        setsid sh -c 'echo $$ > {tmp_path}/c.pid; sleep 600' &
        echo $$ > {tmp_path}/d.pid
        wait
    """

    result = await bench.run(shell(script, timeout=seconds(4)))  # all of them start before

    assert (result.end, result.exit_code) == (RunEnd.TIMED_OUT, None)
    assert "took longer than 0:00:04" in result.reason
    started = pids(tmp_path)
    assert len(started) == 4
    assert not [pid for pid in started if is_alive(pid)]


async def test_build_that_prints_without_end_is_ended(
    bench: BuildBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a tool does that asks again and again."""
    monkeypatch.setattr("adapters.builds.project_builds.LOG_LIMIT", 100_000)

    result = await bench.run(shell("while :; do echo 'are you sure?'; done"))

    assert (result.end, result.exit_code) == (RunEnd.TIMED_OUT, None)
    assert "printed more than" in result.reason


async def test_nothing_stays_behind_a_build_that_ended(bench: BuildBench, tmp_path: Path) -> None:
    result = await bench.run(shell(f"sleep 600 & echo $! > {tmp_path}/server.pid"))

    assert result.exit_code == 0
    assert [is_alive(pid) for pid in pids(tmp_path)] == [False]


LEAVES_A_SERVER = {
    "session": "setsid sh -c 'echo $$ > {0}; exec sleep 600' & until test -s {0}; do :; done",
    "nohup": "nohup sh -c 'echo $$ > {0}; exec sleep 600' & until test -s {0}; do :; done",
    "double fork": (
        "(setsid sh -c '(setsid sh -c \"echo \\$\\$ > {0}; exec sleep 600\" &) ; exit 0' &);"
        " until test -s {0}; do :; done"
    ),
    "no environment": (
        "env -i /usr/bin/setsid /bin/sh -c 'echo $$ > {0}; exec /bin/sleep 600' &"
        " until test -s {0}; do :; done"
    ),
    "deaf": (
        "setsid sh -c 'trap \"\" TERM HUP; echo $$ > {0}; while :; do sleep 1; done' &"
        " until test -s {0}; do :; done"
    ),
}
"""Shell scripts that leave a server behind whose number is written to a file, and exit 0."""


@pytest.mark.parametrize("step", ["prepare", "build"])
@pytest.mark.parametrize("kind", LEAVES_A_SERVER)
async def test_server_in_a_session_of_its_own_does_not_outlive_its_build(
    bench: BuildBench, tmp_path: Path, step: str, kind: str
) -> None:
    script = LEAVES_A_SERVER[kind].format(tmp_path / "server.pid")
    leaving = ("sh", "-c", script)
    build = shell(script) if step == "build" else shell("true", prepare=leaving)

    result = await bench.run(build)

    assert result.exit_code == 0
    assert [is_alive(pid) for pid in pids(tmp_path)] == [False]


async def test_cancelled_build_is_ended_first(bench: BuildBench, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/build.pid; sleep 600"
    running = asyncio.create_task(bench.run(shell(script)))
    await until(lambda: bool(pids(tmp_path)))

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert [is_alive(pid) for pid in pids(tmp_path)] == [False]


SERVER_AND_BUILD = """
    setsid sh -c 'echo $$ > {0}/server.pid; exec sleep 600' &
    echo $$ > {0}/build.pid; until test -s {0}/server.pid; do :; done; exec sleep 600
"""


def worker_that_builds(bench: BuildBench, directory: str, script: str) -> subprocess.Popen[bytes]:
    """A process that runs a build in that checkout as a worker does."""
    program = f"""
import asyncio
from pathlib import Path
from adapters.builds.processes import BuildProcesses

place = Path({directory!r})
command, given = ("sh", "-c", {script!r}), {{"PATH": {ENVIRONMENT["PATH"]!r}}}
processes = BuildProcesses(Path({str(bench.home)!r}))
asyncio.run(processes.run(place, command, place, given, Path({os.devnull!r})))
"""
    return subprocess.Popen([sys.executable, "-c", program], cwd=HOUSE)


async def supervisor_of(bench: BuildBench) -> int:
    """As its worker records it: perhaps a moment after the build has begun."""
    running = bench.home / "builds" / "running"
    await until(lambda: any(running.glob("*.json")))
    (record,) = running.glob("*.json")
    return int(json.loads(record.read_text())["supervisor"])


async def test_build_of_a_killed_worker_ends_by_itself(bench: BuildBench, tmp_path: Path) -> None:
    _, directory = await bench.checked_out()
    worker = worker_that_builds(bench, directory, SERVER_AND_BUILD.format(tmp_path))
    await until(lambda: len(pids(tmp_path)) == 2)

    worker.kill()
    worker.wait()

    await until(lambda: not [pid for pid in pids(tmp_path) if is_alive(pid)])


async def test_build_whose_worker_and_supervisor_died_is_ended_before_the_next(
    bench: BuildBench, tmp_path: Path
) -> None:
    _, directory = await bench.checked_out()
    worker = worker_that_builds(bench, directory, SERVER_AND_BUILD.format(tmp_path))
    await until(lambda: len(pids(tmp_path)) == 2)
    supervisor = await supervisor_of(bench)
    os.kill(worker.pid, signal.SIGSTOP)  # it must not end what its supervisor leaves
    os.kill(supervisor, signal.SIGKILL)
    worker.kill()
    worker.wait()
    old = pids(tmp_path)
    assert [is_alive(pid) for pid in old] == [True, True]

    # A zombie is dead: only its parent has not heard of it yet.
    states = " ".join(f"/proc/{pid}/status" for pid in old)
    result = await bench.run(shell(f"! cat {states} 2>/dev/null | grep '^State:.[^ZX]'"))

    assert result.exit_code == 0, result.output
    assert [is_alive(pid) for pid in old] == [False, False]


async def test_build_whose_supervisor_is_killed_is_no_evidence(
    bench: BuildBench, tmp_path: Path
) -> None:
    running = asyncio.create_task(bench.run(shell(SERVER_AND_BUILD.format(tmp_path))))
    await until(lambda: len(pids(tmp_path)) == 2)

    os.kill(await supervisor_of(bench), signal.SIGKILL)
    with pytest.raises(TransientError, match="was killed"):
        await running

    assert [is_alive(pid) for pid in pids(tmp_path)] == [False, False]


async def test_prepare_runs_in_a_new_kept_checkout_and_when_a_lock_file_changed(
    bench: BuildBench, tmp_path: Path
) -> None:
    count = tmp_path / "prepared"
    count.touch()
    build = shell(
        "test -d node_modules", prepare=("sh", "-c", f"mkdir -p node_modules; echo >> {count}")
    )

    async def prepared() -> int:
        assert (await bench.run(build, clean=False)).exit_code == 0
        return len(count.read_text().splitlines())

    assert await prepared() == 1
    bench.project.commit({"backend/app.py": "print('changed')\n"})
    assert await prepared() == 1
    bench.project.commit({"backend/package-lock.json": "2"})
    assert await prepared() == 2
    await bench.workspaces.release(NUMBER)
    assert await prepared() == 3


async def test_failed_prepare_is_red_and_repeated(bench: BuildBench, tmp_path: Path) -> None:
    switch = tmp_path / "works"
    build = shell("echo built", prepare=("sh", "-c", f"echo preparing; test -e {switch}"))

    failed = await bench.run(build)
    switch.touch()
    passed = await bench.run(build)

    assert failed.exit_code == 1
    assert failed.reason == "Preparing the build failed."
    assert failed.output == "preparing\n"
    assert passed.output == "preparing\nbuilt\n"


async def test_what_the_next_checkout_removes_is_prepared_again(
    bench: BuildBench, tmp_path: Path
) -> None:
    build = shell("test -e deps", prepare=("touch", "deps"))

    codes = [(await bench.run(build, clean=False)).exit_code for _ in range(2)]

    assert codes == [0, 0]


async def test_clean_build_prepares_each_time_and_sees_nothing_of_an_earlier_one(
    bench: BuildBench,
) -> None:
    """Case build-1: the file that an ignored one was made from is gone."""
    bench.project.commit({".gitignore": "_ignored/\nnode_modules/\n", "backend/spec": "1\n"})
    build = shell(
        "mkdir -p _ignored; test ! -e spec || cp spec _ignored/gen; test -e _ignored/gen",
        prepare=("sh", "-c", "test ! -e node_modules; mkdir node_modules"),
    )
    assert [(await bench.run(build, clean=c)).exit_code for c in (False, True)] == [0, 0]
    bench.project.git("rm", "--quiet", "backend/spec")
    bench.project.git("commit", "--quiet", "--message", "no spec")

    kept = await bench.run(build, clean=False)
    clean = await bench.run(build)

    assert (kept.exit_code, [step.name for step in kept.steps]) == (0, ["build"])
    assert (clean.exit_code, [step.name for step in clean.steps]) == (1, ["prepare", "build"])


async def test_link_to_what_is_not_committed_is_red_unless_the_build_makes_it(
    bench: BuildBench,
) -> None:
    """Case build-2: it is green where an ignored folder of an earlier build lies about."""
    (bench.project.root / "backend/data").symlink_to("../build/out")
    bench.project.commit({".gitignore": "build/\n", "backend/spec": "1\n"})
    make, read = "mkdir -p ../build; cp spec ../build/out", "cat data"
    assert (await bench.run(shell(make), clean=False)).exit_code == 0

    kept = await bench.run(shell(read), clean=False)
    clean = await bench.run(shell(read))
    prepared = await bench.run(shell(read, prepare=("sh", "-c", make)))

    assert [kept.exit_code, clean.exit_code, prepared.exit_code] == [0, 1, 0]


async def test_result_says_what_was_built_what_ran_and_how_long(bench: BuildBench) -> None:
    build = shell("true", prepare=("sleep", "0.2"))

    result = await bench.run(build)

    assert result.tree == bench.project.git("rev-parse", "HEAD^{tree}")
    assert [(step.name, step.argv) for step in result.steps] == [
        ("prepare", ("sleep", "0.2")),
        ("build", ("sh", "-c", "true")),
    ]
    assert 0.2 <= result.steps[0].seconds < (result.ended_at - result.started_at).total_seconds()


async def test_build_of_another_commit_is_refused(bench: BuildBench) -> None:
    _, directory = await bench.checked_out()
    newer = Head(bench.project.commit({"backend/app.py": "newer"}), 1)

    with pytest.raises(GitFailed, match="stands at"):
        await bench.builds(shell("true")).run(bench.request(newer), directory)


async def test_checkout_waits_for_the_build_that_runs_in_it(
    bench: BuildBench, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = (
        f"echo $$ > {tmp_path}/build.pid; while ! test -e {go}; do sleep 0.05; done; cat app.py"
    )
    running = asyncio.create_task(bench.run(shell(script)))
    await until(lambda: bool(pids(tmp_path)))
    newer = bench.project.commit({"backend/app.py": "newer\n"})
    await bench.workspaces.merge_target(NUMBER, "main")
    checkout = asyncio.create_task(
        bench.workspaces.checkout_build(NUMBER, "backend", newer, clean=True)
    )

    done, _ = await asyncio.wait({checkout}, timeout=0.3)
    go.touch()

    assert not done
    assert (await running).output == "print('hi')\n"
    assert exists(await checkout)


@pytest.mark.parametrize(("passes", "code"), [(True, 0), (False, 1)])
async def test_simulated_build_sleeps_its_minutes(
    bench: BuildBench, passes: bool, code: int
) -> None:
    builds = bench.builds(SimulatedBuild(minutes=20, passes=passes))

    result = await builds.run(bench.request(None), "")

    assert (result.end, result.exit_code) == (RunEnd.EXITED, code)
    assert result.ended_at - result.started_at >= seconds(20 * 0.01)


async def test_red_build_on_a_full_disk_is_no_evidence(
    git_project: GitProject, tmp_path: Path
) -> None:
    git_project.commit({"backend/app.py": "print('hi')\n"})
    with small_disk(tmp_path / "disk", 8) as disk:
        bench = BuildBench(git_project, disk.path / "home")
        build = shell(
            f"echo $$ > {tmp_path}/build.pid; until test -e {tmp_path}/go; do sleep 0.02; done;"
            " echo made > made"
        )
        running = asyncio.create_task(bench.run(build))
        await until(lambda: bool(pids(tmp_path)))
        disk.fill()
        (tmp_path / "go").touch()

        with pytest.raises(OSError, match="No space left"):
            await running

        disk.empty()
        assert (await bench.run(build)).exit_code == 0


async def test_unknown_build_is_refused(bench: BuildBench) -> None:
    request = replace(bench.request(None), build="mobile")

    with pytest.raises(AgentsFileRefused, match=r"builds\.mobile"):
        await bench.builds(shell("true")).run(request, "")
