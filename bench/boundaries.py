"""The boundary of a stage: from an agent's exit to the next agent's start.

Agents are real processes that work in clones of a real repository, one second each, as agents that
wait for a model: they sleep. What lies between them is ours, up to where the next program runs:
taking over and merging the work, its rows and events, Temporal's way to the next stage, its clone.
Between implementation and tests that includes both builds, whose command does nothing.
"""

import asyncio
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from adapters.sdlc.migrate import upgrade
from adapters.sdlc.store import create_store
from bench.contenders import Ours
from bench.ground import running_ground
from pipeline.team import TEAM

SECOND = 1.0
_AGENT = """#!/bin/sh
stamp() { echo "$AGOG_REQUIREMENT $1 $(date +%s%N)" >> "$LOG"; }
stamp start
cat > /dev/null
sleep {seconds}
echo "$AGOG_REQUIREMENT" > "$AGOG_REQUIREMENT-$AGOG_AGENT.txt"
cat <<END
\\`\\`\\`json
{"agent": "$AGOG_AGENT", "req_number": "$AGOG_REQUIREMENT", "status": "COMPLETE",
 "summary": "done", "critique_verdict": "APPROVED", "test_result": "PASS", "overall": "PASS"}
\\`\\`\\`
END
stamp end
"""


@dataclass(frozen=True)
class Boundaries:
    """What was measured with so many requirements side by side."""

    side_by_side: int
    milliseconds: Sequence[float]
    """Of each boundary, in no order."""

    @property
    def p50(self) -> float:
        """The median."""
        return self._percentile(50)

    @property
    def p95(self) -> float:
        """What nineteen of twenty do not exceed."""
        return self._percentile(95)

    def _percentile(self, percent: int) -> float:
        return quantiles(self.milliseconds, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True)
class Stamp:
    """An agent has started or ended."""

    number: str
    what: str
    nanoseconds: int


async def measure_boundaries(home: Path, rounds: int, crowd: int) -> tuple[Boundaries, ...]:
    """Alone, round by round, then with so many at once, on servers of its own in `home`."""
    log = home / "log"
    project = await asyncio.to_thread(_make, home)
    async with running_ground(home, agents=_agents_file(home, log), project=project) as ground:
        await asyncio.to_thread(upgrade, ground.addresses.database_url)
        store = create_store(ground.addresses.database_url)
        try:
            ours = await Ours.connect(ground.client, store)
            await ours.run(["REQ-warm"], is_working=True)
            alone = [f"REQ-alone-{n}" for n in range(1, rounds + 1)]
            for number in alone:
                await ours.run([number], is_working=True)
            together = [f"REQ-crowd-{n}" for n in range(1, crowd + 1)]
            await ours.run(together, is_working=True)
        finally:
            await store.close()
    found = boundaries(_stamps(log))
    return (
        Boundaries(1, [each for number in alone for each in found[number]]),
        Boundaries(crowd, [each for number in together for each in found[number]]),
    )


def boundaries(stamps: Sequence[Stamp]) -> Mapping[str, Sequence[float]]:
    """Milliseconds from the last exit before it to each start but the first, by requirement.

    Of a group that starts together each agent counts; one that starts while another one of its
    group still runs counts from the exit that let the group start.
    """
    found: dict[str, list[float]] = defaultdict(list)
    exits: dict[str, int] = {}
    for stamp in sorted(stamps, key=lambda each: each.nanoseconds):
        if stamp.what == "end":
            exits[stamp.number] = stamp.nanoseconds
        elif stamp.number in exits:
            found[stamp.number].append((stamp.nanoseconds - exits[stamp.number]) / 1e6)
    return found


def _make(home: Path) -> Path:
    """A repository with a few files, and the program of all agents."""
    project = home / "project"
    for side in ("backend", "frontend"):
        (project / side).mkdir(parents=True)
        for n in range(100):
            (project / side / f"module_{n}.py").write_text(f"VALUE = {n}\n")
    git = ("git", "-c", "user.name=Bench", "-c", "user.email=bench@example.invalid")
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "Begin")):
        subprocess.run((*git, *arguments), cwd=project, check=True)
    agent = home / "agent.sh"
    agent.write_text(_AGENT.replace("{seconds}", f"{SECOND}"))
    agent.chmod(0o755)
    return project


def _agents_file(home: Path, log: Path) -> str:
    command = f'["/usr/bin/env", "LOG={log}", "{home / "agent.sh"}"]'
    agents = "".join(f"[agents.{name}]\ncommand = {command}\n" for name in TEAM)
    builds = "".join(f'[builds.{side}]\ncommand = ["true"]\n' for side in ("backend", "frontend"))
    return f'[defaults]\nkind = "command"\n{agents}{builds}'


def _stamps(log: Path) -> list[Stamp]:
    rows = (line.split(" ") for line in log.read_text().splitlines())
    return [Stamp(number, what, int(at)) for number, what, at in rows]
