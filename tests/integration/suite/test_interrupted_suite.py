"""A test run that is interrupted, however, leaves no process behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.fixtures_runs import is_running
from tests.leftovers import ROOT, left_by

PLUGINS = ("leftovers", "fixtures_sdlc", "fixtures_stack", "fixtures_runs")
INNER = """
import asyncio, os
from pathlib import Path
from tests.fixtures_runs import attach, until

async def test_waits(stack, postgres_server, nats_server, runs):
    here = Path(__file__).parent
    here.joinpath("port").write_text(stack.temporal_address.rpartition(":")[2])
    daemon = "(env -i PATH=$PATH setsid sh -c 'sleep 600; true' &)"
    runs.shell(f"{daemon}; echo $$ > {here}/agent; sleep 600")
    attached = asyncio.create_task(attach(runs.host(), runs.order()))
    agent = here.joinpath("agent")
    await until(lambda: agent.exists() and agent.read_text() != "")
    here.joinpath("directory").write_text(str(Path(os.environ["TMPDIR"]).parent))
    here.joinpath("pid").write_text(str(os.getpid()))
    await asyncio.sleep(600)
"""


@pytest.mark.parametrize(
    ("whom", "number"),
    [
        pytest.param("it", signal.SIGINT, marks=pytest.mark.slow),
        ("it", signal.SIGTERM),
        pytest.param("it", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("the master", signal.SIGINT, marks=pytest.mark.slow),
        ("the master", signal.SIGKILL),
        ("the xdist worker", signal.SIGKILL),
    ],
)
async def test_interrupted_run_leaves_nothing_behind(
    tmp_path: Path, whom: str, number: signal.Signals
) -> None:
    process = inner_run(tmp_path, *(() if whom == "it" else ("-n", "1")))
    try:
        await eventually(lambda: process.poll() is not None or has(tmp_path, "pid"), "it works")
        assert has(tmp_path, "pid"), tmp_path.joinpath("log").read_text()
        directory, works = tmp_path.joinpath("directory").read_text(), word(tmp_path, "pid")
        agent, before = word(tmp_path, "agent"), left_by(directory)
        assert agent in before
        assert len(before) > 5, "servers and a supervisor"
        assert word(tmp_path, "port") != 7233

        os.kill(works if whom == "the xdist worker" else process.pid, number)
        await eventually(lambda: not is_running(works), "its end")
        await eventually(lambda: not any(map(is_running, before)), "the end of all")
        await eventually(lambda: not left_by(directory), "the end of what came later")
    finally:
        process.kill()
        process.wait()


def has(directory: Path, name: str) -> bool:
    file = directory.joinpath(name)
    return file.exists() and file.read_text() != ""


def word(directory: Path, name: str) -> int:
    return int(directory.joinpath(name).read_text())


def inner_run(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    """One test of its own that waits, as its user starts it.

    A shell that put us in the background lets us, and our children, ignore Ctrl-C.
    """
    test = directory / "test_inner.py"
    test.write_text(INNER)
    plugins = [part for name in PLUGINS for part in ("-p", f"tests.{name}")]
    base = ("-c", str(ROOT / "pyproject.toml"), f"--basetemp={directory / 'base'}")
    with directory.joinpath("log").open("wb") as log:
        return subprocess.Popen(
            [
                "env",
                "--default-signal=INT",
                sys.executable,
                "-m",
                "pytest",
                *plugins,
                *base,
                *options,
                str(test),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
