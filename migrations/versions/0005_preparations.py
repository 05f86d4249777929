"""When the clone of a run's agent was prepared, and for which builds."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns; of earlier runs no clone was prepared."""
    op.add_column(
        "runs", sa.Column("prepared", sa.ARRAY(sa.Text()), server_default="{}", nullable=False)
    )
    for name in ("prepare_started_at", "prepare_ended_at"):
        op.add_column("runs", sa.Column(name, sa.DateTime(timezone=True)))
