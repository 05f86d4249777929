"""Hosts that tell that they live, and requirements that have moved from a lost one."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add both tables."""
    op.create_table(
        "beats",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("host", name="beats_pkey"),
    )
    op.create_table(
        "moves",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("lost", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("workflow_run", sa.Text(), nullable=False),
        sa.Column("head_commit", sa.Text()),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cleaned_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("number", "lost", name="moves_pkey"),
        sa.ForeignKeyConstraint(["number"], ["requirements.number"], name="moves_number_fkey"),
    )
    op.create_index(
        "moves_uncleaned", "moves", ["lost"], postgresql_where=sa.text("cleaned_at IS NULL")
    )
