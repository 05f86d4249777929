"""Accounts of agents' programs that cannot work now."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create their table, and let a hold name one."""
    op.create_table(
        "accounts",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True)),
        sa.Column("pauses", sa.Integer(), nullable=False),
        sa.Column("trying", sa.Text()),
        sa.Column("tried_at", sa.DateTime(timezone=True)),
        sa.Column("needs_human", sa.Boolean(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account", name="accounts_pkey"),
        sa.ForeignKeyConstraint(["number"], ["requirements.number"], name="accounts_number_fkey"),
    )
    op.add_column("holds", sa.Column("account", sa.Text()))
    op.add_column("holds", sa.Column("until", sa.DateTime(timezone=True)))
