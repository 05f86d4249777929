"""`starter.py` and `worker.py` as processes that start without their two seconds of imports.

A process that has imported all that they import forks itself once for each program: a real process
with a session, descriptors, a working directory and an environment of its own. What `starter.py up`
starts comes from the interpreter as always; test_prefork.py holds both ways against each other.
"""

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Self, TextIO, cast

ROOT = Path(__file__).resolve().parent.parent
_LONGEST_ORDER = 1 << 17


class Program:
    """A started program, with what our tests use of `subprocess.Popen`."""

    def __init__(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        directory: Path,
        log: IO[bytes] | None = None,
    ) -> None:
        """Start it; what it prints goes to the log, else to `stdout` and `stderr`."""
        self.args = argv
        self.returncode: int | None = None
        self._said: tuple[str, str] | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        self._ended, at_end = os.pipe()
        theirs = [os.open(os.devnull, os.O_RDONLY)]
        if log:
            theirs += [os.dup(log.fileno()), os.dup(log.fileno())]
        else:
            out, to_out = os.pipe()
            err, to_err = os.pipe()
            theirs += [to_out, to_err]
            self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
        theirs.append(at_end)
        order = json.dumps([argv, dict(environment), str(directory)]).encode()
        assert len(order) < _LONGEST_ORDER
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            socket.send_fds(_forker(), [order], [its.fileno(), *theirs])
            for each in (its.fileno(), *theirs):
                os.close(each)
            its.detach()
            self.pid = int(ours.recv(32))

    def poll(self) -> int | None:
        """The exit code, or minus the signal's number, once it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises: subprocess.TimeoutExpired."""
        if self.returncode is None:
            end = select.poll()  # the test process may have more files than `select` takes
            end.register(self._ended, select.POLLIN)
            if not end.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            status = os.read(self._ended, 32)
            os.close(self._ended)
            assert status, "the forking process has ended before its program"
            self.returncode = os.waitstatus_to_exitcode(int(status))
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it prints to its end; asked again, the same. Raises: subprocess.TimeoutExpired."""
        if self._said:
            return self._said
        said = ["", ""]

        def read(which: int, stream: IO[str]) -> None:
            said[which] = stream.read()

        assert self.stdout
        assert self.stderr
        readers = [
            threading.Thread(target=read, args=each, daemon=True)
            for each in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self._close()
        self._said = said[0], said[1]
        return self._said

    def send_signal(self, number: int) -> None:
        """Unless it is known to have ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended; we are told in a moment
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close()
        if kind:  # a test that has failed waits for nothing
            self.kill()
        self.wait()

    def _close(self) -> None:
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()


@cache
def _forker() -> socket.socket:
    """Whom this process asks for programs; it ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in (ours, its):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _LONGEST_ORDER)
    with its:
        forker = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "prefork.py"), str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end() -> None:
        ours.close()
        forker.wait()

    atexit.register(end)
    return ours


# --- the forking process --------------------------------------------------------------------------


def _import_everything() -> None:
    import cli

    for module in pkgutil.walk_packages(cli.__path__, "cli."):
        importlib.import_module(module.name)
    importlib.import_module("worker")
    assert threading.active_count() == 1, "what has threads cannot be forked"


def _serve(orders: socket.socket) -> list[str]:
    """Fork for each order; returns the argv in the child, and never in the parent."""
    awake, notifier = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(notifier, warn_on_full_buffer=False)
    watchers: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([orders.fileno(), awake], [], [])
        if awake in ready:
            os.read(awake, 4096)
            _report_ended(watchers)
        if orders.fileno() in ready:
            order, descriptors, _, _ = socket.recv_fds(orders, _LONGEST_ORDER, 5)
            if not order:
                os._exit(0)
            argv, environment, directory = json.loads(order)
            answer, stdin, stdout, stderr, at_end = descriptors
            child = os.fork()
            if not child:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.setsid()
                for number, each in enumerate((stdin, stdout, stderr)):
                    os.dup2(each, number)
                # Where the streams of this process led to a file, they know it, and would seek.
                sys.stdin, sys.stdout = _stream(0, "r"), _stream(1, "w")
                sys.stderr = _stream(2, "w", errors="backslashreplace", buffering=1)
                os.closerange(3, max(*descriptors, orders.fileno(), notifier) + 1)
                orders.detach()
                os.chdir(directory)
                os.environ.clear()
                os.environ.update(environment)
                return list(argv)
            watchers[child] = at_end
            os.write(answer, str(child).encode())
            for each in (answer, stdin, stdout, stderr):
                os.close(each)


def _stream(number: int, mode: str, errors: str = "strict", buffering: int = -1) -> TextIO:
    return cast(TextIO, open(number, mode, buffering, "utf-8", errors, closefd=False))


def _report_ended(watchers: dict[int, int]) -> None:
    while watchers:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        at_end = watchers.pop(child)
        with suppress(BrokenPipeError):
            os.write(at_end, str(status).encode())
        os.close(at_end)


def _main() -> None:
    sys.path[0] = str(ROOT)
    _import_everything()
    sys.argv = _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _main()
