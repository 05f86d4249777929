"""An agent on another machine: a program of ours sends its work over NATS and waits for it.

Its stream says what was sent and what has come back; how the agent's own program is run, with which
model and which rights, stands in the agents file of its agent host.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from adapters.agent_programs.probes import Asked
from adapters.agent_programs.program import (
    Event,
    Launch,
    ProcessEnd,
    StopStep,
    Task,
    kept,
    record,
    short,
    text_of,
)
from adapters.remote.messages import Deliverable
from pipeline.agent_programs import ProgramAgent, ProgramTraits
from pipeline.failures import last_lines
from pipeline.model import Ending, ProgramReport
from pipeline.project_proposal import Login

PROMPT_BY_SCHEMA = "prompt-by-schema.md"

_ENTRY = str(Path(__file__).parents[2] / "hosting" / "remote_run.py")
_STOP_SECONDS = 10.0
"""It has to reach the server to say so."""
_THERE = "say it in the agents file of its agent host"


class RemoteAgent:
    """The kind `nats`."""

    kind = "nats"
    takes_schema = False
    traits = ProgramTraits(
        sys.executable,
        MappingProxyType(
            {
                **dict.fromkeys(("program", "model", "arguments", "permissions"), _THERE),
                **dict.fromkeys(("max_turns", "max_budget_usd", "isolation"), _THERE),
                **dict.fromkeys(("environment", "prepare"), _THERE),
                "resume_for_fixes": "its sessions lie on its agent host",
            }
        ),
        is_remote=True,
    )
    last_events: tuple[str, ...] = ('{"type": "result"',)

    def launch(self, agent: ProgramAgent, task: Task) -> Launch:
        """The program that sends the work; started again, it goes on waiting."""
        return Launch(
            (agent.program, "-I", _ENTRY),
            stop=(StopStep("SIGTERM", "pid", _STOP_SECONDS),),
            passed_on=("AGOG_HOME", "NATS_URL", "NATS_USER", "NATS_PASSWORD"),
            files={} if task.resumes else {PROMPT_BY_SCHEMA: task.prompt_by_schema},
            session=task.session,
        )

    def copyable(self, session: str, environment: object) -> str:
        """Its sessions lie elsewhere."""
        return ""

    def stream(self) -> "RemoteStream":
        """A reader of what our program prints."""
        return RemoteStream()

    def readable(self, event: Event) -> Iterator[str]:
        """What was sent, refused and received, and what its agent has said last."""
        match event.get("type"):
            case "sent":
                yield f"» work item {event.get('item')} is sent; waits for its agent host"
            case "claimed":
                yield f"» agent host {event.get('host')} has taken it"
            case "waits" | "failed" | "unserved":
                yield f"» {short(text_of(event.get('detail')), 600)}"
            case "refused":
                said = f"{event.get('why')}: {text_of(event.get('detail'))}"
                yield f"✗ refused a deliverable: {short(said)}"
            case "stopped":
                yield "» its agent host was told to end it"
            case "result":
                made = record(event.get("deliverable"))
                yield f"» {made.get('ending')} on {made.get('host')}"
                for remark in made.get("remarks") or ():
                    yield f"» {short(text_of(remark), 600)}"
                yield from text_of(made.get("text")).splitlines()

    def login(self, ask: Asked) -> tuple[Login, str]:
        """Nothing to log in to: its agent host has the login."""
        return Login.UNKNOWN, ""


class RemoteStream:
    """Keeps the deliverable, or why there is none."""

    def __init__(self) -> None:
        self._deliverable: Deliverable | None = None
        self._detail = ""
        self._was_sent = False
        self._is_served = True

    def take(self, event: Event) -> None:
        """Read one event."""
        match event.get("type"):
            case "sent":
                self._was_sent = True
            case "failed":
                self._detail = text_of(event.get("detail"))
            case "unserved":
                self._detail = text_of(event.get("detail"))
                self._is_served = False
            case "result":
                try:
                    self._deliverable = Deliverable.model_validate(event.get("deliverable"))
                except ValidationError as error:
                    self._detail = f"its deliverable cannot be read: {error}"

    def report(self, process: ProcessEnd) -> ProgramReport:
        """What the deliverable says. Without one the work goes on elsewhere, and so does the run.

        A run that has its deliverable has no session: it is asked for nothing any more.
        """
        if self._deliverable:
            return self._deliverable.report(RemoteAgent.kind, process.account)
        if not self._is_served:
            ending, kind = Ending.UNSERVED, RemoteAgent.kind
            return ProgramReport(kind, process.account, ending, detail=self._detail)
        return ProgramReport(
            kind=RemoteAgent.kind,
            account=process.account,
            ending=Ending.HANDOVER if self._detail else Ending.CUT_OFF,
            session=process.session,
            detail=kept(self._detail or last_lines(process.errors)),
            has_worked=self._was_sent,
        )
