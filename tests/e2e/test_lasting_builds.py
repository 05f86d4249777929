"""A build that lasts shows everywhere while it does, and a board can be left."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from cli.running import ExitCode
from pipeline.model import RequirementState
from tests.e2e.conftest import ROOT, Cli
from tests.eventually import PATIENCE_SECONDS, eventually, eventually_async
from tests.orchestra import Orchestra
from tests.orchestra_plans import SOLO

_OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Terminal:
    """A command on a terminal of its own, of 80 columns and 24 lines."""

    def __init__(self, cli: Cli, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.set_blocking(self._ours, False)
        self.shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, str(ROOT / "starter.py"), *arguments],
            env={**cli.environment, "TERM": "xterm"},
            cwd=cli.directory,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def shows(self, text: str) -> bool:
        """Whether it has printed that so far."""
        try:
            while said := os.read(self._ours, 65_536):
                self.shown += said
        except OSError:  # nothing new, or it has ended
            pass
        return text.encode() in self.shown

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        os.close(self._ours)


@contextmanager
def terminal(cli: Cli, *arguments: str) -> Iterator[Terminal]:
    opened = Terminal(cli, *arguments)
    try:
        yield opened
    finally:
        opened.close()


async def test_a_build_that_lasts_is_shown_everywhere(orchestra: Orchestra) -> None:
    cli, number = Cli(orchestra.environment, orchestra.home.parent), orchestra.number
    orchestra.puppets.hold("backend")
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)
    await eventually(lambda: orchestra.puppets.starts("backend") == 1, "the build runs")
    (build,) = (await orchestra.view()).building

    said = cli("status", number)
    assert f"{number} RUNNING build backend runs." in said.out
    assert f"on {build.commit[:10]} is under way, " in said.out
    assert cli("status", number, "--json").document["building"][0]["build"] == "backend"
    (listed,) = cli("list", "--json").document["requirements"]
    assert [each["build"] for each in listed["building"]] == ["backend"]
    assert "build backend" in cli("list").out
    with terminal(cli, "watch") as board:
        await eventually(lambda: board.shows("build backend runs."), "the board shows it")
        board.type("q")
        assert board.process.wait(PATIENCE_SECONDS) == ExitCode.INTERRUPTED
        assert board.shows("nothing was cancelled")

    async def is_told() -> bool:
        return "build.started" in [e["eventType"] for e in await orchestra.events()]

    await eventually_async(is_told, "its start is published before its end")

    orchestra.puppets.release("backend")
    assert (await handle.result()).state is RequirementState.DELIVERED
    watched = cli("watch", number)
    assert "build backend is green after " in watched.err
    told = [e["eventType"] for e in await orchestra.events()]
    assert [kind for kind in told if kind.startswith("build.")] == ["build.started", "build.passed"]
    assert cli("watch").out == ""
