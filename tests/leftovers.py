"""Whatever ends this test process, what its tests have started ends with it.

A plugin and, run as a program, its watcher: the watcher reads from a pipe whose other end the test
process alone holds, so that it learns of every kind of end, SIGKILL included. Agents outlive their
workers by design, servers have sessions and environments of their own: they are found by the
temporary directory of the test process, which stands in the environment of all that works there.
"""

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from adapters.processes import all_processes, descendants, end_processes  # noqa: E402

_watcher: subprocess.Popen[bytes] | None = None


def pytest_sessionstart(session: Any) -> None:
    """Watch this process, which may be one of pytest-xdist's."""
    global _watcher
    factory = session.config._tmp_path_factory
    directory = factory.mktemp(f"own-{secrets.token_hex(4)}", numbered=False)
    # What tests make elsewhere is made below, and every child can be told by its environment.
    os.environ["TMPDIR"] = str(directory)
    # A worker of ours that is forgotten must not be where somebody's stack will be.
    os.environ["AGOG_USUAL_PORTS"] = "false"
    command = [sys.executable, "-I", "-S", __file__, str(directory.parent), str(os.getpid())]
    _watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def pytest_unconfigure() -> None:
    """End what is left, as after every other end."""
    if _watcher and _watcher.stdin:
        _watcher.stdin.close()
        _watcher.wait()


def left_by(directory: str) -> set[int]:
    """Living processes of the test process with that temporary directory."""
    processes = all_processes()
    living = {pid: stat for pid, stat in processes.items() if stat.is_living}
    marked = {pid for pid, stat in living.items() if _is_of(pid, stat.parent, directory)}
    return marked | descendants(marked, processes)


def _is_of(pid: int, parent: int, directory: str) -> bool:
    """By environment; by where it works only if it is nobody's child, as a daemon of an agent."""
    place = os.fsencode(directory)
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        values = [variable.partition(b"=")[2] for variable in variables]
        if any(value == place or value.startswith(place + b"/") for value in values):
            return True
        works = os.fsencode(os.readlink(f"/proc/{pid}/cwd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return parent == 1 and works.startswith(place + b"/")


def _main(directory: str, watched: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    spared = {os.getpid(), watched}
    end_processes(lambda: left_by(directory) - spared)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
