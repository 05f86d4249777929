"""The directory of a demonstration, and the environment that its processes are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.local_stack import StackAddresses
from demo.project import agents_file, make_project
from settings import process_environment

MINUTE_SECONDS = 0.025
"""A minute of the guide: its 375 of work side by side pass in ten seconds."""

_PASSED = ("PATH", "LANG", "LC_ALL", "TERM", "COLUMNS", "NO_COLOR", "TZ")
_DEFAULTS = {
    "ENABLE_PARALLEL_EXECUTION": "true",
    "MAX_PARALLEL_STAGES": "4",
    "AGOG_HOST_REQUIREMENTS": "50",
    "AGOG_HEARTBEAT_SECONDS": "3",
    "AGOG_LOG_LEVEL": "INFO",
}


@dataclass(frozen=True)
class DemoHouse:
    """Everything under one root."""

    root: Path

    @property
    def project(self) -> Path:
        """The git project that the agents work on."""
        return self.root / "project"

    @property
    def state(self) -> Path:
        """The state directory of stack and worker."""
        return self.root / "state"

    @property
    def agents(self) -> Path:
        """The agents file."""
        return self.root / "agents.toml"

    def furnish(self, mishaps: Sequence[str]) -> None:
        """Make project and agents file; `mishaps` are what the agents do wrong."""
        self.project.mkdir()
        make_project(self.project, self.shell)
        text = agents_file(mishaps, MINUTE_SECONDS)
        self.agents.write_text(text, encoding="utf-8")

    @property
    def shell(self) -> Mapping[str, str]:
        """What is passed on of the user's environment; no configuration of theirs is found."""
        given = process_environment()
        passed = {name: given[name] for name in _PASSED if name in given}
        return {**passed, "HOME": str(self.root)}

    @property
    def variables(self) -> Mapping[str, str]:
        """What somebody sets who wants to look at it from another terminal."""
        return {
            "AGOG_HOME": str(self.state),
            "AGOG_HOST": "demo",
            "AGOG_AGENTS_FILE": str(self.agents),
            "PROJECT_ROOT": str(self.project),
        }

    def environment(self, addresses: StackAddresses) -> Mapping[str, str]:
        """The whole environment of the worker and of the commands.

        Every setting is named, so that neither the user's shell nor a `.env` has a say.
        """
        return {
            **self.shell,
            **_DEFAULTS,
            **self.variables,
            **_addresses(addresses),
        }


def _addresses(addresses: StackAddresses) -> Mapping[str, str]:
    named = {
        "TEMPORAL_ADDRESS": addresses.temporal_address,
        "AGOG_WEB_UI": addresses.web_ui,
        "NATS_URL": addresses.nats_url,
        "NATS_USER": addresses.nats_user,
        "NATS_PASSWORD": addresses.nats_password,
        "DATABASE_URL": addresses.database_url,
    }
    return {name: value for name, value in named.items() if value}
