"""What the programs of agents tell of their runs: session, ending, tokens, account, models."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; of earlier runs nothing was told."""
    for name in ("session", "ending"):
        op.add_column("runs", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column(
        "runs", sa.Column("asked_again", sa.Integer(), server_default="0", nullable=False)
    )
    for name in ("input_tokens", "cached_tokens", "output_tokens"):
        op.add_column("costs", sa.Column(name, sa.BigInteger()))
    op.add_column("costs", sa.Column("account", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "costs", sa.Column("models", sa.ARRAY(sa.Text()), server_default="{}", nullable=False)
    )
