"""Settings: the only reader of the environment.

Order: environment, `.env` beside this file, the running stack's `stack.json`, the guide's defaults.
"""

import json
import os
import shlex
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

HERE = Path(__file__).resolve().parent
DEFAULT_HOME = HERE / ".agog"
PROMPTS = HERE / "prompts"
"""Templates of what agents are told."""
STACK_FILE = "stack.json"


def process_environment() -> dict[str, str]:
    """The environment of this process, for those who start others."""
    return dict(os.environ)


class StackSource(PydanticBaseSettingsSource):
    """Addresses of the stack that `starter.py up` keeps running under `AGOG_HOME`."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Not used: the file is read at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The file's `settings`, or nothing where no stack runs."""
        home = Path(self.current_state.get("AGOG_HOME") or DEFAULT_HOME).expanduser()
        try:
            document = json.loads((home / STACK_FILE).read_text())
        except FileNotFoundError:
            return {}
        return dict(document["settings"]) if _is_running(document) else {}


def _is_running(stack: dict[str, Any]) -> bool:
    """Whether the process that keeps the stack lives: a killed one cannot remove its file."""
    try:
        after_boot = psutil.Process(stack["pid"]).create_time() - psutil.boot_time()
    except psutil.NoSuchProcess:
        return False
    return bool(abs(after_boot - stack["create_time"]) < 1)


_SMALL_SHARE = 20
"""Of a small disk: so small a part of it free is little."""


class Settings(BaseSettings):
    """Everything that may differ between two installations."""

    # By alias alone: a field called `home` would read HOME otherwise.
    model_config = SettingsConfigDict(env_file=HERE / ".env", extra="ignore", env_ignore_empty=True)

    enable_parallel_execution: bool = Field(
        True, alias="ENABLE_PARALLEL_EXECUTION", description="false: one stage after another"
    )
    max_parallel_stages: int = Field(
        4, ge=1, alias="MAX_PARALLEL_STAGES", description="agents at once on this host"
    )
    nats_url: str = Field("nats://localhost:4223", alias="NATS_URL", description="NATS server")
    nats_user: str | None = Field(None, alias="NATS_USER", description="NATS user")
    nats_password: SecretStr | None = Field(
        None, alias="NATS_PASSWORD", description="NATS password"
    )
    database_url: SecretStr = Field(
        SecretStr("postgresql+psycopg://agog@localhost:5432/agog"),
        alias="DATABASE_URL",
        description="SDLC database, SQLAlchemy form",
    )
    project_root: Path | None = Field(
        None, alias="PROJECT_ROOT", description="the git repository that agents work on"
    )
    allowed_git_filters: str = Field(
        "",
        alias="AGOG_GIT_FILTERS",
        description="git filters that may run, by name, such as lfs; commas between them",
    )
    temporal_address: str | None = Field(
        None, alias="TEMPORAL_ADDRESS", description="Temporal frontend, host:port"
    )
    temporal_web_ui: str | None = Field(
        None, alias="AGOG_WEB_UI", description="address of the Temporal Web UI, for links"
    )
    home: Path = Field(DEFAULT_HOME, alias="AGOG_HOME", description="state directory")
    host: str = Field(
        default_factory=socket.gethostname,
        alias="AGOG_HOST",
        description="name of this host, the same after every restart",
    )
    served_agents: str = Field(
        "",
        alias="AGOG_SERVED_AGENTS",
        description="agents whose work an agent host takes, with commas; default: NATS_USER",
    )
    worker_build_id: str = Field(
        "",
        alias="AGOG_WORKER_BUILD_ID",
        description="build of the worker: running requirements stay on theirs (docs/upgrading.md)",
    )
    host_requirements: int = Field(
        50, ge=1, alias="AGOG_HOST_REQUIREMENTS", description="RUNNING requirements of this host"
    )
    shared_repository: str = Field(
        "",
        alias="AGOG_SHARED_REPOSITORY",
        description="git repository that every host reaches: the work is pushed there after each"
        " merge, so that another host can continue it",
    )
    host_lost_after_minutes: float | None = Field(
        None,
        # It is told every second: less would take a busy moment for the end of a host.
        ge=0.05,
        alias="AGOG_HOST_LOST_AFTER",
        description="minutes of silence after which a host is lost and others continue its"
        " requirements; the same on every host; unset: they wait for it",
    )
    agents_file: Path = Field(
        HERE / "agents.toml", alias="AGOG_AGENTS_FILE", description="which agent runs how"
    )
    pipeline: str = Field(
        "standard",
        alias="AGOG_PIPELINE",
        description="the usual pipeline: a name, or the path of a .toml file",
    )
    heartbeat_seconds: float = Field(
        3.0, gt=0, alias="AGOG_HEARTBEAT_SECONDS", description="silence that means a lost worker"
    )
    retry_minutes: float = Field(
        10.0,
        gt=0,
        alias="AGOG_RETRY_MINUTES",
        description="failing in a row after which a human is asked",
    )
    day_budget_usd: float | None = Field(
        None,
        gt=0,
        alias="AGOG_DAY_BUDGET_USD",
        description="dollars of all agents in a day (UTC), after which nothing starts",
    )
    day_warning_usd: float | None = Field(
        None,
        gt=0,
        alias="AGOG_DAY_WARNING_USD",
        description="dollars in a day that are warned of; default: 80 % of the day's budget",
    )
    min_free_disk_mb: int = Field(
        # Clones, logs and three databases grow: below this a run may die half-way.
        1024,
        ge=0,
        alias="AGOG_MIN_FREE_DISK_MB",
        description="MiB free below which nothing starts and finished requirements are tidied up"
        " (on a disk of less than 20 GiB: a twentieth of it, unless set)",
    )
    health_port: int = Field(
        8234,
        ge=0,
        le=65_535,
        alias="AGOG_HEALTH_PORT",
        description="where the worker says on loopback how it is; 0: nowhere",
    )
    usual_ports: bool = Field(
        True,
        alias="AGOG_USUAL_PORTS",
        description="false: the embedded servers listen on any free ports",
    )
    run_ports: str = Field(
        # Above what services usually listen on, below what Linux takes for connections: 32768.
        "20000-32759",
        alias="AGOG_RUN_PORTS",
        description="ports for the servers that agents and builds start: 20 each",
    )
    restart_nats: str = Field(
        "", alias="AGOG_RESTART_NATS", description="command line that restarts NATS"
    )
    restart_database: str = Field(
        "", alias="AGOG_RESTART_DATABASE", description="command line that restarts the database"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="AGOG_LOG_LEVEL", description="of our own log lines"
    )

    @field_validator("home", "agents_file")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @field_validator("restart_nats", "restart_database")
    @classmethod
    def _splittable(cls, line: str) -> str:
        shlex.split(line)
        return line

    @property
    def restart_nats_argv(self) -> tuple[str, ...]:
        """The command that restarts NATS; empty if there is none."""
        return tuple(shlex.split(self.restart_nats))

    @property
    def restart_database_argv(self) -> tuple[str, ...]:
        """The command that restarts the database; empty if there is none."""
        return tuple(shlex.split(self.restart_database))

    @property
    def agents_served(self) -> tuple[str, ...]:
        """Names of the agents whose work this agent host takes: those of its login, unless said."""
        names = self.served_agents or self.nats_user or ""
        return tuple(filter(None, (name.strip() for name in names.split(","))))

    @property
    def git_filters(self) -> tuple[str, ...]:
        """Names of the filters that git may run when it writes or takes files."""
        return tuple(filter(None, (name.strip() for name in self.allowed_git_filters.split(","))))

    @property
    def heartbeat(self) -> timedelta:
        """Heartbeat time-out of a stage's activity."""
        return timedelta(seconds=self.heartbeat_seconds)

    @property
    def retry_bound(self) -> timedelta:
        """How long an activity may keep failing."""
        return timedelta(minutes=self.retry_minutes)

    @property
    def host_lost_after(self) -> timedelta | None:
        """Silence after which a host is lost; None: never."""
        minutes = self.host_lost_after_minutes
        return None if minutes is None else timedelta(minutes=minutes)

    @property
    def min_free_disk_bytes(self) -> int:
        """Free bytes of the state directory's disk below which room must be made."""
        chosen = self.min_free_disk_mb * 1024**2
        if "min_free_disk_mb" in self.model_fields_set:
            return chosen
        existing = next(path for path in (self.home, *self.home.parents) if path.exists())
        total: int = psutil.disk_usage(str(existing)).total
        return min(chosen, total // _SMALL_SHARE)

    @property
    def children_environment(self) -> dict[str, str]:
        """The whole environment, for adapters that let named variables through to agents."""
        return process_environment()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the stack's file behind the environment."""
        return init_settings, env_settings, dotenv_settings, StackSource(settings_cls)


def environment_file() -> Path:
    """The `.env` that is read."""
    return Path(str(Settings.model_config["env_file"]))


class EnvironmentSettings(Settings):
    """What the environment and `.env` alone say: `model_fields_set` tells what they name."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave the running stack's file out."""
        return init_settings, env_settings, dotenv_settings


class BadSettings(ValueError):
    """The environment says something that a setting cannot be."""


def load_settings() -> Settings:
    """The settings of this environment. Raises: BadSettings naming each bad one."""
    try:
        return Settings()
    except ValidationError as refusal:
        raise BadSettings(f"Settings: {problems_of(refusal)}.") from refusal


def problems_of(refusal: ValidationError) -> str:
    """Each bad field and what is wrong with it; never its value, which may be a secret or long."""
    problems = refusal.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, problem["loc"]))[:80], problem["msg"])))
        for problem in problems
    )
