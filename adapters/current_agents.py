"""The agents file as it stands now: an edit is taken for what starts next, a broken one is not.

What the worker uses, and why, stands in a file of the state directory, for commands on its host.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import Lock

from adapters.agent_checks import what_is_missing, what_is_outdated
from adapters.files import PRIVATE_FILE, write_atomically
from adapters.health_probe import living_worker
from adapters.user_files import find_agents
from pipeline.agents_file import AgentsFile
from pipeline.errors import RefusedInput

RECORD = "agents-file.json"
LOOK_SECONDS = 1.0
"""Between two looks at the file while nothing starts: who has broken it is still there."""

_VERSION_LENGTH = 10
_LOOKS_AT_ONCE = 5
"""Looks at a file that is being written, before what stands there is taken."""

Stamp = tuple[int, int, int] | None

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AgentsInUse:
    """Which version of the agents file a worker uses; `problem` is why it is not the latest.

    The host lacks what is `missing`, programs and variables; `outdated` are its old programs.
    """

    path: str
    version: str
    read_at: str
    problem: str = ""
    missing: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The problem and the version in use, as a sentence; empty without a problem."""
        if not self.problem:
            return ""
        read_at = datetime.fromisoformat(self.read_at).astimezone()
        return (
            f"The agents file was edited and cannot be used: {self.problem.rstrip('.')}. The worker"
            f" uses what it read on {read_at:%Y-%m-%d at %H:%M:%S} (version {self.version}). Mend"
            " the file: it is taken at once."
        )


class CurrentAgents:
    """Gives the latest version that could be read. One per worker; may be called in any thread."""

    def __init__(self, path: Path, home: Path, environment: Mapping[str, str]) -> None:
        """Read the file. Raises: RefusedInput if that cannot be used."""
        self._path = path
        self._record = home / RECORD
        self._environment = environment
        self._lock = Lock()
        self._stamp = _stamp(path)
        self._file = find_agents(path)
        self._in_use = AgentsInUse(str(path), version_of(path), _now())

    def __call__(self) -> AgentsFile:
        """The agents file for what starts now."""
        with self._lock:
            for _ in range(_LOOKS_AT_ONCE):
                stamp = _stamp(self._path)
                if stamp == self._stamp:
                    break
                self._stamp = stamp
                self._read()
            return self._file

    @property
    def in_use(self) -> AgentsInUse:
        """Which version that is."""
        return self._in_use

    async def watch(self) -> None:
        """Look at the file, forever, and record what is used of it and what this host lacks."""
        recorded: AgentsInUse | None = None
        while True:
            agents = await asyncio.to_thread(self)
            if recorded is None or self._in_use != recorded:
                recorded = self._in_use
                await asyncio.to_thread(self._write, recorded)
                missing = what_is_missing(agents, self._environment)
                outdated = await what_is_outdated(agents, self._environment)
                for warning in (*missing, *outdated):
                    log.warning("Agents file: %s", warning)
                found = replace(recorded, missing=missing, outdated=outdated)
                await asyncio.to_thread(self._write, found)
            await asyncio.sleep(LOOK_SECONDS)

    def _read(self) -> None:
        try:
            file, version = find_agents(self._path), version_of(self._path)
            if not file.agents:  # a draft: nothing could start with it
                raise RefusedInput(f"{self._path} describes no agent.")
        except (RefusedInput, OSError) as refusal:
            used = self._in_use
            self._in_use = AgentsInUse(used.path, used.version, used.read_at, str(refusal))
            log.error("%s", self._in_use.told)
        else:
            self._file = file
            self._in_use = AgentsInUse(str(self._path), version, _now())
            log.info("The agents file was edited: version %s is used from now on", version)

    def _write(self, in_use: AgentsInUse) -> None:
        try:
            text = json.dumps(asdict(in_use), indent=2) + "\n"
            write_atomically(self._record, text, durable=False, mode=PRIVATE_FILE)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._record, error)


def version_of(path: Path) -> str:
    """A short name of what stands in a file now. Raises: OSError."""
    return sha256(path.read_bytes()).hexdigest()[:_VERSION_LENGTH]


def read_in_use(home: Path) -> AgentsInUse | None:
    """What the living worker of that state directory uses; None if there is none, or not yet."""
    if living_worker(home) is None:
        return None
    try:
        fields = json.loads((home / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    fields |= {name: tuple(fields[name]) for name in ("missing", "outdated")}
    return AgentsInUse(**fields)


def _stamp(path: Path) -> Stamp:
    """What changes with each edit of a file; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _now() -> str:
    return datetime.now(UTC).isoformat()
