"""The `git` binary as a process: cancelled, whatever its children do."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from adapters.git.command import Git
from tests.eventually import eventually

CHILD = "#!/bin/sh\nsetsid sleep 60 &\necho $! > {child}\nwait\n"
"""A filter for example, which does not hear that its git has ended."""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a git that leaves a child with its output tells who that is."""
    child = tmp_path / "child"
    program = tmp_path / "git"
    program.write_text(CHILD.format(child=child))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    yield child
    end(child)


def end(child: Path) -> None:
    if child.exists() and (pid := child.read_text()):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
        child.unlink()


async def test_cancelled_git_is_not_waited_for_once_only_a_child_holds_its_output(
    tmp_path: Path, child: Path
) -> None:
    running = asyncio.create_task(Git(tmp_path).run("status"))
    await eventually(lambda: child.exists() and child.read_text() != "", "a git with a child")

    running.cancel()

    await eventually(running.done, "the end of the call")
    assert running.cancelled()


@pytest.mark.parametrize("turns", range(12))
async def test_git_may_be_cancelled_while_it_starts(
    tmp_path: Path, child: Path, turns: int
) -> None:
    running = asyncio.create_task(Git(tmp_path).run("status"))
    for _ in range(turns):
        await asyncio.sleep(0)
    time.sleep(0.02)  # noqa: ASYNC251 # another task has kept the loop: the program is ahead of us

    running.cancel()

    await eventually(running.done, "the end of the call")
    assert running.cancelled()
