"""What goes over the wire between an order and an agent host, as JSON with camelCase keys."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from pipeline.model import Ending, ProgramReport, Tokens
from pipeline.remote_work import Correlation
from pipeline.team import Agent

MOST_TEXT = 256 * 1024
"""Characters of an agent's last message that travel, from its end; a message holds up to 1 MB."""
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"

_Name = Annotated[str, Field(max_length=200)]
_Count = Annotated[int, Field(ge=0, le=1 << 50)]
_Counts = tuple[_Count, _Count, _Count]


class _Message(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    def encoded(self) -> bytes:
        """As it goes over the wire."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class Files(_Message):
    """An archive that lies in pieces in a stream; `sha256` is that of the whole."""

    pieces: int = Field(ge=0, le=100_000)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class WorkItem(_Message):
    """A stage for an agent, or with another `type` a word about one that was sent before.

    It is to stop, or to extend its deadline to `deadlineSeconds` from its start.

    `directory` and `runDirectory` are where the orchestrator has clone and run directory: prompts
    name them. The archive holds the prompts, the documents and a bundle of the commit.
    """

    type: Literal["stage.started", "stop", "extend"] = Field("stage.started", alias="eventType")
    item: str = Field(pattern=_NAME)
    """Names the run in subjects: a run's id may hold what a subject must not."""
    run_id: str
    req_number: str = Field(pattern=_NAME)
    stage: str
    agent: Agent
    attempt: int
    timestamp: AwareDatetime
    deadline_seconds: float = 0.0
    grace_seconds: float = 0.0
    commit: str = ""
    position: int = 0
    directory: str = ""
    run_directory: str = ""
    files: Files | None = None

    @property
    def correlation(self) -> Correlation:
        """What a deliverable must name."""
        return Correlation(self.run_id, self.agent.name, self.req_number)


class Claim(_Message):
    """Which agent host has started an item, or the order itself, so that nobody starts it."""

    host_id: str
    host: str = ""
    timestamp: AwareDatetime

    @classmethod
    def read(cls, data: bytes) -> "Claim":
        """The claim; one that cannot be read is that of an unknown host."""
        try:
            return cls.model_validate_json(data)
        except ValidationError:
            return cls(host_id="unreadable", host="unknown", timestamp=datetime.now(UTC))


class Deliverable(_Message):
    """What a run has come to. `ending` says of a program how it ended, as our kinds tell it."""

    run_id: str = Field(max_length=600, pattern=_PRINTABLE)
    agent: str = Field(max_length=30, pattern=_PRINTABLE)
    req_number: str = Field(max_length=200, pattern=_PRINTABLE)
    item: str = ""
    timestamp: AwareDatetime | None = None
    host: str = ""
    ending: Ending = Ending.SUCCESS
    detail: str = ""
    until: AwareDatetime | None = None
    text: str = ""
    """What the agent has said last: its notice, fenced."""
    answer: Mapping[str, object] | None = None
    """Its notice, where it was given by a schema."""
    usage: Mapping[_Name, _Counts] = Field(default_factory=dict, max_length=50)
    """Tokens by model: read, written, and read from a cache."""
    cost_usd: float | None = Field(None, ge=0, le=1_000_000, allow_inf_nan=False)
    denials: tuple[str, ...] = Field((), max_length=50)
    remarks: tuple[str, ...] = ()
    """What of its work does not travel."""
    files: Files | None = None

    @property
    def correlation(self) -> Correlation:
        """What it says that it is."""
        return Correlation(self.run_id, self.agent, self.req_number)

    def report(self, kind: str, account: str) -> ProgramReport:
        """What a program of that kind tells with it."""
        usage = {name: Tokens(*counts) for name, counts in self.usage.items()}
        return ProgramReport(
            kind=kind,
            account=account,
            ending=self.ending,
            text=self.text,
            answer=self.answer,
            detail=self.detail,
            until=self.until,
            usage=usage,
            cost_usd=self.cost_usd,
            denials=self.denials,
        )
