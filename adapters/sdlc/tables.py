"""The SDLC database: what happened to every requirement, as rows.

Strings are those of `pipeline.model`; times are aware. Migrations follow these models.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Text,
    all_,
    literal,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from adapters.sdlc.database import StorableText
from pipeline.model import RequirementState

Document = Mapping[str, object]
"""A JSON object."""

_OF_REQUIREMENT = "requirements.number"


class Base(DeclarativeBase):
    """Strings are text, times carry their zone, objects are JSONB, lists are arrays."""

    # Constraints have names, so that a later migration can drop them.
    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_name)s_key",
            "ix": "%(table_name)s_%(column_0_name)s_index",
        }
    )

    type_annotation_map = {  # noqa: RUF012 # SQLAlchemy reads it from the class
        str: StorableText,
        datetime: DateTime(timezone=True),
        Document: JSONB,
        list[str]: ARRAY(StorableText),
        list[datetime]: ARRAY(DateTime(timezone=True)),
    }


class RequirementRow(Base):
    """A requirement: its whole input and where it stands; every write locks this row first."""

    __tablename__ = "requirements"
    __table_args__ = (
        Index("requirements_running", "host", postgresql_where=text("state = 'RUNNING'")),
        Index("requirements_listed", "state", "created_at"),
        Index("requirements_by_priority", "priority"),
    )

    number: Mapped[str] = mapped_column(primary_key=True)
    number_folded: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    description: Mapped[str]
    priority: Mapped[str]
    state: Mapped[str]
    mode: Mapped[str]
    sequential: Mapped[bool]
    pre_empts: Mapped[bool] = mapped_column(server_default="false")
    pipeline: Mapped[str]
    plan: Mapped[Document]
    parent: Mapped[str | None] = mapped_column(ForeignKey(_OF_REQUIREMENT), index=True)
    assignee: Mapped[str | None]
    host: Mapped[str | None]
    base_commit: Mapped[str | None]
    target_branch: Mapped[str | None]
    head_commit: Mapped[str | None]
    delivery: Mapped[Document | None] = mapped_column(JSONB(none_as_null=True))
    workflow_run: Mapped[str | None]
    round: Mapped[int] = mapped_column(server_default="0")
    reason: Mapped[str] = mapped_column(server_default="")
    waiting_for: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


_ENDS = [str(state) for state in RequirementState if state.is_final]


def is_open(row: type[RequirementRow] = RequirementRow) -> ColumnElement[bool]:
    """Whether the requirement has not ended; `row` may be an alias."""
    return row.state != all_(literal(_ENDS, ARRAY(Text)))


class StageRow(Base):
    """A stage of a requirement: its place in the plan and its latest run.

    `queued_at` says since when it waits for a slot of its host, and `remaining_minutes` how long
    the plan continues from it: who has the longer path is served first.
    `resumed` counts how often that run was given up because of infrastructure and continued.
    """

    __tablename__ = "stages"
    __table_args__ = (
        Index("stages_queued", "number", postgresql_where=text("queued_at IS NOT NULL")),
    )

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    agent: Mapped[str]
    group: Mapped[str]
    position: Mapped[int]
    needs: Mapped[list[str]]
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(server_default="0")
    resumed: Mapped[int] = mapped_column(server_default="0")
    run_id: Mapped[str | None]
    queued_at: Mapped[datetime | None]
    remaining_minutes: Mapped[float | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(server_default="")


class PhaseRow(Base):
    """A phase change of a requirement (`stage` empty) or of one of its stages."""

    __tablename__ = "phase_history"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), index=True)
    stage: Mapped[str]
    source: Mapped[str | None]
    target: Mapped[str]
    at: Mapped[datetime]
    who: Mapped[str]
    why: Mapped[str]


class RunRow(Base):
    """One execution of one agent for one stage; `notice` is the accepted one as it came.

    The agent started on `base_commit`; `commit` holds its own changes; `remarks` name what that
    leaves out, and work that lies elsewhere in the clone. Of a program whose kind is known,
    `session` is its session's id, `resumes` how often that went on after it had been cut off,
    `ending` how it says that it ended, and `asked_again` how often it was asked once more for its
    answer. `prepared` are the builds whose `prepare` ran in its clone before it was started. While
    it runs, budgets count it with `reserved_usd`.
    """

    __tablename__ = "runs"
    __table_args__ = (
        Index("runs_by_session", "session", postgresql_where=text("session <> ''")),
        Index("runs_reserving", "number", postgresql_where=text("reserved_usd IS NOT NULL")),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), index=True)
    stage: Mapped[str]
    agent: Mapped[str]
    attempt: Mapped[int]
    state: Mapped[str]
    starts: Mapped[int] = mapped_column(server_default="0")
    resumes: Mapped[int] = mapped_column(server_default="0")
    opened_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    suspensions: Mapped[list[datetime]] = mapped_column(server_default="{}")
    closed_at: Mapped[datetime | None]
    end: Mapped[str | None]
    exit_code: Mapped[int | None]
    verdict: Mapped[str] = mapped_column(server_default="")
    notice: Mapped[Document | None] = mapped_column(JSONB(none_as_null=True))
    required_fixes: Mapped[list[str]] = mapped_column(server_default="{}")
    summary: Mapped[str] = mapped_column(server_default="")
    remarks: Mapped[list[str]] = mapped_column(server_default="{}")
    error: Mapped[str] = mapped_column(server_default="")
    base_commit: Mapped[str | None]
    commit: Mapped[str | None]
    head_commit: Mapped[str | None]
    log_reference: Mapped[str] = mapped_column(server_default="")
    host: Mapped[str | None]
    session: Mapped[str] = mapped_column(server_default="")
    ending: Mapped[str] = mapped_column(server_default="")
    asked_again: Mapped[int] = mapped_column(server_default="0")
    prepared: Mapped[list[str]] = mapped_column(server_default="{}")
    prepare_started_at: Mapped[datetime | None]
    prepare_ended_at: Mapped[datetime | None]
    reserved_usd: Mapped[float | None]


class HostRow(Base):
    """The slots of a host, as its worker has last said to those who wait for one."""

    __tablename__ = "hosts"

    host: Mapped[str] = mapped_column(primary_key=True)
    used: Mapped[int]
    slots: Mapped[int]
    configured: Mapped[int]
    why: Mapped[str]
    updated_at: Mapped[datetime]


class BeatRow(Base):
    """When a host has told last that it lives; only one whose requirements may move has a row."""

    __tablename__ = "beats"

    host: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class MoveRow(Base):
    """A requirement, or a fix, that `host` continues since its host was `lost`.

    It continues from `head_commit`. What it left on the lost host is removed there once that is
    back: then it is `cleaned_at`.
    """

    __tablename__ = "moves"
    __table_args__ = (
        Index("moves_uncleaned", "lost", postgresql_where=text("cleaned_at IS NULL")),
    )

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    lost: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    workflow_run: Mapped[str]
    head_commit: Mapped[str | None]
    at: Mapped[datetime]
    cleaned_at: Mapped[datetime | None]


class GateRow(Base):
    """A check that we made on an exact commit.

    Of a build: `tree` names the files, `clean` says whether they stood in a fresh checkout, `steps`
    what ran and how long, and `evidence` is its recorded outcome.
    """

    __tablename__ = "gates"

    gate_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), index=True)
    gate: Mapped[str]
    stage: Mapped[str]
    commit: Mapped[str]
    verdict: Mapped[str]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    log_reference: Mapped[str] = mapped_column(server_default="")
    tree: Mapped[str] = mapped_column(server_default="")
    clean: Mapped[bool | None]
    steps: Mapped[list[Document]] = mapped_column(JSONB, server_default="[]")
    evidence: Mapped[Document | None] = mapped_column(JSONB(none_as_null=True))


class FailureRow(Base):
    """A failure as a round reported it; resolved when an answer reopened its stage."""

    __tablename__ = "failures"

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str]
    kind: Mapped[str]
    gate: Mapped[str]
    owners: Mapped[list[str]]
    severity: Mapped[int]
    error: Mapped[str]
    log_reference: Mapped[str]
    commit: Mapped[str]
    created_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]


class BlockerRow(Base):
    """What a blocked requirement waits for: another requirement's number, or `human`."""

    __tablename__ = "blockers"

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    blocked_by: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    created_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]


class FixRow(Base):
    """A requirement that sends a failure back to its owner, who is the requirement's assignee.

    `root` is the requirement that is repaired, its `parent` that or the fix that did not succeed;
    `stage` is the owner's stage there, `failure` the whole failure.
    """

    __tablename__ = "fixes"

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    root: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), index=True)
    round: Mapped[int]
    depth: Mapped[int]
    stage: Mapped[str]
    gate: Mapped[str]
    failure: Mapped[Document]


class EscalationRow(Base):
    """A question to a human: what is asked, which answers are possible, and the answer given."""

    __tablename__ = "escalations"

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    escalation: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int]
    asks: Mapped[list[Document]] = mapped_column(JSONB)
    answers: Mapped[list[str]]
    created_at: Mapped[datetime]
    reminders: Mapped[int] = mapped_column(server_default="0")
    answered_at: Mapped[datetime | None]
    answer: Mapped[str] = mapped_column(server_default="")
    who: Mapped[str] = mapped_column(server_default="")
    note: Mapped[str] = mapped_column(server_default="")


class P0GateRow(Base):
    """The P0 gate: one row, locked shared by what starts work, exclusively by what changes it."""

    __tablename__ = "line"

    id: Mapped[int] = mapped_column(primary_key=True)
    gate_version: Mapped[int] = mapped_column(BigInteger)


class InstallationRow(Base):
    """The installation that this database is, and the Temporal namespace it is bound to: one row.

    `namespace_id` is the namespace's own uuid; its name and address are for people.
    """

    __tablename__ = "installation"

    row: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str]
    namespace_id: Mapped[str]
    namespace: Mapped[str]
    temporal_address: Mapped[str]
    created_at: Mapped[datetime]
    bound_at: Mapped[datetime]


class HoldRow(Base):
    """A boundary at which a requirement waits, or has waited, for others.

    `workflow_id` is the workflow to notify: the requirement's workflow, or one below it. An
    `account` that cannot work, or a `budget` without room, by its scope, holds until `until`, or
    until a human has seen to it.
    """

    __tablename__ = "holds"
    __table_args__ = (Index("holds_open", "number", postgresql_where=text("ended_at IS NULL")),)

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    boundary: Mapped[str] = mapped_column(primary_key=True)
    occurrence: Mapped[int] = mapped_column(primary_key=True)
    held_by: Mapped[list[str]]
    reason: Mapped[str]
    gate_version: Mapped[int] = mapped_column(BigInteger)
    workflow_id: Mapped[str]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    account: Mapped[str | None]
    until: Mapped[datetime | None]
    budget: Mapped[str | None]


class PauseRow(Base):
    """A human has paused a requirement by its number, or `all`; until `ended_at`, by `ended_by`."""

    __tablename__ = "pauses"
    __table_args__ = (
        Index("pauses_open", "scope", unique=True, postgresql_where=text("ended_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    scope: Mapped[str]
    kind: Mapped[str]
    since: Mapped[datetime]
    who: Mapped[str]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str] = mapped_column(server_default="")


class AccountRow(Base):
    """An account of an agent's program that cannot work now; one without a row can.

    `words` are the program's, `until` is when it is tried again: by the run `trying`, while it is
    not null. `pauses` counts the limits in a row, `number` is the requirement that met the last.
    With `needs_human` nobody tries before a human has said so.
    """

    __tablename__ = "accounts"

    account: Mapped[str] = mapped_column(primary_key=True)
    words: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    pauses: Mapped[int]
    trying: Mapped[str | None]
    tried_at: Mapped[datetime | None]
    needs_human: Mapped[bool]
    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT))


class RetryRow(Base):
    """A step that failed and is tried again; it goes as soon as the step succeeds or is given up.

    `number` is the requirement or fix that waits for it; Sasha's own steps name her workflow.
    """

    __tablename__ = "retries"

    workflow_id: Mapped[str] = mapped_column(primary_key=True)
    activity_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(index=True)
    host: Mapped[str]
    step: Mapped[str]
    since: Mapped[datetime]
    tries: Mapped[int]
    error: Mapped[str]
    last_at: Mapped[datetime]


class LeftoverRow(Base):
    """What a requirement that has ended left on its host because it could not be cleaned up.

    The host continues trying until `cleaned_at`; `reason` is the latest error.
    """

    __tablename__ = "leftovers"
    __table_args__ = (Index("leftovers_open", "host", postgresql_where=text("cleaned_at IS NULL")),)

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    workflow_run: Mapped[str]
    host: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    tries: Mapped[int] = mapped_column(server_default="1")
    tried_at: Mapped[datetime | None]
    cleaned_at: Mapped[datetime | None]


class DeliveryTurnRow(Base):
    """Where a requirement stands in the line of those that deliver to one branch.

    In line until `left_at`; it has the turn from `taken_at` on. `arrived_at` is kept by one that
    lets others go first because it is held, and null once its place is lost. `commit` is what it
    was about to deliver: a target that stands there was moved by us.
    """

    __tablename__ = "delivery_turns"
    __table_args__ = (
        Index(
            "delivery_turns_in_line",
            "repository",
            "target_branch",
            postgresql_where=text("left_at IS NULL"),
        ),
    )

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    repository: Mapped[str]
    target_branch: Mapped[str]
    arrived_at: Mapped[datetime | None]
    taken_at: Mapped[datetime | None]
    left_at: Mapped[datetime | None]
    commit: Mapped[str | None] = mapped_column(index=True)


class IncidentRow(Base):
    """Something that was wrong with the infrastructure, what was done, and how it ended.

    `place` is a host, or empty for the cluster; `requirement` is the P0 of an escalated one.
    """

    __tablename__ = "incidents"
    __table_args__ = (Index("incidents_by_time", "began_at"),)

    incident_id: Mapped[str] = mapped_column(primary_key=True)
    place: Mapped[str]
    kind: Mapped[str]
    component: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str]
    diagnosis: Mapped[str]
    actions: Mapped[list[str]]
    end: Mapped[str]
    requirement: Mapped[str]
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime]


class ExtensionRow(Base):
    """A deadline that was moved; the new `deadline` tells a second extension from a repeat."""

    __tablename__ = "extensions"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    deadline: Mapped[timedelta] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT))
    stage: Mapped[str]
    minutes: Mapped[float]
    who: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]


class NoteRow(Base):
    """A human's answer, in the order of the answers, and the stages that it set going again."""

    __tablename__ = "notes"

    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), primary_key=True)
    answer: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int]
    kind: Mapped[str]
    stages: Mapped[list[str]]
    who: Mapped[str]
    why: Mapped[str]
    at: Mapped[datetime]


_ASKED = "type IN ('account.escalation', 'budget.escalation', 'escalation.reminder')"
"""The few events that are looked for at intervals, by what they ask."""


class EventRow(Base):
    """An event, committed with the change that it tells of; null `published_at` is owed."""

    __tablename__ = "events"
    __table_args__ = (
        Index("events_of_requirement", "number", "id"),
        Index("events_owed", "number", "id", postgresql_where=text("published_at IS NULL")),
        Index("events_asked", "type", "id", postgresql_where=text(_ASKED)),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    event_id: Mapped[str] = mapped_column(unique=True)
    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT))
    type: Mapped[str]
    subject: Mapped[str]
    payload: Mapped[Document]
    created_at: Mapped[datetime]
    published_at: Mapped[datetime | None]


class CostRow(Base):
    """What a run cost, since it ended `at` that time; nothing is counted in two rows.

    `tokens` are all of them, `input_tokens` those that were read, `cached_tokens` among these. The
    program has told `usd`, or it `is_estimated` from tokens and prices; null if neither is known.
    With `is_partial` it used its model, and not all of its price is known.
    """

    __tablename__ = "costs"
    __table_args__ = (Index("costs_by_time", "at"),)

    run_id: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(ForeignKey(_OF_REQUIREMENT), index=True)
    agent: Mapped[str]
    seconds: Mapped[float]
    usd: Mapped[float | None]
    tokens: Mapped[int | None] = mapped_column(BigInteger)
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    cached_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    account: Mapped[str] = mapped_column(server_default="")
    models: Mapped[list[str]] = mapped_column(server_default="{}")
    kind: Mapped[str] = mapped_column(server_default="")
    at: Mapped[datetime]
    is_estimated: Mapped[bool] = mapped_column(server_default="false")
    is_partial: Mapped[bool] = mapped_column(server_default="false")


class BudgetRow(Base):
    """A budget in dollars: of a requirement by its number, of a day by its date, and `day` of all.

    The settings say that of all days; those of requirements stand in their plans, and have a row
    once they are warned of, asked about or raised. `usd` and `warn_usd` are null where the plan, or
    the row of all days, holds. `warned_at` and `asked_at` are null again once it is raised, by
    `who`.
    """

    __tablename__ = "budgets"

    scope: Mapped[str] = mapped_column(primary_key=True)
    usd: Mapped[float | None]
    warn_usd: Mapped[float | None]
    warned_at: Mapped[datetime | None]
    asked_at: Mapped[datetime | None]
    who: Mapped[str] = mapped_column(server_default="")
