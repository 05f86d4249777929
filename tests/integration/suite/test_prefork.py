"""A program of `tests.prefork` is what the interpreter would have started."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.eventually import PATIENCE_SECONDS
from tests.prefork import Program

SAYS = """
import os, signal, sys
print(sys.argv[1:], os.getcwd(), sorted(os.environ), os.getsid(0) == os.getpid(), __name__)
print(sorted(map(int, os.listdir("/proc/self/fd")))[:3], sys.path[0], sys.stdin.read())
print(signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGINT), file=sys.stderr)
"""
ENDS = {
    "by itself": "",
    "with a code": "raise SystemExit(7)",
    "with a message": "raise SystemExit('no')",
    "with an error": "1 / 0",
    "by a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "by an interrupt": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "behind its threads": "import threading; threading.Thread(target=print).start()",
}


@pytest.fixture
def starts(tmp_path: Path) -> Callable[[str], tuple[Program, subprocess.Popen[str]]]:
    environment = {"A": "1", "B": "ü", "LC_ALL": "C.UTF-8"}

    def start(program: str) -> tuple[Program, subprocess.Popen[str]]:
        path = tmp_path / "program.py"
        path.write_text(program)
        argv = [str(path), "x", "y z"]
        return Program(argv, environment, tmp_path), subprocess.Popen(
            [sys.executable, *argv],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


Starts = Callable[[str], tuple[Program, subprocess.Popen[str]]]


def test_program_finds_what_the_interpreter_would_give_it(starts: Starts) -> None:
    ours, real = starts(SAYS)
    with ours, real:
        said, expected = ours.communicate(PATIENCE_SECONDS), real.communicate()
    assert said == expected


@pytest.mark.parametrize("program", ENDS.values(), ids=ENDS)
def test_program_ends_as_under_the_interpreter(starts: Starts, program: str) -> None:
    ours, real = starts(program)
    with ours, real:
        (out, err), (real_out, real_err) = ours.communicate(PATIENCE_SECONDS), real.communicate()
    assert ours.returncode == real.returncode
    assert out == real_out
    assert err.splitlines()[-1:] == real_err.splitlines()[-1:]


def test_program_is_stopped_by_its_pid(starts: Starts) -> None:
    ours, real = starts("import signal; print('up', flush=True); signal.pause()")
    with ours, real:
        assert ours.stdout
        assert ours.stdout.readline() == "up\n"
        assert ours.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            ours.wait(0.01)
        os.kill(ours.pid, signal.SIGKILL)
        assert ours.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        real.kill()
