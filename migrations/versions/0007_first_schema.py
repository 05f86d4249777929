"""The SDLC database as it began.

The six revisions before it were never released, and are part of it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    _create_requirements()
    _create_stages()
    _create_phase_history()
    _create_runs()
    _create_hosts()
    _create_gates()
    _create_failures()
    _create_blockers()
    _create_fixes()
    _create_escalations()
    _create_line()
    _create_installation()
    _create_holds()
    _create_accounts()
    _create_retries()
    _create_leftovers()
    _create_delivery_turns()
    _create_incidents()
    _create_extensions()
    _create_notes()
    _create_events()
    _create_costs()
    _create_budgets()


def _create_requirements() -> None:
    op.create_table(
        "requirements",
        *_texts("number", "number_folded", "title", "description", "priority", "state", "mode"),
        sa.Column("sequential", sa.Boolean(), nullable=False),
        sa.Column("pre_empts", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("plan", JSONB(), nullable=False),
        sa.Column("parent", sa.Text()),
        sa.Column("assignee", sa.Text()),
        sa.Column("host", sa.Text()),
        sa.Column("base_commit", sa.Text()),
        sa.Column("target_branch", sa.Text()),
        sa.Column("head_commit", sa.Text()),
        sa.Column("delivery", JSONB(none_as_null=True)),
        sa.Column("workflow_run", sa.Text()),
        sa.Column("round", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("waiting_for", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["parent"], ["requirements.number"], name="requirements_parent_fkey"
        ),
        sa.PrimaryKeyConstraint("number", name="requirements_pkey"),
        sa.UniqueConstraint("number_folded", name="requirements_number_folded_key"),
    )
    op.create_index("requirements_listed", "requirements", ["state", "created_at"])
    op.create_index("requirements_by_priority", "requirements", ["priority"])
    op.create_index("requirements_parent_index", "requirements", ["parent"])
    op.create_index(
        "requirements_running",
        "requirements",
        ["host"],
        postgresql_where=sa.text("state = 'RUNNING'"),
    )


def _create_stages() -> None:
    op.create_table(
        "stages",
        *_texts("number", "stage", "agent", "group"),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("needs", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("resumed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("queued_at", sa.DateTime(timezone=True)),
        sa.Column("remaining_minutes", sa.Float()),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        _of_requirement("stages"),
        sa.PrimaryKeyConstraint("number", "stage", name="stages_pkey"),
    )
    op.create_index(
        "stages_queued", "stages", ["number"], postgresql_where=sa.text("queued_at IS NOT NULL")
    )


def _create_phase_history() -> None:
    op.create_table(
        "phase_history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        _of_requirement("phase_history"),
        sa.PrimaryKeyConstraint("id", name="phase_history_pkey"),
    )
    op.create_index("phase_history_number_index", "phase_history", ["number"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        *_texts("run_id", "number", "stage", "agent"),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("starts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("resumes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column(
            "suspensions",
            sa.ARRAY(sa.DateTime(timezone=True)),
            server_default="{}",
            nullable=False,
        ),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.Column("end", sa.Text()),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("verdict", sa.Text(), server_default="", nullable=False),
        sa.Column("notice", JSONB()),
        sa.Column("required_fixes", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("summary", sa.Text(), server_default="", nullable=False),
        sa.Column("remarks", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("base_commit", sa.Text()),
        sa.Column("commit", sa.Text()),
        sa.Column("head_commit", sa.Text()),
        sa.Column("log_reference", sa.Text(), server_default="", nullable=False),
        sa.Column("host", sa.Text()),
        sa.Column("session", sa.Text(), server_default="", nullable=False),
        sa.Column("ending", sa.Text(), server_default="", nullable=False),
        sa.Column("asked_again", sa.Integer(), server_default="0", nullable=False),
        sa.Column("prepared", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("prepare_started_at", sa.DateTime(timezone=True)),
        sa.Column("prepare_ended_at", sa.DateTime(timezone=True)),
        sa.Column("reserved_usd", sa.Double()),
        _of_requirement("runs"),
        sa.PrimaryKeyConstraint("run_id", name="runs_pkey"),
    )
    op.create_index("runs_number_index", "runs", ["number"])
    op.create_index(
        "runs_by_session", "runs", ["session"], postgresql_where=sa.text("session <> ''")
    )
    op.create_index(
        "runs_reserving", "runs", ["number"], postgresql_where=sa.text("reserved_usd IS NOT NULL")
    )


def _create_hosts() -> None:
    op.create_table(
        "hosts",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("configured", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("host", name="hosts_pkey"),
    )


def _create_gates() -> None:
    op.create_table(
        "gates",
        *_texts("gate_id", "number", "gate", "stage", "commit", "verdict"),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("log_reference", sa.Text(), server_default="", nullable=False),
        sa.Column("tree", sa.Text(), server_default="", nullable=False),
        sa.Column("clean", sa.Boolean()),
        sa.Column("steps", JSONB(), server_default="[]", nullable=False),
        sa.Column("evidence", JSONB()),
        _of_requirement("gates"),
        sa.PrimaryKeyConstraint("gate_id", name="gates_pkey"),
    )
    op.create_index("gates_number_index", "gates", ["number"])


def _create_failures() -> None:
    op.create_table(
        "failures",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        *_texts("stage", "kind", "gate"),
        sa.Column("owners", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        *_texts("error", "log_reference", "commit"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True)),
        _of_requirement("failures"),
        sa.PrimaryKeyConstraint("number", "round", "seq", name="failures_pkey"),
    )


def _create_blockers() -> None:
    op.create_table(
        "blockers",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("blocked_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True)),
        _of_requirement("blockers"),
        sa.PrimaryKeyConstraint("number", "round", "blocked_by", name="blockers_pkey"),
    )


def _create_fixes() -> None:
    op.create_table(
        "fixes",
        *_texts("number", "root"),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        *_texts("stage", "gate"),
        sa.Column("failure", JSONB(), nullable=False),
        _of_requirement("fixes"),
        sa.ForeignKeyConstraint(["root"], ["requirements.number"], name="fixes_root_fkey"),
        sa.PrimaryKeyConstraint("number", name="fixes_pkey"),
    )
    op.create_index("fixes_root_index", "fixes", ["root"])


def _create_escalations() -> None:
    op.create_table(
        "escalations",
        *_texts("number"),
        sa.Column("escalation", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("asks", JSONB(), nullable=False),
        sa.Column("answers", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reminders", sa.Integer(), server_default="0", nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True)),
        sa.Column("answer", sa.Text(), server_default="", nullable=False),
        sa.Column("who", sa.Text(), server_default="", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        _of_requirement("escalations"),
        sa.PrimaryKeyConstraint("number", "escalation", name="escalations_pkey"),
    )


def _create_line() -> None:
    line = op.create_table(
        "line",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("gate_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="line_pkey"),
    )
    op.bulk_insert(line, [{"id": 1, "gate_version": 1}])


def _create_installation() -> None:
    op.create_table(
        "installation",
        sa.Column("row", sa.Integer(), nullable=False),
        *_texts("id", "namespace_id", "namespace", "temporal_address"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bound_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("row", name="installation_pkey"),
    )


def _create_holds() -> None:
    op.create_table(
        "holds",
        *_texts("number", "boundary"),
        sa.Column("occurrence", sa.Integer(), nullable=False),
        sa.Column("held_by", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("gate_version", sa.BigInteger(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("account", sa.Text()),
        sa.Column("until", sa.DateTime(timezone=True)),
        sa.Column("budget", sa.Text()),
        _of_requirement("holds"),
        sa.PrimaryKeyConstraint("number", "boundary", "occurrence", name="holds_pkey"),
    )
    op.create_index("holds_open", "holds", ["number"], postgresql_where=sa.text("ended_at IS NULL"))


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        *_texts("account", "words"),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True)),
        sa.Column("pauses", sa.Integer(), nullable=False),
        sa.Column("trying", sa.Text()),
        sa.Column("tried_at", sa.DateTime(timezone=True)),
        sa.Column("needs_human", sa.Boolean(), nullable=False),
        *_texts("number"),
        _of_requirement("accounts"),
        sa.PrimaryKeyConstraint("account", name="accounts_pkey"),
    )


def _create_retries() -> None:
    op.create_table(
        "retries",
        *_texts("workflow_id", "activity_id", "number", "host", "step"),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        *_texts("error"),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("workflow_id", "activity_id", name="retries_pkey"),
    )
    op.create_index("retries_number_index", "retries", ["number"])


def _create_leftovers() -> None:
    op.create_table(
        "leftovers",
        *_texts("number", "workflow_run", "host", "reason"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="1", nullable=False),
        sa.Column("tried_at", sa.DateTime(timezone=True)),
        sa.Column("cleaned_at", sa.DateTime(timezone=True)),
        _of_requirement("leftovers"),
        sa.PrimaryKeyConstraint("number", name="leftovers_pkey"),
    )
    op.create_index(
        "leftovers_open", "leftovers", ["host"], postgresql_where=sa.text("cleaned_at IS NULL")
    )


def _create_delivery_turns() -> None:
    op.create_table(
        "delivery_turns",
        *_texts("number", "repository", "target_branch"),
        sa.Column("arrived_at", sa.DateTime(timezone=True)),
        sa.Column("taken_at", sa.DateTime(timezone=True)),
        sa.Column("left_at", sa.DateTime(timezone=True)),
        sa.Column("commit", sa.Text()),
        _of_requirement("delivery_turns"),
        sa.PrimaryKeyConstraint("number", name="delivery_turns_pkey"),
    )
    op.create_index(
        "delivery_turns_in_line",
        "delivery_turns",
        ["repository", "target_branch"],
        postgresql_where=sa.text("left_at IS NULL"),
    )
    op.create_index("delivery_turns_commit_index", "delivery_turns", ["commit"])


def _create_incidents() -> None:
    op.create_table(
        "incidents",
        *_texts("incident_id", "place", "kind", "component", "subject", "detail", "diagnosis"),
        sa.Column("actions", sa.ARRAY(sa.Text()), nullable=False),
        *_texts("end", "requirement"),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", name="incidents_pkey"),
    )
    op.create_index("incidents_by_time", "incidents", ["began_at"])


def _create_extensions() -> None:
    op.create_table(
        "extensions",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("deadline", sa.Interval(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("minutes", sa.Double(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        _of_requirement("extensions"),
        sa.PrimaryKeyConstraint("run_id", "deadline", name="extensions_pkey"),
    )


def _create_notes() -> None:
    op.create_table(
        "notes",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("answer", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("stages", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        _of_requirement("notes"),
        sa.PrimaryKeyConstraint("number", "answer", name="notes_pkey"),
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        *_texts("event_id", "number", "type", "subject"),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True)),
        _of_requirement("events"),
        sa.PrimaryKeyConstraint("id", name="events_pkey"),
        sa.UniqueConstraint("event_id", name="events_event_id_key"),
    )
    op.create_index("events_of_requirement", "events", ["number", "id"])
    op.create_index(
        "events_owed", "events", ["number", "id"], postgresql_where=sa.text("published_at IS NULL")
    )
    op.create_index(
        "events_asked",
        "events",
        ["type", "id"],
        postgresql_where=sa.text(
            "type IN ('account.escalation', 'budget.escalation', 'escalation.reminder')"
        ),
    )


def _create_costs() -> None:
    op.create_table(
        "costs",
        *_texts("run_id", "number", "agent"),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("usd", sa.Double()),
        sa.Column("tokens", sa.BigInteger()),
        sa.Column("input_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("output_tokens", sa.BigInteger()),
        sa.Column("account", sa.Text(), server_default="", nullable=False),
        sa.Column("models", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_estimated", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_partial", sa.Boolean(), server_default="false", nullable=False),
        _of_requirement("costs"),
        sa.PrimaryKeyConstraint("run_id", name="costs_pkey"),
    )
    op.create_index("costs_number_index", "costs", ["number"])
    op.create_index("costs_by_time", "costs", ["at"])


def _create_budgets() -> None:
    op.create_table(
        "budgets",
        *_texts("scope"),
        sa.Column("usd", sa.Double()),
        sa.Column("warn_usd", sa.Double()),
        sa.Column("warned_at", sa.DateTime(timezone=True)),
        sa.Column("asked_at", sa.DateTime(timezone=True)),
        sa.Column("who", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("scope", name="budgets_pkey"),
    )


def _of_requirement(table: str) -> sa.ForeignKeyConstraint:
    name = f"{table}_number_fkey"
    return sa.ForeignKeyConstraint(["number"], ["requirements.number"], name=name)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]
