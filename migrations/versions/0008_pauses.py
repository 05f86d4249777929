"""What humans have paused, and until when."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the table; before it nothing could be paused."""
    op.create_table(
        "pauses",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("ended_by", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pauses_pkey"),
    )
    op.create_index(
        "pauses_open",
        "pauses",
        ["scope"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
