"""Costs with their time and kind, marked where they are estimated; budgets."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns and the table; an earlier cost arose when its run ended."""
    for name in ("is_estimated", "is_partial"):
        op.add_column(
            "costs", sa.Column(name, sa.Boolean(), server_default="false", nullable=False)
        )
    op.add_column("costs", sa.Column("kind", sa.Text(), server_default="", nullable=False))
    op.add_column("costs", sa.Column("at", sa.DateTime(timezone=True)))
    op.execute(
        "UPDATE costs SET at = coalesce(runs.ended_at, runs.closed_at, runs.opened_at)"
        " FROM runs WHERE runs.run_id = costs.run_id"
    )
    op.execute("UPDATE costs SET at = now() WHERE at IS NULL")
    op.execute("UPDATE costs SET is_partial = true WHERE tokens > 0 AND usd IS NULL")
    op.alter_column("costs", "at", nullable=False)
    op.create_index("costs_by_time", "costs", ["at"])
    op.create_table(
        "budgets",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("usd", sa.Double()),
        sa.Column("warn_usd", sa.Double()),
        sa.Column("warned_at", sa.DateTime(timezone=True)),
        sa.Column("asked_at", sa.DateTime(timezone=True)),
        sa.Column("who", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("scope", name="budgets_pkey"),
    )
    op.add_column("runs", sa.Column("reserved_usd", sa.Double()))
    op.create_index(
        "runs_by_session", "runs", ["session"], postgresql_where=sa.text("session <> ''")
    )
    op.create_index(
        "runs_reserving", "runs", ["number"], postgresql_where=sa.text("reserved_usd IS NOT NULL")
    )
    op.add_column("holds", sa.Column("budget", sa.Text()))
