"""NATS with JetStream on disk, for one user."""

import json
from collections.abc import Mapping
from pathlib import Path

from nats.aio.client import Client as NatsClient
from nats.errors import Error as NatsError

from adapters.files import PRIVATE_FILE, make_private_directory, write_atomically
from adapters.local_stack.child import ChildSpec
from adapters.local_stack.server import LOOPBACK, binary, kept_password, server_environment
from adapters.local_stack.state import NATS_PASSWORD, NATS_URL, NATS_USER
from adapters.waiting import cleaned

_USER = "agog"
_PROBE_SECONDS = 2

_CONFIGURATION = """\
listen: "{host}:{port}"
server_name: "agog"
jetstream {{
  store_dir: "{store}"
  # Acknowledged events are rows of the database until then: seconds, not the default minutes.
  sync_interval: "2s"
}}
authorization {{ user: {user}, password: {password} }}
"""


class NatsServer:
    """The embedded event server."""

    name = "nats"
    title = "NATS"
    preferred_ports: Mapping[str, int] = {"nats": 4223}

    def __init__(self, home: Path, user: str | None = None, password: str | None = None) -> None:
        """Keep its streams in `<home>/nats`; makes up the login that is not given."""
        self._directory = make_private_directory(home / self.name)
        self._user = user or _USER
        self._password = password or kept_password(self._directory / "password")

    def prepare(self, ports: Mapping[str, int]) -> ChildSpec:
        """Write the configuration: any user can read a password on the command line."""
        configuration = self._directory / "nats.conf"
        text = _CONFIGURATION.format(
            host=LOOPBACK,
            port=ports["nats"],
            store=self._directory,
            user=json.dumps(self._user),
            password=json.dumps(self._password),
        )
        write_atomically(configuration, text, mode=PRIVATE_FILE)
        argv = (binary(self.title, "nats-server"), "--config", str(configuration))
        return ChildSpec(self.name, argv, server_environment(self._directory))

    async def flaw(self, ports: Mapping[str, int], pid: int) -> str | None:
        """Sign in and ask for JetStream; the password proves that it is our server."""
        client = NatsClient()
        try:
            await client.connect(
                self._url(ports),
                user=self._user,
                password=self._password,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # also of the first connection; endless by default
                reconnect_time_wait=0,
                connect_timeout=_PROBE_SECONDS,
                error_cb=_unheard,
            )
            await client.jetstream(timeout=_PROBE_SECONDS).account_info()
        except (OSError, NatsError) as error:
            return f"no answer: {error!r}"
        finally:
            await cleaned(client.close())
        return None

    def settings(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Address and sign-in."""
        return {NATS_URL: self._url(ports), NATS_USER: self._user, NATS_PASSWORD: self._password}

    @staticmethod
    def _url(ports: Mapping[str, int]) -> str:
        return f"nats://{LOOPBACK}:{ports['nats']}"


async def _unheard(error: Exception) -> None:
    """Ignore the error: `flaw` returns it, and the client would also log it."""
